"""Trials: what every learner of phase 1 would earn in every train MDP, by rollouts in the learned model of them all.

Where MDPs differ in their transitions, the best learner for an MDP is often not its own: some learners found gaits
that suit many bodies, others hardly their own. It is model-based off-policy evaluation of K policies in K MDPs.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from bmrl import parallel
from bmrl.batch_rl.base import Algorithm
from bmrl.batch_rl.replay import Joined, Log, Replay, bounds_of, gone_through
from bmrl.distill.reward_model import RewardModel
from bmrl.errors import BmrlError
from bmrl.runs.progress import Progress

ROLLOUTS = 8  # of each learner in each MDP
HORIZON = 200  # steps


def trials(
    algorithm: Algorithm, states: Any, model: RewardModel, replay: Replay, seed: int
) -> Float[np.ndarray, "mdps learners"]:
    """The mean return of every learner in every MDP, from where the MDP's logged episodes begin.

    A rollout is as long as the longest logged episode, `HORIZON` steps at most. It does not end where an episode would:
    see `check_trials`. There are K^2 `ROLLOUTS` of them.

    Args:
        algorithm: the learners'.
        states: of K learners, [K, ...].
        model: of the K MDPs; it has to predict next observations.
        replay: the K logs. What the model predicts is kept within the observations that they hold.
        seed: of the first states, and of actions that are drawn.

    Raises:
        BmrlError: a return is not finite.
    """
    states, key = jax.device_put(states), parallel.learner_keys(seed, "trials", 1)[0]
    low, high = bounds_of(Joined(replay).visited())
    returns = _returns(algorithm, min(HORIZON, max(map(_longest_episode, replay.logs))))
    table = []
    with Progress("trials", len(replay)) as progress:
        for mdp, log in enumerate(replay.logs):
            drawn = np.random.default_rng([seed, mdp]).integers(0, log.size, ROLLOUTS)
            first = log.take(log.starts(drawn)).observations
            table.append(parallel.on_host(returns(states, model, first, mdp, low, high, key)))
            progress.update(mdp + 1)
    if not np.isfinite(table).all():
        raise BmrlError("trials: the model of the MDPs, or a learner, goes on to infinity: set trials=False")
    return np.stack(table)


def check_trials(replay: Replay, names: Sequence[str]) -> None:
    """Raises BmrlError for logs, called ``names``, in which episodes terminate: the model does not predict it."""
    for name, log in zip(names, replay.logs, strict=True):
        if any(t.terminations.any() for t in gone_through(log)):
            raise BmrlError(f"trials: episodes of {name} terminate, which the model does not predict: set trials=False")


def _longest_episode(log: Log) -> int:
    return int(np.unique(log.starts(np.arange(log.size)), return_counts=True)[1].max())


@functools.lru_cache(maxsize=4)
def _returns(algorithm: Algorithm, steps: int) -> Any:
    """The compiled program: mean returns [K] of K learners in one MDP, from the same first states."""

    def one(
        state: Any, model: RewardModel, first: Array, mdp: Array, low: Array, high: Array, key: Array
    ) -> Float[Array, ""]:
        mdp = jnp.full(len(first), mdp)

        def step(s: Array, key: Array) -> tuple[Array, Array]:
            rewards, s_next = model.foretell(s, algorithm.act(state, s, key), mdp)
            return jnp.clip(s_next, low, high), rewards

        _, rewards = jax.lax.scan(step, first, jax.random.split(key, steps))
        return rewards.sum(0).mean()

    return jax.jit(jax.vmap(one, in_axes=(0, *[None] * 6)))
