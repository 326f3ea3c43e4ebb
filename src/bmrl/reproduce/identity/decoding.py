"""The MDP's parameter read off the identity, and contexts drawn from logs to learn how."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from bmrl.batch_rl.replay import Replay
from bmrl.distill.student import Student
from bmrl.networks.set_encoder import Evidence
from bmrl.types import Transition

CONTEXTS = 200  # contexts of each train MDP that the regression is fitted on
PENALTY = 1e-4  # of the ridge regression, a share of the number of contexts


def ridge(x: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Linear regression of y [n] on x [n, d] with a small penalty on the weights: a map [..., d] -> [...].

    The columns of x are standardised first; one that is constant has no weight.
    """
    mean, scale = x.mean(0), x.std(0)
    scale = np.where(scale > 1e-6, scale, 1.0)
    z = (x - mean) / scale
    weights = np.linalg.solve(z.T @ z + PENALTY * len(z) * np.eye(z.shape[1]), z.T @ (y - y.mean()))
    return lambda other: y.mean() + ((other - mean) / scale) @ weights


def draw_contexts(
    replay: Replay, mdp: int, rng: np.random.Generator, count: int, size: int, prefix: bool
) -> tuple[Transition, np.ndarray]:
    """``count`` contexts of ``size`` out of one of K logs: transitions [count, size, ...], and which of them count.

    A prefix is the first transitions of a logged episode, at most as many as it has; else they are random ones.
    """
    log = replay.logs[mdp]
    n = log.size
    index = rng.integers(0, n, (count, size))
    mask = np.ones((count, size), bool)
    if prefix:
        first = log.starts(index[:, :1])
        index = np.minimum(first + np.arange(size), n - 1)
        mask = (log.starts(index) == first) & (first + np.arange(size) < n)
    return log.take(index), mask


def evidence_of(student: Student, context: Transition, mask: np.ndarray, most: int) -> Evidence:
    """What f makes of contexts [n, size, ...], which count as at most ``most`` transitions."""
    return _evidence(student, jax.tree.map(jnp.asarray, context), jnp.asarray(mask)).at_most(most)


@jax.jit
def _evidence(student: Student, context: Transition, mask: jax.Array) -> Evidence:
    return student.encoder.evidence(context, mask)


def decoder(
    student: Student, most: int, replay: Replay, velocities: np.ndarray, seed: int
) -> Callable[[np.ndarray], np.ndarray]:
    """Identities [..., d_m] -> velocities [...], by regression on contexts of the train MDPs.

    Their sizes are uniform in 1 ... ``most``, one half are random transitions, the other prefixes of episodes.
    """
    rng, identities, known = np.random.default_rng(seed), [], []
    for k, velocity in enumerate(velocities):
        for prefix in (False, True):
            context, mask = draw_contexts(replay, k, rng, CONTEXTS // 2, most, prefix)
            mask &= np.arange(most) < rng.integers(1, most + 1, (len(mask), 1))
            identities.append(student.encoder.identity(evidence_of(student, context, mask, most)))
            known.append(np.full(len(mask), velocity))
    return ridge(np.concatenate(identities).astype(float), np.concatenate(known))


def posterior_mean(student: Student, velocities: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Identities [..., d_m] -> the mean velocity under the posterior over the train MDPs [K] that they stand for.

    The identity is the posterior mean of the embeddings, which are linearly independent where d_m >= K: then the
    linear map that takes every embedding to its velocity takes the identity to the posterior's mean velocity.
    """
    weights = np.linalg.pinv(np.asarray(student.encoder.embeddings, np.float64)) @ velocities
    return lambda identities: identities @ weights
