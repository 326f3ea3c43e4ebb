"""What a run's student becomes when it leaves: its bounds and scaling, and what it calls unlike the train MDPs."""

import logging
import subprocess
import sys

import numpy as np
import pytest
from runtime.students import KINDS, describe, make

from bmrl.batch_rl.replay import Replay, stack
from bmrl.data import read_batch, read_batches, write_batch
from bmrl.distill.contexts import ContextConfig
from bmrl.errors import BmrlError
from bmrl.policy import calibrated, student_arrays
from bmrl.policy import describe as described
from bmrl.runtime import Policy
from bmrl.scaling import action_bounds

PAID = (1.0, -1.0)  # in the two MDPs, whatever is done, and some noise


@pytest.fixture(scope="module")
def batches(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("batches"), np.random.default_rng(0)
    for k, paid in enumerate(PAID):
        write_batch(
            root / f"mdp-{k:03d}",
            observations=np.column_stack([rng.uniform(-2, 6, 1010), np.ones(1010), rng.normal(size=1010)]),
            actions=np.full((1000, 2), [0.5, -0.5 + k]),
            rewards=paid + 0.1 * rng.normal(size=1000),
            terminations=np.zeros(1000),
            truncations=np.arange(1, 1001) % 100 == 0,
            provenance={"actions": {"names": ["heat", "fan"], "low": [0.0, -1.0], "high": [40.0, 1.0]}},
        )
    return read_batches(root)


def test_bounds_scaling_and_fallback_are_those_of_the_batches(batches):
    student, _ = make(KINDS["candidates and corrections"])
    context = ContextConfig(5)
    found = described(student, context, batches, "default", ())
    low = min(b.observations[:, 0].min() for b in batches)
    high = max(b.observations[:, 0].max() for b in batches)
    margin = (high - low) / 2
    np.testing.assert_allclose([found.observation_low[0], found.observation_high[0]], [low - margin, high + margin])
    assert (found.observation_low[1], found.observation_high[1]) == (0.0, 2.0)  # constant: one beside it
    assert found.reward_low < -1.9 and found.reward_high > 1.9
    assert (found.action_low, found.action_high) == ([0.0, -1.0], [40.0, 1.0])
    np.testing.assert_allclose(found.fallback, [30.0, 0.0], atol=1e-6)  # the mean of .5, and of -.5 and .5
    assert (found.context_size, found.window, found.labels) == (5, False, True)
    assert described(student, context, batches, "default", (3.0, 0.25)).fallback == [3.0, 0.25]
    for fallback in ((41.0, 0.0), (1.0,), (np.nan, 0.0)):
        with pytest.raises(BmrlError, match="--fallback"):
            described(student, context, batches, "default", fallback)


def test_the_fallback_of_actions_at_their_bound_is_that_bound(tmp_path):
    write_batch(
        tmp_path / "mdp-000",
        observations=np.arange(12).reshape(4, 3),
        actions=np.ones((3, 1)),
        rewards=np.arange(3),
        terminations=np.zeros(3),
        truncations=[0, 0, 1],
        provenance={"actions": {"names": ["heat"], "low": [-30.0], "high": [28.9]}},  # as float32, 28.9 is less
    )
    student, _ = make(KINDS["candidates and corrections"])
    found = described(student, ContextConfig(5), read_batches(tmp_path), "default", ())
    assert found.fallback == found.action_high


def test_where_no_episode_has_two_transitions_every_mdp_is_familiar(batches, caplog):
    student, _ = make(KINDS["candidates and corrections"])
    known = described(student, ContextConfig(5), batches, "default", ())
    single = [log._replace(ends=np.arange(1, log.size + 1)) for log in stack(batches).logs]
    single = [x._replace(observations=np.repeat(x.observations, 2, axis=0)[: 2 * x.size]) for x in single]
    found = calibrated(known, student_arrays(student), Replay(tuple(single)))
    assert found == known and "takes every MDP for familiar" in caplog.text


def test_batches_that_scale_actions_differently_are_refused(batches, tmp_path):
    write_batch(
        tmp_path / "mdp-002",
        **{name: getattr(batches[0], name) for name in ("observations", "actions", "rewards", "terminations")},
        truncations=batches[0].truncations,
        provenance={"seed": 0},
    )
    other = read_batch(tmp_path / "mdp-002")
    np.testing.assert_array_equal(action_bounds([other]), [[-1, -1], [1, 1]])
    with pytest.raises(BmrlError, match="mdp-000 and mdp-002 scale actions differently"):
        action_bounds([batches[0], other])


def told_by_the_reward():
    """A policy of two MDPs: its f sees the reward's sign, its P says 1 in the first and -1 in the second."""
    student, _ = make(KINDS["a value alone"])
    arrays = {name: np.zeros_like(x) for name, x in student_arrays(student).items()}
    arrays = {name: x + name.endswith("scale") for name, x in arrays.items()}
    arrays = {name: x for name, x in arrays.items() if not name.startswith(("encoder", "prediction"))}
    evidence = np.zeros((9, 2), np.float32)
    evidence[5] = 5, -5  # of the reward, which comes after 3 observations and 2 actions
    arrays |= {"encoder.0.weight": evidence, "encoder.0.bias": np.zeros(2, np.float32)}
    arrays["embeddings"] = np.array([[1, 0, 0, 0, 0], [-1, 0, 0, 0, 0]], np.float32)
    first = np.eye(9, 1, -4, np.float32)  # of the identity, after the 4 of E
    arrays |= {"prediction.0.weight": first, "prediction.0.bias": np.zeros(1, np.float32)}
    return describe(student, action_low=[0.0, -1.0], action_high=[40.0, 1.0], fallback=[0.0, 0.0]), arrays


def test_an_mdp_unlike_all_trained_on_is_told(batches, caplog):
    description, arrays = told_by_the_reward()
    description = calibrated(description, arrays, stack(batches))
    np.testing.assert_allclose(description.residuals, [0.1], rtol=0.05)  # the noise
    # A running mean of 16 squares of standard normals; its quantile by simulation.
    squares, mean, expected = np.random.default_rng(1).normal(size=(47, 100_000)) ** 2, 0.0, []
    for count, square in enumerate(squares):
        mean = mean + (square - mean) / min(count + 1, 16)
        expected.append(np.quantile(mean, 0.999))
    assert len(description.misfit_limits) == 47
    np.testing.assert_allclose(description.misfit_limits, expected, rtol=0.35)

    policy, rng = Policy(description, arrays), np.random.default_rng(2)
    state, flags = policy.start(4), []
    assert policy.familiar(state).all()
    s, a = np.zeros((4, 3)), np.zeros((4, 2))
    with caplog.at_level(logging.WARNING, "bmrl.runtime"):
        for _ in range(60):
            paid = np.array([1.0, -1.0, 1.6, 0.2]) + 0.1 * rng.normal(size=4)
            state = policy.observe(state, s, a, paid, s)
            flags.append(policy.familiar(state))
    flags = np.array(flags)
    assert flags[0].all()  # of the first transition nothing is foretold
    assert flags[:, :2].mean() > 0.97
    assert not flags[2:, 2:].any()
    assert "MDP 2, 3: unlike all that this policy was trained on" in caplog.text
    log = {"observations": s, "actions": a, "next_observations": s}
    logs = policy.warm_start(log | {"rewards": np.ones(4)}, log | {"rewards": np.full(4, 1.6)})
    assert policy.familiar(logs).tolist() == [True, False]
    np.testing.assert_allclose(policy.identity(logs)[:, 0], [1, 1], atol=1e-3)  # for it is nearest to the first


def test_the_command_draws_nothing(tmp_path):
    """Matplotlib takes longer to import than all that export needs."""
    code = f"""
import sys
from bmrl.cli import main
sys.argv = ["bmrl", "policy", "export", {str(tmp_path / "none")!r}, "--out", {str(tmp_path / "policy")!r}]
try:
    main()
finally:
    assert "matplotlib" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and "holds no run" in done.stderr
