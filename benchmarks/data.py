"""Batches of random numbers: how long an update takes does not depend on what is learned."""

import numpy as np

from bmrl.batch_rl.replay import Episodes, Replay
from bmrl.types import Spec

HALFCHEETAH, POINT_GOAL = Spec(17, 6), Spec(2, 2)


def random_replay(mdps: int, transitions: int, spec: Spec, horizon: int) -> Replay:
    """So many logs in memory, each of so many transitions."""

    def log(k: int) -> Episodes:
        rng, ends = np.random.default_rng(k), np.arange(horizon, transitions + 1, horizon)
        return Episodes(
            rng.standard_normal((transitions + len(ends), spec.observation_dim), np.float32),
            rng.uniform(-1, 1, (transitions, spec.action_dim)).astype(np.float32),
            rng.standard_normal(transitions, np.float32),
            np.zeros(transitions, bool),
            ends,
        )

    return Replay(tuple(log(k) for k in range(mdps)))
