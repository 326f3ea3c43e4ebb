"""f: infers an MDP's identity from a set of its transitions."""

from typing import Literal, NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from bmrl.networks.mlp import MLP
from bmrl.networks.normaliser import Normaliser
from bmrl.types import Spec, Transition

Pooling: TypeAlias = Literal["posterior", "precision", "mean"]
"""How f makes one identity of many transitions; see `SetEncoder`."""

# Train MDPs for which actions are proposed, however improbable the second is: between two train MDPs f is sure of one
# of them, now of this one, now of that one.
PROPOSERS = 2
# How far log-odds between train MDPs count where a learner is chosen by its trials: f is surer of them than it can be
# of an MDP between two (docs/results/dynamics-taken-apart.md).
TRUST = 0.1
MAX_LOG_PRECISION = 8.0  # of a transition's Gaussian: bound on either side


class Evidence(NamedTuple):
    """The sum over a context that f needs: adding a transition costs the same whatever the context's size."""

    total: Float[Array, "*n evidence"]
    size: Float[Array, "*n"]

    @classmethod
    def of(cls, pieces: Float[Array, "*n size evidence"], mask: Bool[Array, "*n size"]) -> "Evidence":
        """The sum over a context's transitions, of which the masked count."""
        total = jnp.where(mask[..., None], pieces, 0.0).sum(-2)
        return cls(total, mask.sum(-1).astype(total.dtype))

    def at_most(self, size: int) -> "Evidence":
        """The same mean, counting as no more than ``size`` transitions: as sharp as f has learned to be."""
        kept = jnp.minimum(self.size, size)
        return Evidence(self.total * (kept / jnp.maximum(self.size, 1.0))[..., None], kept)


class SetEncoder(eqx.Module):
    """A permutation-invariant map from a context {(s, a, r, s')} to an identity m (section 2.4).

    Each transition adds its evidence. What that is, `pooling` says:

    - "posterior": a log-likelihood for every train MDP. Their softmax is the posterior over the train MDPs, and the
      identity the posterior mean of the MDPs' embeddings. Adding log-likelihoods is what Bayes' rule does with
      independent transitions: it resolves what one transition leaves open.
    - "precision": a mean and a precision for every component of the identity. The identity is the mean of the product
      of these Gaussians and the prior N(0, I), as in PEARL (Rakelly et al. 2019): what the few transitions that tell
      something have told, the many that tell nothing do not dilute.
    - "mean": the identity is the mean of the transitions' outputs; with one transition, the paper's f.

    The empty context has the zero identity (section 5.2).
    """

    inputs: Normaliser  # of [s, a, r, s' - s]
    network: MLP  # of a transition
    embeddings: Float[Array, "mdps identity"] | None
    pooling: Pooling = eqx.field(static=True)
    trials: Float[Array, "mdps learners"] | None  # what every learner returns in every MDP; see `distill.trials`
    labels: bool = eqx.field(static=True)  # whether f learns whose a context is: then evidence k is of train MDP k

    def __init__(
        self,
        key: Array,
        spec: Spec,
        inputs: Normaliser,
        hidden: tuple[int, ...],
        identity_dim: int,
        mdps: int,
        pooling: Pooling,
        labels: bool = True,
        trials: bool = False,
    ):
        network_key, embedding_key = jax.random.split(key)
        self.inputs, self.pooling = inputs, pooling
        size = 2 * spec.observation_dim + spec.action_dim + 1
        outputs = {"posterior": mdps, "precision": 2 * identity_dim, "mean": identity_dim}[pooling]
        self.network = MLP(network_key, size, hidden, outputs)
        posterior = pooling == "posterior"
        self.embeddings = jax.random.normal(embedding_key, (mdps, identity_dim)) if posterior else None
        self.labels = labels and posterior
        self.trials = jnp.zeros((mdps, mdps)) if trials else None

    @property
    def evidence_dim(self) -> int:
        """Size of the evidence of a transition."""
        return self.network.biases[-1].shape[-1]

    def observe(self, transitions: Transition) -> Float[Array, "*n evidence"]:
        """The evidence of each transition: of a Gaussian [precision * mean, precision]."""
        found = self.network(self.inputs(context_inputs(transitions)))
        if self.pooling != "precision":
            return found
        mean, log_precision = jnp.split(found, 2, axis=-1)
        precision = jnp.exp(jnp.clip(log_precision, -MAX_LOG_PRECISION, MAX_LOG_PRECISION))
        return jnp.concatenate([mean * precision, precision], axis=-1)

    def evidence(self, context: Transition, mask: Bool[Array, "*n size"]) -> Evidence:
        """The evidence of a context [..., size, ...] of which the masked transitions count."""
        return Evidence.of(self.observe(context), mask)

    def identity(self, evidence: Evidence) -> Float[Array, "*n identity"]:
        """The identity for the evidence so far; zero if there is none."""
        size = evidence.size[..., None]
        if self.pooling == "precision":
            weighted, precision = jnp.split(evidence.total, 2, axis=-1)
            return weighted / (1.0 + precision)
        if self.embeddings is None:
            return evidence.total / jnp.maximum(size, 1.0)
        return jnp.where(size > 0, jax.nn.softmax(evidence.total) @ self.embeddings, 0.0)

    def told(self, posterior: Float[Array, "*n mdps"]) -> Evidence:
        """The evidence by which `proposers` weighs the train MDPs as ``posterior`` does.

        With trials, whose weights are flatter than f's posterior, the identity that it stands for is sharper.
        """
        trust = 1.0 if self.trials is None else TRUST
        return Evidence(jnp.log(posterior + 1e-9) / trust, jnp.ones(posterior.shape[:-1]))

    def embedding(self, mdp: Int[Array, "*n"], evidence: Evidence) -> Float[Array, "*n identity"]:
        """The identity as if the MDP were known to be train MDP ``mdp``; zero if there is no evidence yet."""
        assert self.embeddings is not None
        return jnp.where(evidence.size[..., None] > 0, self.embeddings[mdp], 0.0)

    def proposers(self, evidence: Evidence) -> Float[Array, "proposers *n identity"]:
        """The identities under which actions are proposed: of the `PROPOSERS` most probable train MDPs.

        They are fewer where there are fewer train MDPs. Without labels it is the inferred identity alone, and with
        trials that of the one learner which earns most on average over what the train MDPs may be.
        """
        if not self.labels:
            return self.identity(evidence)[None]
        if self.trials is not None:
            earned = jax.nn.softmax(TRUST * evidence.total) @ self.trials
            return self.embedding(earned.argmax(-1), evidence)[None]
        _, mdp = jax.lax.top_k(evidence.total, min(PROPOSERS, self.evidence_dim))
        return self.embedding(jnp.moveaxis(mdp, -1, 0), evidence)


def context_inputs(context: Transition) -> Float[Array, "*n inputs"]:
    """What f reads of a transition: [s, a, r, s' - s]."""
    change = context.next_observations - context.observations
    return jnp.concatenate([context.observations, context.actions, context.rewards[..., None], change], axis=-1)
