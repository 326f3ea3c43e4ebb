"""Stacked arrays whose episodes are filled up to the length of the longest."""

import numpy as np
import pytest

from bmrl.data.suggest import suggest
from bmrl.errors import BmrlError
from tests.data.logs import run

LENGTHS = np.array([8, 3, 5, 8, 2])
STACKED = """
observations = "observations"
actions = "actions"
rewards = "rewards"
terminations = "none"
outcome_of = "this action"
axes = "episode, time"
"""


def save(place, more):
    """Episodes of ``LENGTHS`` steps, each with as many observations and ``more``; zeros behind them."""
    rng, longest = np.random.default_rng(0), LENGTHS.max()
    mask = np.arange(longest) < LENGTHS[:, None]
    seen = np.arange(longest + more) < LENGTHS[:, None] + more
    data = {
        "observations": rng.normal(size=(5, longest + more, 3)).astype(np.float32) * seen[..., None],
        "actions": rng.uniform(-1, 1, (5, longest, 1)).astype(np.float32) * mask[..., None],
        "rewards": rng.normal(size=(5, longest)).astype(np.float32) * mask,
    }
    np.savez(place / "log.npz", mask=mask, **data)
    return data


@pytest.mark.parametrize("more", [0, 1])
def test_no_transition_leads_into_padding(tmp_path, more):
    """Without the observation after the last step, that step's transition is not in the log."""
    data = save(tmp_path, more)
    imported, (batch,) = run(tmp_path, STACKED + 'padding = "not mask"')
    transitions = LENGTHS - 1 + more
    assert (batch.episode_ends - batch.episode_starts).tolist() == transitions.tolist()
    rows = [x[: n + 1] for x, n in zip(data["observations"], transitions, strict=True)]
    np.testing.assert_array_equal(batch.observations, np.concatenate(rows))
    paid = [x[:n] for x, n in zip(data["rewards"], transitions, strict=True)]
    np.testing.assert_array_equal(batch.rewards, np.concatenate(paid))
    counts = imported.mdps["log"]
    assert counts["rows"] == 5 * (8 + more) == counts["transitions"] + counts["observations"] + counts["unused"]


def test_padding_that_nobody_told_of_is_refused(tmp_path):
    save(tmp_path, 0)
    with pytest.raises(
        BmrlError, match=r"no line 'padding'\): .*log.npz, episode 1, step 6: from here .* \"not mask\""
    ):
        run(tmp_path, STACKED)
    _, (batch,) = run(tmp_path, STACKED + 'padding = "none"')
    assert batch.size == 35


def test_the_draft_names_the_mask(tmp_path):
    save(tmp_path, 0)
    assert 'padding = "not mask"' in suggest(str(tmp_path / "log.npz"))
