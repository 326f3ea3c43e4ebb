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


class SetEncoder(eqx.Module):
    """A permutation-invariant map from a context {(s, a, r, s')} to an identity m (section 2.4).

    Each transition adds its evidence, a vector of log-likelihoods over learned hypotheses about which MDP this is;
    their softmax is a posterior, and the identity is the posterior mean of the hypotheses' embeddings. Adding
    log-likelihoods is what Bayes' rule does with independent transitions: it resolves what one transition leaves
    open, and a context longer than any in training only makes the posterior sharper. The empty context has the zero
    identity (section 5.2).
    """

    inputs: Normaliser  # of [s, a, r, s' - s]
    evidence: MLP
    embeddings: Float[Array, "evidence identity"]

    def __init__(
        self, key: Array, spec: Spec, inputs: Normaliser, hidden: tuple[int, ...], hypotheses: int, identity_dim: int
    ):
        evidence_key, embedding_key = jax.random.split(key)
        self.inputs = inputs
        self.evidence = MLP(evidence_key, 2 * spec.observation_dim + spec.action_dim + 1, hidden, hypotheses)
        self.embeddings = jax.random.normal(embedding_key, (hypotheses, identity_dim))

    def observe(self, context: Transition) -> Float[Array, "*n evidence"]:
        """The evidence of each transition."""
        return self.evidence(self.inputs(context_inputs(context)))

    def identity(self, evidence: Evidence) -> Float[Array, "*n identity"]:
        """The identity for the evidence so far; zero if there is none."""
        m = jax.nn.softmax(evidence.total) @ self.embeddings
        return jnp.where(evidence.size[..., None] > 0, m, 0.0)

    def __call__(self, context: Transition, mask: Bool[Array, "*n size"]) -> Float[Array, "*n identity"]:
        """The identity of a context [..., size, ...] of which the masked transitions count."""
        total = jnp.where(mask[..., None], self.observe(context), 0.0).sum(-2)
        return self.identity(Evidence(total, mask.sum(-1).astype(total.dtype)))


def context_inputs(context: Transition) -> Float[Array, "*n inputs"]:
    """What f reads of a transition: [s, a, r, s' - s]."""
    change = context.next_observations - context.observations
    return jnp.concatenate([context.observations, context.actions, context.rewards[..., None], change], axis=-1)
