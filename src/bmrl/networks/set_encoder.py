"""f: infers an MDP's identity from a set of its transitions."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from bmrl.networks.mlp import MLP
from bmrl.networks.normaliser import Normaliser
from bmrl.types import Spec, Transition


class Evidence(NamedTuple):
    """The sum over a context that f needs: adding a transition costs the same whatever the context's size."""

    total: Float[Array, "*n evidence"]
    size: Float[Array, "*n"]

    def at_most(self, size: int) -> "Evidence":
        """The same mean, counting as no more than ``size`` transitions: as sharp as f has learned to be."""
        kept = jnp.minimum(self.size, size)
        return Evidence(self.total * (kept / jnp.maximum(self.size, 1.0))[..., None], kept)


class SetEncoder(eqx.Module):
    """A permutation-invariant map from a context {(s, a, r, s')} to an identity m (section 2.4).

    Each transition adds its evidence, a vector of log-likelihoods over learned hypotheses about which MDP this is;
    their softmax is a posterior, and the identity is the posterior mean of the hypotheses' embeddings. Adding
    log-likelihoods is what Bayes' rule does with independent transitions: it resolves what one transition leaves
    open, and a context longer than any in training only makes the posterior sharper. Where an episode's transitions
    are not independent, n of them count as n**power, power < 1: otherwise a few saturate the softmax, and MDPs that
    are close to each other become one. The empty context has the zero identity (section 5.2).

    Without hypotheses the identity is the mean of the transitions' outputs: with one transition, the paper's f.
    """

    inputs: Normaliser  # of [s, a, r, s' - s]
    evidence: MLP
    embeddings: Float[Array, "evidence identity"] | None
    power: float = eqx.field(static=True)

    def __init__(
        self,
        key: Array,
        spec: Spec,
        inputs: Normaliser,
        hidden: tuple[int, ...],
        hypotheses: int | None,
        identity_dim: int,
        power: float = 0.5,
    ):
        evidence_key, embedding_key = jax.random.split(key)
        self.inputs, self.power = inputs, power
        size = 2 * spec.observation_dim + spec.action_dim + 1
        self.evidence = MLP(evidence_key, size, hidden, hypotheses or identity_dim)
        self.embeddings = jax.random.normal(embedding_key, (hypotheses, identity_dim)) if hypotheses else None

    @property
    def evidence_dim(self) -> int:
        """Size of the evidence of a transition."""
        return self.evidence.biases[-1].shape[-1]

    def observe(self, context: Transition) -> Float[Array, "*n evidence"]:
        """The evidence of each transition."""
        return self.evidence(self.inputs(context_inputs(context)))

    def identity(self, evidence: Evidence) -> Float[Array, "*n identity"]:
        """The identity for the evidence so far; zero if there is none."""
        size = evidence.size[..., None]
        if self.embeddings is None:
            return evidence.total / jnp.maximum(size, 1.0)
        posterior = jax.nn.softmax(evidence.total / jnp.maximum(size, 1.0) ** (1.0 - self.power))
        return jnp.where(size > 0, posterior @ self.embeddings, 0.0)

    def __call__(self, context: Transition, mask: Bool[Array, "*n size"]) -> Float[Array, "*n identity"]:
        """The identity of a context [..., size, ...] of which the masked transitions count."""
        total = jnp.where(mask[..., None], self.observe(context), 0.0).sum(-2)
        return self.identity(Evidence(total, mask.sum(-1).astype(total.dtype)))


def context_inputs(context: Transition) -> Float[Array, "*n inputs"]:
    """What f reads of a transition: [s, a, r, s' - s]."""
    change = context.next_observations - context.observations
    return jnp.concatenate([context.observations, context.actions, context.rewards[..., None], change], axis=-1)
