"""A learned model of every MDP's reward, which relabels one MDP's transitions as another's."""

import functools
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from bmrl.batch_rl.replay import Replay
from bmrl.networks import MLP, Normaliser
from bmrl.networks.set_encoder import context_inputs
from bmrl.types import Spec, Transition


@dataclass(frozen=True)
class RewardModelConfig:
    """One network for all MDPs, told them apart by a learned embedding each."""

    hidden: tuple[int, ...] = (256, 256)
    embedding_dim: int = 8
    updates: int = 10_000
    batch_size: int = 512
    learning_rate: float = 1e-3  # decays to zero along a cosine


class RewardModel(eqx.Module):
    """r^(s, a, s'; MDP k)."""

    inputs: Normaliser
    rewards: Normaliser
    embeddings: Float[Array, "mdps embedding"]
    network: MLP

    def __init__(
        self, key: Array, spec: Spec, inputs: Normaliser, rewards: Normaliser, mdps: int, config: RewardModelConfig
    ):
        embedding_key, network_key = jax.random.split(key)
        self.inputs, self.rewards = inputs, rewards
        self.embeddings = 0.1 * jax.random.normal(embedding_key, (mdps, config.embedding_dim))
        size = 2 * spec.observation_dim + spec.action_dim + config.embedding_dim
        self.network = MLP(network_key, size, config.hidden, 1)

    def __call__(self, transitions: Transition, mdp: Int[Array, "*n"]) -> Float[Array, "*n"]:
        """The reward that MDP ``mdp`` pays for (s, a, s'); the transitions' own reward is not read."""
        blind = transitions._replace(rewards=jnp.zeros_like(transitions.rewards))
        x = self.inputs(context_inputs(blind))
        reward_column = transitions.observations.shape[-1] + transitions.actions.shape[-1]
        x = jnp.delete(x, reward_column, axis=-1)
        x = jnp.concatenate([x, self.embeddings[mdp]], axis=-1)
        return self.rewards.inverse(self.network(x))[..., 0]

    def relabel(self, transitions: Transition, source: Int[Array, "*n"], target: Int[Array, "*n"]) -> Transition:
        """Transitions of MDP ``source`` with the reward that ``target`` would have paid.

        The model's residual in the source is kept, so that relabelled rewards are as noisy as logged ones.
        """
        change = self(transitions, target) - self(transitions, source)
        return transitions._replace(rewards=transitions.rewards + change)


def reward_loss_fn(model: RewardModel, batch: Transition, mdp: Int[Array, " n"]) -> Array:
    """Mean squared error in units of the rewards' variance."""
    scale = jax.lax.stop_gradient(model.rewards.scale)  # a trained one would only shrink the loss
    return (((model(batch, mdp) - batch.rewards) / scale) ** 2).mean()


def fit_reward_model(
    replay: Replay, inputs: Normaliser, rewards: Normaliser, spec: Spec, config: RewardModelConfig, key: Array
) -> tuple[RewardModel, Float[Array, ""]]:
    """Train the model on K batches [K, ...], each MDP with the same weight; with it, its mean loss at the end."""
    init_key, train_key = jax.random.split(key)
    model = RewardModel(init_key, spec, inputs, rewards, len(replay.size), config)
    return _fit_program(config)(model, replay, train_key)


@functools.lru_cache(maxsize=4)
def _fit_program(config: RewardModelConfig) -> Any:
    adam = optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.updates))

    def step(carry: Any, i: jax.Array, replay: Replay, key: jax.Array) -> Any:
        model, optimiser = carry
        mdp_key, index_key = jax.random.split(jax.random.fold_in(key, i))
        mdp = jax.random.randint(mdp_key, (config.batch_size,), 0, len(replay.size))
        index = jax.random.randint(index_key, mdp.shape, 0, replay.size[mdp])
        loss, grad = jax.value_and_grad(reward_loss_fn)(model, replay.take_from(mdp, index), mdp)
        updates, optimiser = adam.update(grad, optimiser)
        return (optax.apply_updates(model, updates), optimiser), loss

    @jax.jit
    def fit(model: RewardModel, replay: Replay, key: jax.Array) -> Any:
        steps = jnp.arange(config.updates)
        (model, _), losses = jax.lax.scan(lambda c, i: step(c, i, replay, key), (model, adam.init(model)), steps)
        return model, losses[-100:].mean()

    return fit
