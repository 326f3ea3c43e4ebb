import dataclasses

import jax
import numpy as np
import pytest
from batch_rl import toys
from distill import toy

from bmrl.distill.virtual import _evenly, between, virtual_replay
from bmrl.errors import BmrlError

LINE = np.abs(np.subtract.outer([0.0, 5.0, 1.0], [0.0, 5.0, 1.0]))  # three MDPs at 0, 5 and 1


def test_virtual_mdps_lie_where_neighbours_are_furthest_apart():
    assert between(LINE, 0) == []
    # 1 - 5 is 4 long and 0 - 1 is 1 long; 0 - 5 is no edge of the minimum spanning tree.
    found = between(LINE, 3)
    assert [{i, j} for i, j, _ in found] == [{1, 2}] * 3
    assert [share for *_, share in found] == [0.25, 0.5, 0.75]
    # Four parts of 1.0 and one of 1.0: the longest comes first, whichever it is; after five each edge has its share.
    both = between(LINE, 6)
    assert sorted(len([1 for i, j, _ in both if {i, j} == edge]) for edge in ({0, 2}, {1, 2})) == [1, 5]


def test_a_share_of_episodes_is_spread_over_the_whole_log():
    assert _evenly(10, 0.5).tolist() == [1, 3, 5, 7, 9]
    assert _evenly(10, 0.3).tolist() == [1, 5, 8]
    assert _evenly(3, 0.01).tolist() == [1]
    assert _evenly(4, 1.0).tolist() == [0, 1, 2, 3]


@pytest.fixture(scope="module")
def replay(tmp_path_factory):
    return toy.replay(tmp_path_factory.mktemp("batches"))


@pytest.fixture(scope="module")
def virtual(replay):
    return virtual_replay(replay, 3, dataclasses.replace(toy.REWARD_MODEL, hidden=(64, 64)), seed=0)


def fitted_goal(x, rewards):
    """The goal that explains rewards best, and the root mean square of what it leaves."""
    goals = np.linspace(-1, 1, 201)
    errors = np.sqrt(np.square(rewards + np.abs(x - goals[:, None])).mean(1))
    return goals[errors.argmin()], errors.min()


def test_virtual_mdps_pay_as_mdps_between_would(virtual):
    # Goals at -1, 0.2 and 1: the gap of 1.2 is halved before that of 0.8, and then parted again.
    for k, (one, other, share) in enumerate([(-1.0, 0.2, 1 / 3), (-1.0, 0.2, 2 / 3), (0.2, 1.0, 1 / 2)]):
        log = virtual.logs[k].take(np.arange(virtual.size[k]))
        x = log.next_observations[:, 0]
        goal, error = fitted_goal(x, log.rewards)
        assert goal == pytest.approx(one + share * (other - one), abs=0.15)
        # The mean of two MDPs' rewards is no reward of an MDP between them.
        assert error < 0.6 * fitted_goal(x, -(1 - share) * np.abs(x - one) - share * np.abs(x - other))[1]


def test_two_mdps_are_enough_to_lie_between(tmp_path):
    two = toys.replay(tmp_path, [toy.episodes(mdp) for mdp in (1, 2)])
    made = virtual_replay(two, 1, dataclasses.replace(toy.REWARD_MODEL, hidden=(64, 64)), seed=0)
    log = made.logs[0].take(np.arange(made.size[0]))
    goal, error = fitted_goal(log.next_observations[:, 0], log.rewards)
    assert goal == pytest.approx(0.6, abs=0.1) and error < 0.07  # that of the mean of two rewards is 0.136


def test_virtual_logs_are_whole_episodes_of_the_two_mdps_between_which_they_lie(replay, virtual):
    known = {}
    for k, log in enumerate(replay.logs):
        for episode in toys.episodes_of(log):
            known[episode.observations.tobytes()] = (k, episode)
    for log in virtual.logs:
        sources = []
        for episode in toys.episodes_of(log):
            k, logged = known[episode.observations.tobytes()]
            sources.append(k)
            jax.tree.map(np.testing.assert_array_equal, episode._replace(rewards=logged.rewards), logged)
            assert not np.array_equal(episode.rewards, logged.rewards)
            assert [x.dtype for x in episode] == [x.dtype for x in logged]
        assert len(set(sources)) == 2


def test_the_seed_decides(replay, virtual):
    short = dataclasses.replace(toy.REWARD_MODEL, updates=20)
    one, same, other = (virtual_replay(replay, 1, short, seed) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, one.logs, same.logs)
    assert not np.array_equal(one.logs[0].rewards, other.logs[0].rewards)


def test_what_cannot_be_made_is_refused(replay, tmp_path):
    moving = dataclasses.replace(toy.REWARD_MODEL, next_observations=True)
    with pytest.raises(BmrlError, match="next_observations"):
        virtual_replay(replay, 1, moving, seed=0)
    alone = toys.replay(tmp_path, [toy.episodes(0)])
    with pytest.raises(BmrlError, match="at least two"):
        virtual_replay(alone, 1, toy.REWARD_MODEL, seed=0)
