"""Soft Actor-Critic (Haarnoja et al. 2018b): collects the batches online, and learns from frozen ones as Batch SAC."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from bmrl.batch_rl.base import Critics, Metrics, Targets, critics_loss_fn, gradient_step, polyak
from bmrl.networks import MLP, Normaliser
from bmrl.types import Spec, Transition

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0


class SACState(NamedTuple):
    """Everything a SAC learner is."""

    normaliser: Normaliser
    actor: MLP  # s -> (mean, log std) of the action before tanh
    critics: Critics
    target_critics: Critics
    log_alpha: Float[Array, ""]  # log of the entropy coefficient
    actor_optimiser: optax.OptState
    critics_optimiser: optax.OptState
    alpha_optimiser: optax.OptState


@dataclass(frozen=True)
class SAC:
    """Hyperparameters of SAC; the defaults are those of the implementation that the paper names (rlkit, 2019)."""

    hidden: tuple[int, ...] = (256, 256)
    batch_size: int = 256
    learning_rate: float = 3e-4
    discount: float = 0.99
    target_rate: float = 0.005  # Polyak step of the target critics
    target_entropy: float = -1.0  # nats per action component

    @property
    def _adam(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)

    # ------------------------------------------------------------------ the contract (see base.Algorithm)

    def init(self, key: Array, spec: Spec, normaliser: Normaliser) -> SACState:
        """A fresh learner with entropy coefficient 1."""
        actor_key, critics_key = jax.random.split(key)
        actor = MLP(actor_key, spec.observation_dim, self.hidden, 2 * spec.action_dim)
        critics = Critics(critics_key, spec, self.hidden)
        log_alpha = jnp.zeros(())
        return SACState(
            normaliser,
            actor,
            critics,
            critics,
            log_alpha,
            self._adam.init(actor),
            self._adam.init(critics),
            self._adam.init(log_alpha),
        )

    def update(self, state: SACState, batch: Transition, key: Array) -> tuple[SACState, Metrics]:
        """One step on the critics, the actor and the entropy coefficient, all from the same minibatch."""
        _, actor_key = jax.random.split(key)
        s, alpha = state.normaliser(batch.observations), jnp.exp(state.log_alpha)
        y = self.regression_target(state, batch, key)
        (critics_loss, q), critics_grad = jax.value_and_grad(critics_loss_fn, has_aux=True)(
            state.critics, s, batch.actions, y
        )
        (actor_loss, log_probs), actor_grad = jax.value_and_grad(actor_loss_fn, has_aux=True)(
            state.actor, state.critics, s, alpha, actor_key
        )
        target_entropy = self.target_entropy * batch.actions.shape[-1]
        alpha_grad = jax.grad(alpha_loss_fn)(state.log_alpha, log_probs, target_entropy)

        critics, critics_optimiser = gradient_step(self._adam, critics_grad, state.critics_optimiser, state.critics)
        actor, actor_optimiser = gradient_step(self._adam, actor_grad, state.actor_optimiser, state.actor)
        log_alpha, alpha_optimiser = gradient_step(self._adam, alpha_grad, state.alpha_optimiser, state.log_alpha)
        metrics = {
            "critics_loss": critics_loss,
            "actor_loss": actor_loss,
            "q_mean": q.mean(),
            "alpha": alpha,
            "entropy": -log_probs.mean(),
        }
        target_critics = polyak(state.target_critics, critics, self.target_rate)
        return state._replace(
            actor=actor,
            critics=critics,
            target_critics=target_critics,
            log_alpha=log_alpha,
            actor_optimiser=actor_optimiser,
            critics_optimiser=critics_optimiser,
            alpha_optimiser=alpha_optimiser,
        ), metrics

    def regression_target(self, state: SACState, batch: Transition, key: Array) -> Float[Array, " n"]:
        """`critic_target` at an action of the policy in s', as an update with the same key has it."""
        next_key, _ = jax.random.split(key)
        s_next = state.normaliser(batch.next_observations)
        next_actions, next_log_probs = sample_action(state.actor, s_next, next_key)
        next_values, alpha = state.target_critics(s_next, next_actions), jnp.exp(state.log_alpha)
        return critic_target(batch.rewards, batch.terminations, next_values, next_log_probs, alpha, self.discount)

    def act(self, state: SACState, observations: Array, key: Array) -> Array:
        """The mean action (deterministic evaluation)."""
        del key
        mean, _ = jnp.split(state.actor(state.normaliser(observations)), 2, axis=-1)
        return jnp.tanh(mean)

    def targets(self, state: SACState, observations: Array, actions: Array, key: Array) -> Targets:
        """Values alone: the smaller of the two critics."""
        del key
        return Targets(state.critics(state.normaliser(observations), actions).min(0))

    # ------------------------------------------------------------------ online use only

    def explore(self, state: SACState, observations: Array, key: Array) -> Array:
        """An action drawn from the stochastic policy."""
        return sample_action(state.actor, state.normaliser(observations), key)[0]


# ---------------------------------------------------------------------- losses


def sample_action(actor: MLP, s: Array, key: Array) -> tuple[Float[Array, "*n action"], Float[Array, "*n"]]:
    """A tanh-squashed Gaussian action and its log density (Haarnoja et al. 2018b, Eq. 26)."""
    mean, log_std = jnp.split(actor(s), 2, axis=-1)
    log_std = jnp.clip(log_std, LOG_STD_MIN, LOG_STD_MAX)
    noise = jax.random.normal(key, mean.shape)
    unsquashed = mean + jnp.exp(log_std) * noise
    gaussian = -0.5 * noise**2 - log_std - 0.5 * jnp.log(2 * jnp.pi)
    log_jacobian = 2 * (jnp.log(2.0) - unsquashed - jax.nn.softplus(-2 * unsquashed))  # log(1 - tanh^2), stably
    return jnp.tanh(unsquashed), (gaussian - log_jacobian).sum(-1)


def critic_target(
    rewards: Array, terminations: Array, next_values: Array, next_log_probs: Array, alpha: Array, discount: float
) -> Float[Array, "*n"]:
    """r + gamma (1 - terminated) (min_k Q'_k(s', a') - alpha log pi(a'|s')), next_values [ensemble, n]."""
    soft_value = next_values.min(0) - alpha * next_log_probs
    return rewards + discount * jnp.where(terminations, 0.0, soft_value)


def actor_loss_fn(actor: MLP, critics: Critics, s: Array, alpha: Array, key: Array) -> tuple[Array, Array]:
    """Mean of alpha log pi(a|s) - min_k Q_k(s, a), a ~ pi (Haarnoja et al. 2018b, Eq. 9)."""
    actions, log_probs = sample_action(actor, s, key)
    return (alpha * log_probs - critics(s, actions).min(0)).mean(), log_probs


def alpha_loss_fn(log_alpha: Array, log_probs: Array, target_entropy: float) -> Array:
    """-log alpha (log pi + target entropy): the automatic temperature (Haarnoja et al. 2018b, Eq. 18)."""
    return -(log_alpha * jax.lax.stop_gradient(log_probs + target_entropy)).mean()
