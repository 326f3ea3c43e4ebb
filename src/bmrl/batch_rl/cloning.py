"""Behaviour cloning: imitates the batch's actions, whatever they earned. A baseline; it has no value to distil."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from bmrl.batch_rl.base import Metrics, NothingToDistil, Targets, gradient_step
from bmrl.networks import MLP, Normaliser
from bmrl.types import Spec, Transition


class CloningState(NamedTuple):
    """Everything a cloning learner is."""

    normaliser: Normaliser
    actor: MLP  # s -> action before tanh
    optimiser: optax.OptState


@dataclass(frozen=True)
class Cloning:
    """Hyperparameters of behaviour cloning."""

    hidden: tuple[int, ...] = (256, 256)
    batch_size: int = 256
    learning_rate: float = 1e-3

    @property
    def _adam(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)

    # ------------------------------------------------------------------ the contract (see base.Algorithm)

    def init(self, key: Array, spec: Spec, normaliser: Normaliser) -> CloningState:
        """A fresh learner."""
        actor = MLP(key, spec.observation_dim, self.hidden, spec.action_dim)
        return CloningState(normaliser, actor, self._adam.init(actor))

    def update(self, state: CloningState, batch: Transition, key: Array) -> tuple[CloningState, Metrics]:
        """One step on the squared error to the logged actions."""
        del key
        s = state.normaliser(batch.observations)
        loss, grad = jax.value_and_grad(cloning_loss_fn)(state.actor, s, batch.actions)
        actor, optimiser = gradient_step(self._adam, grad, state.optimiser, state.actor)
        return CloningState(state.normaliser, actor, optimiser), {"cloning_loss": loss}

    def act(self, state: CloningState, observations: Array, key: Array) -> Array:
        """The mean of what the batch does in this state."""
        del key
        return jnp.tanh(state.actor(state.normaliser(observations)))

    def targets(self, state: CloningState, observations: Array, actions: Array, key: Array) -> Targets:
        """Raises NothingToDistil."""
        raise NothingToDistil("behaviour cloning learns no value: phase 2 has nothing to distil; teach with SAC or BCQ")


# ---------------------------------------------------------------------- losses


def cloning_loss_fn(actor: MLP, s: Array, actions: Array) -> Array:
    """Mean squared error to the logged actions, over rows and components."""
    return ((jnp.tanh(actor(s)) - actions) ** 2).mean()
