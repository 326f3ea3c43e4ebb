"""Batch-Constrained Q-learning (Fujimoto et al. 2018a), with the constants of its authors' code."""

from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from bmrl.batch_rl.base import Critics, Metrics, Targets, critics_loss_fn, gradient_step, polyak
from bmrl.networks import MLP, Normaliser
from bmrl.types import Spec, Transition

LOG_STD_MIN, LOG_STD_MAX = -4.0, 15.0  # of the encoder
LATENT_CLIP = 0.5  # of z when the generator is sampled


class Generator(eqx.Module):
    """The conditional VAE that proposes actions like those in the batch; ``decode`` is the paper's G(s, z)."""

    encoder: MLP  # [s, a] -> (mean, log std) of z
    decoder: MLP  # [s, z] -> action before tanh

    def __init__(self, key: Array, spec: Spec, hidden: tuple[int, ...]):
        encoder_key, decoder_key = jax.random.split(key)
        s, a, z = spec.observation_dim, spec.action_dim, latent_dim(spec.action_dim)
        self.encoder = MLP(encoder_key, s + a, hidden, 2 * z)
        self.decoder = MLP(decoder_key, s + z, hidden, a)

    def decode(self, s: Array, z: Array) -> Float[Array, "*n action"]:
        """The candidate action of latent z."""
        return jnp.tanh(self.decoder(jnp.concatenate([s, z], axis=-1)))


class BCQState(NamedTuple):
    """Everything a BCQ learner is."""

    normaliser: Normaliser
    generator: Generator
    critics: Critics
    target_critics: Critics
    perturbation: MLP  # xi
    target_perturbation: MLP
    generator_optimiser: optax.OptState
    critics_optimiser: optax.OptState
    perturbation_optimiser: optax.OptState


@dataclass(frozen=True)
class BCQ:
    """Hyperparameters of BCQ; the defaults are those of the paper's appendix B and of the official code."""

    critic_hidden: tuple[int, ...] = (400, 300)  # critics and perturbation
    generator_hidden: tuple[int, ...] = (750, 750)
    batch_size: int = 100
    learning_rate: float = 3e-4
    discount: float = 0.99
    target_rate: float = 0.005  # Polyak step of the target critics and the target perturbation
    candidates: int = 10  # actions sampled in the target and when acting
    max_perturbation: float = 0.05
    min_weight: float = 0.75  # lambda: weight of the smaller critic in the target

    @property
    def _adam(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)

    # ------------------------------------------------------------------ the contract (see base.Algorithm)

    def init(self, key: Array, spec: Spec, normaliser: Normaliser) -> BCQState:
        """A fresh learner."""
        generator_key, critics_key, perturbation_key = jax.random.split(key, 3)
        generator = Generator(generator_key, spec, self.generator_hidden)
        critics = Critics(critics_key, spec, self.critic_hidden)
        inputs = spec.observation_dim + spec.action_dim
        perturbation = MLP(perturbation_key, inputs, self.critic_hidden, spec.action_dim)
        return BCQState(
            normaliser,
            generator,
            critics,
            critics,
            perturbation,
            perturbation,
            self._adam.init(generator),
            self._adam.init(critics),
            self._adam.init(perturbation),
        )

    def update(self, state: BCQState, batch: Transition, key: Array) -> tuple[BCQState, Metrics]:
        """One step on the generator, the critics and the perturbation, each seeing the one before it updated."""
        vae_key, target_key, perturbation_key = jax.random.split(key, 3)
        s, s_next = state.normaliser(batch.observations), state.normaliser(batch.next_observations)

        vae_loss, grad = jax.value_and_grad(vae_loss_fn)(state.generator, s, batch.actions, vae_key)
        generator, generator_optimiser = gradient_step(self._adam, grad, state.generator_optimiser, state.generator)

        # [candidates, n, ...]: every next state with its own candidate actions
        z = clipped_latents(target_key, (self.candidates, len(s), latent_dim(batch.actions.shape[-1])))
        s_repeated = jnp.broadcast_to(s_next, (self.candidates, *s_next.shape))
        next_actions = perturb(
            state.target_perturbation, s_repeated, generator.decode(s_repeated, z), self.max_perturbation
        )
        y = critic_target(
            batch.rewards,
            batch.terminations,
            state.target_critics(s_repeated, next_actions),
            self.discount,
            self.min_weight,
        )
        (critics_loss, q), grad = jax.value_and_grad(critics_loss_fn, has_aux=True)(state.critics, s, batch.actions, y)
        critics, critics_optimiser = gradient_step(self._adam, grad, state.critics_optimiser, state.critics)

        z = clipped_latents(perturbation_key, (len(s), latent_dim(batch.actions.shape[-1])))
        candidates = jax.lax.stop_gradient(generator.decode(s, z))
        perturbation_loss, grad = jax.value_and_grad(perturbation_loss_fn)(
            state.perturbation, critics, s, candidates, self.max_perturbation
        )
        perturbation, perturbation_optimiser = gradient_step(
            self._adam, grad, state.perturbation_optimiser, state.perturbation
        )
        metrics = {
            "vae_loss": vae_loss,
            "critics_loss": critics_loss,
            "perturbation_loss": perturbation_loss,
            "q_mean": q.mean(),
        }
        return BCQState(
            state.normaliser,
            generator,
            critics,
            polyak(state.target_critics, critics, self.target_rate),
            perturbation,
            polyak(state.target_perturbation, perturbation, self.target_rate),
            generator_optimiser,
            critics_optimiser,
            perturbation_optimiser,
        ), metrics

    def act(self, state: BCQState, observations: Array, key: Array) -> Array:
        """The best of the perturbed candidates by the first critic."""
        s = state.normaliser(observations)
        s = jnp.broadcast_to(s, (self.candidates, *s.shape))
        z = clipped_latents(key, (*s.shape[:-1], latent_dim(state.perturbation.biases[-1].shape[-1])))
        actions = perturb(state.perturbation, s, state.generator.decode(s, z), self.max_perturbation)
        best = state.critics.first(s, actions).argmax(0)
        return jnp.take_along_axis(actions, best[None, ..., None], axis=0)[0]

    def targets(self, state: BCQState, observations: Array, actions: Array, key: Array) -> Targets:
        """Value of the logged action by the first critic; candidate and correction for one latent a transition."""
        s = state.normaliser(observations)
        z = clipped_latents(key, (*s.shape[:-1], latent_dim(actions.shape[-1])))
        candidates = state.generator.decode(s, z)
        corrections = correction(state.perturbation, s, candidates, self.max_perturbation)
        return Targets(state.critics.first(s, actions), z, candidates, corrections)


