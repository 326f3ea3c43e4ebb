"""The super networks Q_S, G_S, xi_S and their companions f, E, P (Figure 1, right), and how they act."""

from dataclasses import dataclass, field

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bmrl.batch_rl.bcq import clipped_latents
from bmrl.networks import MLP, ConditionedMLP, Normaliser
from bmrl.networks.set_encoder import Pooling, SetEncoder
from bmrl.types import ABLATION, Spec

CANDIDATES = 10  # latents (section 2.2 and the official BCQ code)


@dataclass(frozen=True)
class StudentConfig:
    """Hidden layers of each network, and the sizes between them."""

    identity_dim: int
    pooling: Pooling  # how f makes an identity of a context: see `SetEncoder`
    encoder_hidden: tuple[int, ...]  # f
    auxiliary_hidden: tuple[int, ...]  # E
    auxiliary_dim: int  # output of E
    prediction_hidden: tuple[int, ...]  # P: low capacity, so that the identity has to say what the MDP is
    value_hidden: tuple[int, ...]  # Q_S
    candidate_hidden: tuple[int, ...] = ()  # G_S, where the learners have candidates
    correction_hidden: tuple[int, ...] = ()  # xi_S, where they have corrections
    # False: f is not told which MDP a context is of, and G_S and xi_S get the identity that Q_S gets
    labels: bool = field(default=True, metadata=ABLATION)
    # True: it acts by the one action that G_S proposes at the mean identity. Where good actions differ in degree, not
    # in kind, from MDP to MDP, this is a good one too, and Q_S need not rank actions whose values hardly differ.
    # False: by the one that Q_S prefers of those proposed for the most probable train MDPs
    mean_action: bool = field(default=False, metadata=ABLATION)
    # True: it acts as the learner that would earn most, by what all return in a model of the train MDPs (see
    # `distill.trials`) and how probable these are. For MDPs that differ in their transitions: there another MDP's
    # learner is often better than the nearest one's, and mixing two gaits costs more.
    trials: bool = field(default=False, metadata=ABLATION)
    # False: the identity is withheld from xi_S
    correction_identity: bool = field(default=True, metadata=ABLATION)


class Statistics(eqx.Module):
    """Input and output statistics of the train batches."""

    observations: Normaliser
    context: Normaliser  # of [s, a, r, s' - s]
    rewards: Normaliser
    values: Normaliser


class Student(eqx.Module):
    """All networks of phase 2. Observations come in raw and values go out in the rewards' unit.

    The leading axes of identities broadcast against those of the other inputs.
    """

    statistics: Statistics
    encoder: SetEncoder  # f
    auxiliary: MLP  # E(s, a)
    prediction: MLP  # P(E, m) -> r, s' - s (the latter only if asked for)
    value: ConditionedMLP  # Q_S(s, a, m)
    candidate: ConditionedMLP | None  # G_S(s, z, m), if the learners have candidates; z may have no components
    correction: ConditionedMLP | None  # xi_S(s, a, m), if the learners correct them
    max_correction: float = eqx.field(static=True)
    correction_identity: bool = eqx.field(static=True)  # False: xi_S does not see it
    mean_action: bool = eqx.field(static=True)  # False: Q_S chooses among proposals

    def __init__(
        self,
        key: Array,
        spec: Spec,
        statistics: Statistics,
        config: StudentConfig,
        *,
        mdps: int,
        latent_dim: int | None,
        max_correction: float,
        predict_next: bool,
    ):
        f, e, p, q, g, xi = jax.random.split(key, 6)
        s, a, m = spec.observation_dim, spec.action_dim, config.identity_dim
        self.statistics = statistics
        self.encoder = SetEncoder(
            f, spec, statistics.context, config.encoder_hidden, m, mdps, config.pooling, config.labels, config.trials
        )
        self.auxiliary = MLP(e, s + a, config.auxiliary_hidden, config.auxiliary_dim)
        self.prediction = MLP(p, config.auxiliary_dim + m, config.prediction_hidden, 1 + (s if predict_next else 0))
        self.value = ConditionedMLP(q, s + a, m, config.value_hidden, 1)
        self.candidate = self.correction = None
        if latent_dim is not None:
            self.candidate = ConditionedMLP(g, s + latent_dim, m, config.candidate_hidden, a)
        if max_correction > 0:
            self.correction = ConditionedMLP(xi, s + a, m, config.correction_hidden, a)
        self.max_correction = max_correction
        self.correction_identity = config.correction_identity
        self.mean_action = config.mean_action

    @property
    def spec(self) -> Spec:
        """The sizes of what it sees and does."""
        observation_dim = len(self.statistics.observations.mean)
        return Spec(observation_dim, self.value.network.weights[0].shape[0] - observation_dim)

    @property
    def latent_dim(self) -> int:
        """d_z of G_S, which must be there."""
        assert self.candidate is not None
        return self.candidate.network.weights[0].shape[0] - self.spec.observation_dim

    @property
    def action_dim(self) -> int:
        """d_a."""
        return self.spec.action_dim

    def _join(self, observations: Array, second: Array) -> Array:
        return jnp.concatenate([self.statistics.observations(observations), second], axis=-1)

    def values(self, observations: Array, actions: Array, identity: Array) -> Float[Array, "*n"]:
        """Q_S(s, a, m)."""
        return self.statistics.values.inverse(self.value(self._join(observations, actions), identity))[..., 0]

    def candidates(self, observations: Array, z: Array, identity: Array) -> Float[Array, "*n action"]:
        """G_S(s, z, m)."""
        assert self.candidate is not None
        return jnp.tanh(self.candidate(self._join(observations, z), identity))

    def corrections(self, observations: Array, actions: Array, identity: Array) -> Float[Array, "*n action"]:
        """xi_S(s, a, m)."""
        if self.correction is None:
            return jnp.zeros_like(actions)
        identity = identity if self.correction_identity else jnp.zeros_like(identity)
        return self.max_correction * jnp.tanh(self.correction(self._join(observations, actions), identity))

    def proposals(self, observations: Array, z: Array, identity: Array) -> Float[Array, "*n action"]:
        """The actions of G_S as xi_S corrects them."""
        actions = self.candidates(observations, z, identity)
        return jnp.clip(actions + self.corrections(observations, actions, identity), -1.0, 1.0)

    def choices(
        self, key: Array, observations: Float[Array, "*n observation"], proposers: Float[Array, "p *n identity"]
    ) -> Float[Array, "choices *n action"]:
        """What each of p identities proposes: with `CANDIDATES` latents, or one action where G_S has no latents."""
        latents = CANDIDATES if self.latent_dim else 1
        z = clipped_latents(key, (latents, 1, *observations.shape[:-1], self.latent_dim))
        z = jnp.broadcast_to(z, (latents, len(proposers), *z.shape[2:]))
        s = jnp.broadcast_to(observations, (*z.shape[:-1], observations.shape[-1]))
        return self.proposals(s, z, proposers).reshape(-1, *observations.shape[:-1], self.action_dim)

    def predictions(self, observations: Array, actions: Array, identity: Array) -> Float[Array, "*n outputs"]:
        """P(E(s, a), m): the normalised reward, and the normalised change of the observation if it is predicted."""
        features = jax.nn.relu(self.auxiliary(self._join(observations, actions)))
        identity = jnp.broadcast_to(identity, (*features.shape[:-1], identity.shape[-1]))
        return self.prediction(jnp.concatenate([features, identity], axis=-1))
