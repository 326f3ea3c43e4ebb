"""Shared logs: a learner of phase 1 also sees what was logged in other MDPs, paid as its own MDP would pay.

As the multi-task data sharing of Yu et al. (2021), "Conservative data sharing for multi-task offline reinforcement
learning", except that rewards come from a learned model, and that returns decide what is shared, not a critic.
"""

from collections.abc import Iterator

import numpy as np

from bmrl import parallel
from bmrl.batch_rl.replay import Episodes, Joined, Replay, best_of, check_share, select
from bmrl.batch_rl.teach import TeachConfig, spec_of
from bmrl.distill.distill import data_statistics
from bmrl.distill.reward_model import RewardModelConfig, fit_reward_model, repaid
from bmrl.errors import BmrlError
from bmrl.runs.progress import Progress

CONSIDERED = 0.3  # of each log: an episode is shared only if it is among its best ones, as many as hold this share


def shared_episodes(
    replay: Replay, teach: TeachConfig, reward_model: RewardModelConfig, seed: int
) -> Iterator[Episodes]:
    """For each MDP in turn the best episodes of all K logs, as many as hold the share ``teach.best`` of its own log.

    They are fewer where all that is considered is less (K of 3 and below). Where ``teach.logs`` is "both", that share
    of its own log comes first, as logged; its own best episodes can then be there twice. All MDPs must have the same
    transitions: an episode of another one is paid as this one would pay.

    Raises BmrlError for a reward model that predicts transitions, and for a share that is not in (0, 1].
    """
    check_share(teach.best)
    if reward_model.next_observations:
        raise BmrlError("logs can be shared by MDPs with the same transitions alone: next_observations is True")
    considered = [best_of(log, CONSIDERED) for log in replay.logs]
    inputs, key = data_statistics(replay)[1], parallel.learner_keys(seed, "shared", 1)[0]
    model, _ = fit_reward_model(replay, inputs, spec_of(replay), reward_model, key)
    with Progress("share", len(replay)) as progress:
        for mdp, log in enumerate(replay.logs):
            paid = Joined(Replay(tuple(repaid(x, model, np.full(x.size, k), mdp) for k, x in enumerate(considered))))
            shared = best_of(paid, min(1.0, teach.best * log.size / paid.size))
            if teach.logs == "both":
                shared = select(Joined(Replay((best_of(log, teach.best), shared))), np.arange)
            yield shared
            progress.update(mdp + 1)
