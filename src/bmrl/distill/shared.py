"""Shared logs: a learner of phase 1 also sees what was logged in other MDPs, paid as its own MDP would pay.

As the multi-task data sharing of Yu et al. (2021), "Conservative data sharing for multi-task offline reinforcement
learning", except that rewards come from a learned model, and that returns decide what is shared, not a critic.
"""

from collections.abc import Iterable

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from bmrl import parallel
from bmrl.batch_rl.replay import Episodes, Log, Replay, best_episodes, gone_through, pool, select
from bmrl.batch_rl.teach import spec_of
from bmrl.distill.distill import data_statistics
from bmrl.distill.reward_model import RewardModel, RewardModelConfig, fit_reward_model
from bmrl.errors import BmrlError
from bmrl.runs.progress import Progress


def shared_episodes(replay: Replay, share: float, config: RewardModelConfig, seed: int, mdps: Iterable[int]) -> Replay:
    """For each of ``mdps`` the best episodes of all K logs, as many as hold ``share`` of its own log's transitions.

    All MDPs must have the same transitions: an episode of another one is paid as this one would pay. It is considered
    if it is among the best of its own log, by the same share.

    Raises BmrlError for a reward model that predicts transitions, and for a share that is not in (0, 1].
    """
    if config.next_observations:
        raise BmrlError("logs can be shared by MDPs with the same transitions alone: next_observations is True")
    inputs, key = data_statistics(replay)[1], parallel.learner_keys(seed, "shared", 1)[0]
    model, _ = fit_reward_model(replay, inputs, spec_of(replay), config, key)
    kept = [select(log, np.arange) for log in best_episodes(replay, share).logs]
    wanted, found = list(mdps), list[Log]()
    with Progress("share", len(wanted)) as progress:
        for mdp in wanted:
            paid = pool(Replay(tuple(_paid(log, model, k, mdp) for k, log in enumerate(kept))))
            found += best_episodes(paid, share * replay.logs[mdp].size / paid.logs[0].size).logs
            progress.update(len(found))
    return Replay(tuple(found))


def _paid(log: Episodes, model: RewardModel, source: int, target: int) -> Episodes:
    """The log of MDP ``source``, paid as ``target`` would pay."""
    rewards = []
    for part in gone_through(log):
        where, here = jnp.full(len(part.rewards), source), jnp.full(len(part.rewards), target)
        rewards.append(parallel.on_host(_relabel(model, part, where, here).rewards))
    return log._replace(rewards=np.concatenate(rewards))


_relabel = eqx.filter_jit(RewardModel.relabel)
