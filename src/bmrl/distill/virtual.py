"""Virtual MDPs: where train MDPs are few, logs of MDPs between them, made of theirs by the reward model.

As in the latent dynamics mixture of Lee & Chung (2021), "Improving generalization in meta-RL with imaginary tasks from
latent dynamics mixture", but from logged data alone.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.sparse.csgraph import minimum_spanning_tree

from bmrl import parallel
from bmrl.batch_rl.replay import Episodes, Joined, Replay, select
from bmrl.batch_rl.teach import spec_of
from bmrl.distill.distill import data_statistics
from bmrl.distill.reward_model import RewardModel, RewardModelConfig, fit_reward_model, repaid
from bmrl.errors import BmrlError

SAMPLE = 256  # transitions of each MDP by which two MDPs are compared


def virtual_replay(replay: Replay, count: int, config: RewardModelConfig, seed: int) -> Replay:
    """Logs of ``count`` MDPs between those of ``replay``, which must differ in their rewards alone.

    A virtual MDP lies on the way from one train MDP to another (see `between`): the reward model is told an embedding
    between theirs. Its log is made of whole episodes of these two, more of the nearer one's, paid as it would pay.

    Raises BmrlError for a reward model that predicts transitions, and for a single train MDP.
    """
    if config.next_observations:
        raise BmrlError("virtual MDPs have the transitions of those between which they lie: next_observations is True")
    if len(replay) < 2:
        raise BmrlError("virtual MDPs lie between train MDPs: at least two are needed")
    inputs, key = data_statistics(replay)[1], parallel.learner_keys(seed, "virtual", 1)[0]
    model, _ = fit_reward_model(replay, inputs, spec_of(replay), config, key)
    return Replay(tuple(_log(replay, model, *place) for place in between(distances(replay, model), count)))


def distances(replay: Replay, model: RewardModel) -> Float[np.ndarray, "mdps mdps"]:
    """How differently two MDPs pay: the root mean square over transitions evenly spread over all logs."""
    samples = [log.take(np.linspace(0, log.size - 1, SAMPLE).astype(int)) for log in replay.logs]
    known, _ = model.split(jax.tree.map(lambda *x: jnp.concatenate(x), *samples))
    paid = np.stack([model(known, jnp.full(len(known), k))[:, 0] for k in range(len(replay))])
    return np.sqrt(np.square(paid[:, None] - paid[None]).mean(-1))


def between(distances: Float[np.ndarray, "mdps mdps"], count: int) -> list[tuple[int, int, float]]:
    """Where ``count`` virtual MDPs lie: (i, j, share of the way from i to j), on a minimum spanning tree of all MDPs.

    One after the other is added to the edge on which neighbours are furthest apart; they part an edge evenly.
    """
    tree = minimum_spanning_tree(distances).tocoo()
    parts = np.ones(len(tree.data), int)
    for _ in range(count):
        parts[(tree.data / parts).argmax()] += 1
    edges = sorted(zip(tree.row.tolist(), tree.col.tolist(), parts.tolist(), strict=True))
    return [(i, j, part / parts) for i, j, parts in edges for part in range(1, parts)]


def _log(replay: Replay, model: RewardModel, one: int, other: int, share: float) -> Episodes:
    """The log of the MDP that lies ``share`` of the way from train MDP ``one`` to ``other``."""
    parts = Replay(
        tuple(
            select(replay.logs[k], functools.partial(_evenly, share=amount))
            for k, amount in ((one, 1 - share), (other, share))
        )
    )
    log = select(Joined(parts), np.arange)
    source = np.repeat([one, other], parts.size)
    train = model.embeddings
    embedding = (1 - share) * train[one] + share * train[other]
    model = eqx.tree_at(lambda m: m.embeddings, model, jnp.concatenate([train, embedding[None]]))
    return repaid(log, model, source, len(train))


def _evenly(episodes: int, share: float) -> np.ndarray:
    """A share of an MDP's episodes, at least one, evenly spread over the time in which they were logged."""
    count = max(1, round(share * episodes))
    return np.floor((np.arange(count) + 0.5) * episodes / count).astype(int)
