"""Test episodes: where they end, and what counts of them."""

import gymnasium
import numpy as np

from bmrl.evaluate.agents import FixedAgent
from bmrl.evaluate.evaluate import evaluate, rows_of
from bmrl.evaluate.rollout import run_episodes
from bmrl.families import FAMILIES, GymnasiumFamily


class Cut(gymnasium.Env):
    """Pays 1 a step, says "truncated" at its third, and is never to be asked again."""

    observation_space = gymnasium.spaces.Box(0, 9, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, x):
        self.time = 0

    def reset(self, *, seed=None, options=None):
        self.time = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        assert self.time < 3
        self.time += 1
        return np.full(1, self.time, np.float32), 1.0, False, self.time == 3, {}


def test_an_episode_ends_where_the_environment_cuts_it():
    mdp = {"x": 0.5}
    family = GymnasiumFamily("cut", {"x": (0.0, 1.0)}, ({"x": 0.1},), (), (mdp,), 20, 1, 1, Cut)
    found = evaluate(family, [mdp], FixedAgent(1, uniform=False), 2, 0)
    (row,) = rows_of(family, [mdp], found, method="m", variant="", split="test", seed=0, context="none")
    assert (row["return_mean"], row["length_mean"], row["episodes"], row["invalid_episodes"]) == (3, 3, 2, 0)


def test_what_comes_after_the_end_does_not_count():
    family = FAMILIES["hopper-velocity"]
    mdps = list(family.test_mdps()) * 2
    found = run_episodes(family, mdps, FixedAgent(family.action_dim, uniform=True), 0)
    after = np.arange(found.rewards.shape[1]) >= found.lengths[:, None]
    assert after.any() and found.valid.all()
    assert not found.rewards[after].any() and not found.infos["x_velocity"][after].any()
    assert (found.infos["x_velocity"][~after] != 0).all()
