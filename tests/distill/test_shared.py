from dataclasses import replace

import jax
import numpy as np
import pytest
from batch_rl import toys
from distill import toy

from bmrl.batch_rl import BCQ
from bmrl.batch_rl.replay import Replay, best_episodes
from bmrl.batch_rl.teach import TeachConfig
from bmrl.distill.shared import CONSIDERED, shared_episodes
from bmrl.errors import BmrlError

MODEL = replace(toy.REWARD_MODEL, hidden=(64, 64))


@pytest.fixture(scope="module")
def replay(tmp_path_factory):
    return toy.replay(tmp_path_factory.mktemp("batches"))


def taught(best, logs="shared"):
    return TeachConfig(BCQ(), 1, best, logs)


@pytest.fixture(scope="module", params=[0.6, 0.3])
def share(request):
    return request.param


@pytest.fixture(scope="module")
def shared(replay, share):
    return Replay(tuple(shared_episodes(replay, taught(share), MODEL, 0)))


def test_every_mdp_has_the_episodes_that_are_best_for_it_paid_as_it_pays(replay, share, shared):
    """Their rewards are -|x - goal|: what every episode would have earned in every MDP is known."""
    known = [(k, e) for k, log in enumerate(best_episodes(replay, CONSIDERED).logs) for e in toys.episodes_of(log)]
    sources = {episode.observations.tobytes(): k for k, episode in known}
    for mdp, log in enumerate(shared.logs):
        assert share * replay.size[mdp] <= log.size < share * replay.size[mdp] + 5  # the last episode is whole
        found = toys.episodes_of(log)
        earned = [toy.reward(e.next_observations[:, 0], mdp).sum() for e in found]
        paid = [e.rewards.sum() for e in found]
        assert np.abs(np.subtract(earned, paid)).max() < 0.15
        best = sorted((toy.reward(e.next_observations[:, 0], mdp).sum() for _, e in known), reverse=True)
        assert sum(earned) > sum(best[: len(found)]) - 0.02 * len(found)
        assert len({sources[e.observations.tobytes()] for e in found}) > 1


def test_nothing_but_the_reward_of_another_mdp_is_changed(replay, shared):
    known = {e.observations.tobytes(): (k, e) for k, log in enumerate(replay.logs) for e in toys.episodes_of(log)}
    for mdp, log in enumerate(shared.logs):
        for episode in toys.episodes_of(log):
            k, logged = known[episode.observations.tobytes()]
            jax.tree.map(np.testing.assert_array_equal, episode._replace(rewards=logged.rewards), logged)
            assert np.array_equal(episode.rewards, logged.rewards) == (k == mdp)
            assert [x.dtype for x in episode] == [x.dtype for x in logged]


def test_both_is_the_best_of_ones_own_log_as_logged_and_what_is_shared(replay, share, shared):
    both = shared_episodes(replay, taught(share, "both"), MODEL, 0)
    for log, own, others in zip(both, best_episodes(replay, share).logs, shared.logs, strict=True):
        expected = [*toys.episodes_of(own), *toys.episodes_of(others)]
        jax.tree.map(np.testing.assert_array_equal, toys.episodes_of(log), expected)


def test_few_logs_share_what_they_have(replay):
    """The best of two logs are fewer transitions than a whole log has."""
    two = replay.of([0, 1])
    considered = best_episodes(two, CONSIDERED).size.sum()
    found = list(shared_episodes(two, taught(1.0), replace(MODEL, updates=1), 0))
    assert [log.size for log in found] == [considered, considered] and considered < min(two.size)


def test_what_cannot_be_shared_is_refused(replay):
    with pytest.raises(BmrlError, match="same transitions alone"):
        list(shared_episodes(replay, taught(1), replace(MODEL, next_observations=True), 0))
    for share in (0, -0.5, 1.5):
        with pytest.raises(BmrlError, match=f"share of the best episodes is {share}"):
            list(shared_episodes(replay, taught(share), MODEL, 0))
