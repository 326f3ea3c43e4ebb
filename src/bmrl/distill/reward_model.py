"""A learned model of what every MDP pays and does, which relabels one MDP's transitions as another's."""

import functools
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from bmrl import parallel
from bmrl.batch_rl.replay import Episodes, Replay, gone_through
from bmrl.batch_rl.windows import Windows
from bmrl.networks import MLP, Normaliser
from bmrl.networks.set_encoder import context_inputs
from bmrl.runs.training import CHUNK
from bmrl.types import Spec, Transition


@dataclass(frozen=True)
class RewardModelConfig:
    """One network for all MDPs, told them apart by a learned embedding each."""

    hidden: tuple[int, ...] = (256, 256)
    embedding_dim: int = 8
    updates: int = 10_000
    batch_size: int = 512
    learning_rate: float = 1e-3  # decays to zero along a cosine
    next_observations: bool = False  # s' as well, from (s, a) alone: for MDPs that differ in their transitions


class RewardModel(eqx.Module):
    """r^(s, a, s'; MDP k); where MDPs differ in their transitions, (r^, s'^)(s, a; MDP k)."""

    inputs: Normaliser  # of [s, a, r, s' - s]
    embeddings: Float[Array, "mdps embedding"]
    network: MLP
    next_observations: bool = eqx.field(static=True)

    def __init__(self, key: Array, spec: Spec, inputs: Normaliser, mdps: int, config: RewardModelConfig):
        embedding_key, network_key = jax.random.split(key)
        self.inputs, self.next_observations = inputs, config.next_observations
        self.embeddings = 0.1 * jax.random.normal(embedding_key, (mdps, config.embedding_dim))
        known, change = spec.observation_dim + spec.action_dim, spec.observation_dim
        known, outputs = (known, 1 + change) if self.next_observations else (known + change, 1)
        self.network = MLP(network_key, known + config.embedding_dim, config.hidden, outputs)

    def split(self, transitions: Transition) -> tuple[Float[Array, "*n known"], Float[Array, "*n outputs"]]:
        """Transitions, normalised: what the model is told of them, and what it predicts."""
        x = self.inputs(context_inputs(transitions))
        reward = transitions.observations.shape[-1] + transitions.actions.shape[-1]
        if self.next_observations:
            return x[..., :reward], x[..., reward:]
        return jnp.delete(x, reward, axis=-1), x[..., reward : reward + 1]

    def __call__(self, known: Float[Array, "*n known"], mdp: Int[Array, "*n"]) -> Float[Array, "*n outputs"]:
        """What MDP ``mdp`` makes of it: the normalised reward, and the normalised s' - s if that is predicted."""
        return self.network(jnp.concatenate([known, self.embeddings[mdp]], axis=-1))

    def foretell(
        self, observations: Float[Array, "*n observation"], actions: Float[Array, "*n action"], mdp: Int[Array, "*n"]
    ) -> tuple[Float[Array, "*n"], Float[Array, "*n observation"]]:
        """The rewards and the next observations in MDP ``mdp``, where the latter are predicted as well."""
        x = jnp.concatenate([observations, actions], axis=-1)
        reward = x.shape[-1]
        found = self.inputs.part(reward).inverse(self(self.inputs.part(0, reward)(x), mdp))
        return found[..., 0], observations + found[..., 1:]

    def relabel(self, transitions: Transition, source: Int[Array, "*n"], target: Int[Array, "*n"]) -> Transition:
        """Transitions of MDP ``source`` with the reward, and the s', that ``target`` would have given.

        The model's residual in the source is kept, so that what is relabelled is as noisy as what was logged.
        """
        known, _ = self.split(transitions)
        change = self(known, target) - self(known, source)
        reward = transitions.observations.shape[-1] + transitions.actions.shape[-1]
        change = change * self.inputs.scale[reward : reward + change.shape[-1]]
        relabelled = transitions._replace(rewards=transitions.rewards + change[..., 0])
        if not self.next_observations:
            return relabelled
        return relabelled._replace(next_observations=transitions.next_observations + change[..., 1:])


def reward_loss_fn(model: RewardModel, batch: Transition, mdp: Int[Array, " n"]) -> Array:
    """Mean squared error in units of the outputs' variances."""
    known, outputs = model.split(batch)
    return ((model(known, mdp) - outputs) ** 2).mean()


def fit_reward_model(
    replay: Replay, inputs: Normaliser, spec: Spec, config: RewardModelConfig, key: Array
) -> tuple[RewardModel, Float[np.ndarray, " updates"]]:
    """Train the model on K batches, each MDP with the same weight; with it, the loss of each update."""
    init_key, train_key = jax.random.split(key)
    draw, optimiser, train = _fit_programs(config)
    model = RewardModel(init_key, spec, inputs, len(replay), config)
    windows = Windows(replay, np.asarray(jax.random.split(train_key, len(replay))), config.batch_size)
    state, losses = (model, optimiser.init(model)), []
    for step in range(0, config.updates, CHUNK):
        given = windows.at(step).replay
        mdp, index = draw(train_key, given.size, step)
        state, loss = train(state, given.take_from(mdp, index), mdp, min(CHUNK, config.updates - step))
        losses.append(loss)  # not looked at, so that the next minibatches are read while these are computed
    return state[0], np.concatenate(parallel.on_host(losses))[: config.updates]


def repaid(log: Episodes, model: RewardModel, source: Int[np.ndarray, " n"], target: int) -> Episodes:
    """A log whose n transitions are of the MDPs ``source``, paid as ``target`` would pay."""
    rewards, done = [], 0
    for part in gone_through(log):
        here = jnp.asarray(source[done : done + len(part.rewards)])
        rewards.append(parallel.on_host(_relabel(model, part, here, jnp.full_like(here, target)).rewards))
        done += len(here)
    return log._replace(rewards=np.concatenate(rewards))


_relabel = eqx.filter_jit(RewardModel.relabel)


@functools.lru_cache(maxsize=4)
def _fit_programs(config: RewardModelConfig) -> tuple[Any, optax.GradientTransformation, Any]:
    """Draw the minibatches of `CHUNK` updates; the optimiser; make at most as many updates."""
    adam = optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.updates))

    def draw(key: Array, sizes: Array, step: Array) -> tuple[Array, Array]:
        mdp_key, index_key = jax.random.split(jax.random.fold_in(key, step))
        mdp = jax.random.randint(mdp_key, (config.batch_size,), 0, len(sizes))
        return mdp, jax.random.randint(index_key, mdp.shape, 0, sizes[mdp])

    def train(state: Any, batches: Transition, mdp: Array, steps: Array) -> tuple[Any, Array]:
        def body(i: Array, carry: Any) -> Any:
            (model, optimiser), losses = carry
            batch = jax.tree.map(lambda x: x[i], batches)
            loss, grad = jax.value_and_grad(reward_loss_fn)(model, batch, mdp[i])
            updates, optimiser = adam.update(grad, optimiser)
            return (optax.apply_updates(model, updates), optimiser), losses.at[i].set(loss)

        return jax.lax.fori_loop(0, steps, body, (state, jnp.zeros(CHUNK)))

    def draws(key: Array, sizes: Array, start: Array) -> tuple[Array, Array]:
        return jax.vmap(lambda step: draw(key, sizes, step))(start + jnp.arange(CHUNK))

    return parallel.on_host_alone(draws), adam, jax.jit(train)
