"""Over-estimation where states, estimates and returns are known by formula."""

import jax
import numpy as np
import pytest

from bmrl.evaluate.agents import FixedAgent
from bmrl.evaluate.overestimation import monte_carlo, overestimation, take_snapshot
from bmrl.evaluate.rollout import run_episodes
from bmrl.families import get_family
from bmrl.families.point_goal import PointGoalSimulator, goals

MOVES = np.array([[0.5, 0.0], [0.0, 0.25], [-0.125, 0.5]], np.float32)  # exact in float32
KEY = jax.random.PRNGKey(0)
STEPS, STATES = 30, 6  # past point-goal's horizon of 20


class Walker:
    """Makes the three moves in turn; remembers how many it has made, and its value tells."""

    def start(self, n):
        return np.zeros(n, int)

    def act(self, memory, observations, key):
        return MOVES[memory % 3]

    def observe(self, memory, transition):
        return memory + 1

    def identity(self, memory):
        return None

    def values(self, memory, observations, actions):
        return memory + 0.001 * observations[:, 0] + 0.1 * actions[:, 0]


def known_return(t, first, goal):
    """Of `first` after t of the walker's moves, followed by its later ones."""
    position = MOVES[np.arange(t) % 3].sum(0)
    moves = np.concatenate([[first], MOVES[np.arange(t + 1, t + STEPS) % 3]])
    distances = np.linalg.norm(position + moves.cumsum(0) - goal, axis=-1)
    return -(0.99 ** np.arange(STEPS) * distances).sum()


def test_returns_start_from_the_states_of_the_estimates():
    family = get_family("point-goal")
    mdps, agent = family.test_mdps()[:2], Walker()
    proposers = {"walker": agent, "still": FixedAgent(2, uniform=False)}
    rows = overestimation(family, mdps, agent, proposers, STATES, STEPS, seed=3)
    assert [(row["mdp"], row["actions"]) for row in rows] == [(mdp, name) for mdp in mdps for name in proposers]
    for own, still in zip(rows[::2], rows[1::2], strict=True):
        times = np.floor(np.array(still["estimates"]) + 0.1).astype(int)
        assert len(times) == STATES
        assert times.max() < family.horizon
        assert len(set(times)) > 2
        goal = goals(own["mdp"]["goal_angle"])
        for row, first in ((own, MOVES[times % 3]), (still, np.zeros((STATES, 2)))):
            positions = np.array([MOVES[np.arange(t) % 3].sum(0) for t in times])
            np.testing.assert_allclose(row["estimates"], times + 0.001 * positions[:, 0] + 0.1 * first[:, 0], rtol=1e-6)
            expected = [known_return(t, a, goal) for t, a in zip(times, first, strict=True)]
            np.testing.assert_allclose(row["returns"], expected, rtol=1e-5)


def test_states_come_from_all_over_the_episode():
    family = get_family("point-goal")
    rows = overestimation(family, family.test_mdps()[:1], Walker(), {"still": FixedAgent(2, uniform=False)}, 400, 1, 0)
    times = np.floor(np.array(rows[0]["estimates"]) + 0.1)
    assert set(times) == set(range(family.horizon))


def test_a_state_that_is_unstable_after_one_action_is_left_out_of_all(monkeypatch):
    advance = PointGoalSimulator._advance

    def unstable(simulator, actions):
        terminations, cut, _ = advance(simulator, actions)
        still = (actions == 0).all(-1) & (np.arange(simulator.n) == 2)
        return terminations, cut, {"invalid": still.astype(np.float32)}

    monkeypatch.setattr(PointGoalSimulator, "_advance", unstable)
    family, agent = get_family("point-goal"), Walker()
    proposers = {"still": FixedAgent(2, uniform=False), "walker": agent}
    rows = overestimation(family, family.test_mdps()[:2], agent, proposers, STATES, STEPS, seed=0)
    assert [len(row["estimates"]) for row in rows] == [STATES - 1] * 2 + [STATES] * 2
    assert [len(row["returns"]) for row in rows] == [STATES - 1] * 2 + [STATES] * 2


@pytest.fixture(scope="module")
def falls():
    """Hoppers that do nothing, until they fall."""
    family = get_family("hopper-velocity")
    mdps = family.test_mdps()
    episodes = run_episodes(family, mdps, FixedAgent(3, uniform=False), seed=5)
    assert episodes.lengths.max() < family.horizon
    return family, mdps, episodes


def test_nothing_is_earned_after_a_fall(falls):
    family, mdps, episodes = falls
    simulator, agent = family.simulator(mdps, 5), FixedAgent(3, uniform=False)
    start = take_snapshot(simulator, agent, np.array([0, 20, 20]), KEY)
    returns, valid = monte_carlo(simulator, agent, start, np.zeros((3, 3)), family.horizon, KEY)
    assert valid.all()
    for i, t in enumerate([0, 20, 20]):
        rewards = episodes.rewards[i, t : episodes.lengths[i]]
        np.testing.assert_allclose(returns[i], (0.99 ** np.arange(len(rewards)) * rewards).sum(), rtol=1e-5)


def test_an_episode_that_is_over_is_taken_at_its_last_step(falls):
    family, mdps, episodes = falls
    start = take_snapshot(family.simulator(mdps, 5), FixedAgent(3, uniform=False), np.array([999, 10, 999]), KEY)
    before = [episodes.lengths[0] - 1, 10, episodes.lengths[2] - 1]
    np.testing.assert_array_equal(start.observations, episodes.observations[np.arange(3), before])
