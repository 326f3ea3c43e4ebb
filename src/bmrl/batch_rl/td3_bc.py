"""TD3+BC (Fujimoto & Gu 2021): a deterministic actor that climbs its critic and stays near the batch's actions."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from bmrl.batch_rl.base import Critics, Metrics, Targets, critics_loss_fn, gradient_step, polyak
from bmrl.networks import MLP, Normaliser
from bmrl.types import Spec, Transition


class TD3BCState(NamedTuple):
    """Everything a TD3+BC learner is."""

    normaliser: Normaliser
    actor: MLP  # s -> action before tanh
    target_actor: MLP
    critics: Critics
    target_critics: Critics
    actor_optimiser: optax.OptState
    critics_optimiser: optax.OptState
    updates: Int[Array, ""]  # so far: the actor learns at every second one


@dataclass(frozen=True)
class TD3BC:
    """Hyperparameters of TD3+BC; the defaults are those of the paper's appendix and code."""

    hidden: tuple[int, ...] = (256, 256)
    batch_size: int = 256
    learning_rate: float = 3e-4
    discount: float = 0.99
    target_rate: float = 0.005  # Polyak step of the target networks
    target_noise: float = 0.2  # standard deviation of the noise on the target action
    target_noise_clip: float = 0.5
    actor_delay: int = 2  # critic updates for each update of the actor and the targets
    greed: float = 2.5  # alpha: weight of the critic against the imitation

    @property
    def _adam(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)

    # ------------------------------------------------------------------ the contract (see base.Algorithm)

    def init(self, key: Array, spec: Spec, normaliser: Normaliser) -> TD3BCState:
        """A fresh learner."""
        actor_key, critics_key = jax.random.split(key)
        actor = MLP(actor_key, spec.observation_dim, self.hidden, spec.action_dim)
        critics = Critics(critics_key, spec, self.hidden)
        return TD3BCState(
            normaliser,
            actor,
            actor,
            critics,
            critics,
            self._adam.init(actor),
            self._adam.init(critics),
            jnp.zeros((), jnp.int32),
        )

    def update(self, state: TD3BCState, batch: Transition, key: Array) -> tuple[TD3BCState, Metrics]:
        """One step on the critics; at every ``actor_delay``-th one also on the actor and the target networks."""
        s, s_next = state.normaliser(batch.observations), state.normaliser(batch.next_observations)
        noise = self.target_noise * jax.random.normal(key, batch.actions.shape)
        noise = jnp.clip(noise, -self.target_noise_clip, self.target_noise_clip)
        next_actions = jnp.clip(jnp.tanh(state.target_actor(s_next)) + noise, -1.0, 1.0)
        next_values = state.target_critics(s_next, next_actions)
        y = critic_target(batch.rewards, batch.terminations, next_values, self.discount)
        (critics_loss, q), grad = jax.value_and_grad(critics_loss_fn, has_aux=True)(state.critics, s, batch.actions, y)
        critics, critics_optimiser = gradient_step(self._adam, grad, state.critics_optimiser, state.critics)

        def learn(_: None) -> tuple[MLP, MLP, Critics, optax.OptState, Array]:
            loss, grad = jax.value_and_grad(actor_loss_fn)(state.actor, critics, s, batch.actions, self.greed)
            actor, optimiser = gradient_step(self._adam, grad, state.actor_optimiser, state.actor)
            target_actor = polyak(state.target_actor, actor, self.target_rate)
            return actor, target_actor, polyak(state.target_critics, critics, self.target_rate), optimiser, loss

        def wait(_: None) -> tuple[MLP, MLP, Critics, optax.OptState, Array]:
            return state.actor, state.target_actor, state.target_critics, state.actor_optimiser, jnp.zeros(())

        actor, target_actor, target_critics, actor_optimiser, actor_loss = jax.lax.cond(
            state.updates % self.actor_delay == self.actor_delay - 1, learn, wait, None
        )
        metrics = {"critics_loss": critics_loss, "actor_loss": actor_loss, "q_mean": q.mean()}
        return TD3BCState(
            state.normaliser,
            actor,
            target_actor,
            critics,
            target_critics,
            actor_optimiser,
            critics_optimiser,
            state.updates + 1,
        ), metrics

    def act(self, state: TD3BCState, observations: Array, key: Array) -> Array:
        """The actor's action."""
        del key
        return jnp.tanh(state.actor(state.normaliser(observations)))

    def targets(self, state: TD3BCState, observations: Array, actions: Array, key: Array) -> Targets:
        """Value of the logged action by the first critic; the actor's action is the one candidate, without latents."""
        del key
        s = state.normaliser(observations)
        latents = jnp.zeros((*actions.shape[:-1], 0))
        return Targets(state.critics.first(s, actions), latents, jnp.tanh(state.actor(s)))


# ---------------------------------------------------------------------- losses


def critic_target(rewards: Array, terminations: Array, next_values: Array, discount: float) -> Float[Array, "*n"]:
    """r + gamma (1 - terminated) min_k Q'_k(s', a'), next_values [ensemble, n]."""
    return rewards + discount * jnp.where(terminations, 0.0, next_values.min(0))


def actor_loss_fn(actor: MLP, critics: Critics, s: Array, actions: Array, greed: float) -> Array:
    """-lambda mean Q_1(s, pi(s)) + mean (pi(s) - a)^2, lambda = alpha / mean |Q_1| (Fujimoto & Gu 2021, Eqs. 3, 5)."""
    chosen = jnp.tanh(actor(s))
    q = critics.first(s, chosen)
    weight = jax.lax.stop_gradient(greed / jnp.abs(q).mean())
    return -weight * q.mean() + ((chosen - actions) ** 2).mean()
