"""The super networks Q_S, G_S, xi_S and their companions f, E, P (Figure 1, right), and how they act."""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bmrl.networks import MLP, Normaliser
from bmrl.networks.set_encoder import SetEncoder
from bmrl.types import Spec


@dataclass(frozen=True)
class StudentConfig:
    """Hidden layers of each network, and the sizes between them."""

    identity_dim: int
    hypotheses: int | None  # of f: it mixes their embeddings; None: it averages the outputs of the transitions
    encoder_hidden: tuple[int, ...]  # f
    auxiliary_hidden: tuple[int, ...]  # E
    auxiliary_dim: int  # output of E
    prediction_hidden: tuple[int, ...]  # P: low capacity, so that the identity has to say what the MDP is
    value_hidden: tuple[int, ...]  # Q_S
    candidate_hidden: tuple[int, ...] = ()  # G_S
    correction_hidden: tuple[int, ...] = ()  # xi_S
    evidence_power: float = 0.5  # n transitions of a context count as n**power: 1 if they are independent


class Statistics(eqx.Module):
    """Input and output statistics of the train batches."""

    observations: Normaliser
    context: Normaliser  # of [s, a, r, s' - s]
    rewards: Normaliser
    values: Normaliser


class Student(eqx.Module):
    """All networks of phase 2. Observations come in raw and values go out in the rewards' unit."""

    statistics: Statistics
    encoder: SetEncoder  # f
    auxiliary: MLP  # E(s, a)
    prediction: MLP  # P(E, m) -> r, s' - s (the latter only if asked for)
    value: MLP  # Q_S(s, a, m)
    candidate: MLP | None  # G_S(s, z, m)
    correction: MLP | None  # xi_S(s, a, m)
    max_correction: float = eqx.field(static=True)

    def __init__(
        self,
        key: Array,
        spec: Spec,
        statistics: Statistics,
        config: StudentConfig,
        *,
        latent_dim: int,
        max_correction: float,
        predict_next: bool,
    ):
        f, e, p, q, g, xi = jax.random.split(key, 6)
        s, a, m = spec.observation_dim, spec.action_dim, config.identity_dim
        self.statistics = statistics
        self.encoder = SetEncoder(
            f, spec, statistics.context, config.encoder_hidden, config.hypotheses, m, config.evidence_power
        )
        self.auxiliary = MLP(e, s + a, config.auxiliary_hidden, config.auxiliary_dim)
        self.prediction = MLP(p, config.auxiliary_dim + m, config.prediction_hidden, 1 + (s if predict_next else 0))
        self.value = MLP(q, s + a + m, config.value_hidden, 1)
        self.candidate = MLP(g, s + latent_dim + m, config.candidate_hidden, a) if latent_dim else None
        self.correction = MLP(xi, s + a + m, config.correction_hidden, a) if latent_dim else None
        self.max_correction = max_correction

    def _join(self, observations: Array, second: Array, identity: Array) -> Array:
        return jnp.concatenate([self.statistics.observations(observations), second, identity], axis=-1)

    def values(self, observations: Array, actions: Array, identity: Array) -> Float[Array, "*n"]:
        """Q_S(s, a, m)."""
        return self.statistics.values.inverse(self.value(self._join(observations, actions, identity)))[..., 0]

    def candidates(self, observations: Array, z: Array, identity: Array) -> Float[Array, "*n action"]:
        """G_S(s, z, m)."""
        assert self.candidate is not None
        return jnp.tanh(self.candidate(self._join(observations, z, identity)))

    def corrections(self, observations: Array, actions: Array, identity: Array) -> Float[Array, "*n action"]:
        """xi_S(s, a, m)."""
        assert self.correction is not None
        return self.max_correction * jnp.tanh(self.correction(self._join(observations, actions, identity)))

    def predictions(self, observations: Array, actions: Array, identity: Array) -> Float[Array, "*n outputs"]:
        """P(E(s, a), m): the normalised reward, and the normalised change of the observation if it is predicted."""
        s = self.statistics.observations(observations)
        features = jax.nn.relu(self.auxiliary(jnp.concatenate([s, actions], axis=-1)))
        return self.prediction(jnp.concatenate([features, identity], axis=-1))