# ---------------------------------------------------------------------- the policy's parts


def latent_dim(action_dim: int) -> int:
    """Size of z: twice the action's."""
    return 2 * action_dim


def clipped_latents(key: Array, shape: tuple[int, ...]) -> Float[Array, "*n latent"]:
    """Latents as the generator is sampled with: a standard normal clipped to +-0.5."""
    return jnp.clip(jax.random.normal(key, shape), -LATENT_CLIP, LATENT_CLIP)


def correction(perturbation: MLP, s: Array, actions: Array, max_perturbation: float) -> Float[Array, "*n action"]:
    """xi(s, a): at most ``max_perturbation`` in each component."""
    return max_perturbation * jnp.tanh(perturbation(jnp.concatenate([s, actions], axis=-1)))


def perturb(perturbation: MLP, s: Array, actions: Array, max_perturbation: float) -> Float[Array, "*n action"]:
    """a + xi(s, a), kept in [-1, 1]."""
    return jnp.clip(actions + correction(perturbation, s, actions, max_perturbation), -1.0, 1.0)


# ---------------------------------------------------------------------- losses


def vae_loss_fn(generator: Generator, s: Array, actions: Array, key: Array) -> Array:
    """Mean squared reconstruction + 0.5 KL(q(z|s,a) || N(0, I)), each averaged over rows and components."""
    mean, log_std = jnp.split(generator.encoder(jnp.concatenate([s, actions], axis=-1)), 2, axis=-1)
    log_std = jnp.clip(log_std, LOG_STD_MIN, LOG_STD_MAX)
    z = mean + jnp.exp(log_std) * jax.random.normal(key, mean.shape)
    kl = -0.5 * (1 + 2 * log_std - mean**2 - jnp.exp(2 * log_std)).mean()
    return ((generator.decode(s, z) - actions) ** 2).mean() + 0.5 * kl


def critic_target(
    rewards: Array, terminations: Array, next_values: Array, discount: float, min_weight: float
) -> Float[Array, "*n"]:
    """The soft clipped double-Q target (Fujimoto et al. 2018a, Eq. 13), next_values [ensemble, candidates, n]."""
    soft = min_weight * next_values.min(0) + (1 - min_weight) * next_values.max(0)
    return rewards + discount * jnp.where(terminations, 0.0, soft.max(0))


def perturbation_loss_fn(
    perturbation: MLP, critics: Critics, s: Array, candidates: Array, max_perturbation: float
) -> Array:
    """-mean Q_1(s, a + xi(s, a)) at one sampled candidate a (Fujimoto et al. 2018a, Eq. 14)."""
    return -critics.first(s, perturb(perturbation, s, candidates, max_perturbation)).mean()
