"""Shared logs: a learner of phase 1 also sees what was logged in other MDPs, paid as its own MDP would pay.

As the multi-task data sharing of Yu et al. (2021), "Conservative data sharing for multi-task offline reinforcement
learning", except that rewards come from a learned model, and that returns decide what is shared, not a critic.
"""

from collections.abc import Iterator

import numpy as np

from bmrl import parallel
from bmrl.batch_rl.replay import Episodes, Joined, Replay, best_of
from bmrl.batch_rl.teach import spec_of
from bmrl.distill.distill import data_statistics
from bmrl.distill.reward_model import RewardModelConfig, fit_reward_model, repaid
from bmrl.errors import BmrlError
from bmrl.runs.progress import Progress


def shared_episodes(replay: Replay, share: float, config: RewardModelConfig, seed: int) -> Iterator[Episodes]:
    """For each MDP in turn the best episodes of all K logs, as many as hold ``share`` of its own log's transitions.

    All MDPs must have the same transitions: an episode of another one is paid as this one would pay. It is considered
    if it is among the best of its own log, by the same share.

    Raises BmrlError for a reward model that predicts transitions, and for a share that is not in (0, 1].
    """
    if config.next_observations:
        raise BmrlError("logs can be shared by MDPs with the same transitions alone: next_observations is True")
    kept = [best_of(log, share) for log in replay.logs]
    inputs, key = data_statistics(replay)[1], parallel.learner_keys(seed, "shared", 1)[0]
    model, _ = fit_reward_model(replay, inputs, spec_of(replay), config, key)
    with Progress("share", len(replay)) as progress:
        for mdp, log in enumerate(replay.logs):
            paid = Joined(Replay(tuple(repaid(x, model, np.full(x.size, k), mdp) for k, x in enumerate(kept))))
            yield best_of(paid, share * log.size / paid.size)
            progress.update(mdp + 1)
