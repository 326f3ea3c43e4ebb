"""Stochastic value gradients (Heess et al. 2015): a policy that climbs the gradient through a model of the plant.

A model of s' and r is fitted to the batch. The policy then lives through windows of the log again: each step keeps the
residual that the model has in the log, so that all that the model cannot foresee comes as it came,

    s^(t + 1) = s(t + 1) + model(s^(t), a^(t)) - model(s(t), a(t)).

Only the difference that the policy makes is modelled. The same weather meets all policies, where a critic alone has to
find the small effect of an action in values that the weather spreads.
"""

from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from bmrl.batch_rl.base import Critics, Metrics, Targets, critics_loss_fn, gradient_step, polyak
from bmrl.networks import MLP, Normaliser
from bmrl.types import Spec, Transition

SATURATED = 1.5  # of an action before tanh: beyond it a penalty keeps the gradient alive
MAX_NORM = 1.0  # of the actor's gradient: a rollout may be steep


class Model(eqx.Module):
    """The change of an observation for (s, a) and the reward for (s, a, s'), each a network beside a linear map.

    Inputs are normalised observations. Outputs are in units of ``scale``, the root of their mean square.
    """

    network: MLP
    linear: MLP
    reward_network: MLP
    reward_linear: MLP

    def __init__(self, key: Array, spec: Spec, hidden: tuple[int, ...]):
        keys = jax.random.split(key, 4)
        s, a = spec.observation_dim, spec.action_dim
        self.network, self.linear = MLP(keys[0], s + a, hidden, s), MLP(keys[1], s + a, (), s)
        self.reward_network, self.reward_linear = MLP(keys[2], 2 * s + a, hidden, 1), MLP(keys[3], 2 * s + a, (), 1)

    def change(self, s: Array, a: Array) -> Float[Array, "*n observation"]:
        """s' - s."""
        inputs = jnp.concatenate([s, a], axis=-1)
        return self.network(inputs) + self.linear(inputs)

    def reward(self, s: Array, a: Array, s_next: Array) -> Float[Array, "*n"]:
        """The reward."""
        inputs = jnp.concatenate([s, a, s_next], axis=-1)
        return (self.reward_network(inputs) + self.reward_linear(inputs))[..., 0]


class Seen(NamedTuple):
    """What the model's minibatches held: the mean square of what it predicts, and the range of observations."""

    squares: Float[Array, " observation+1"]  # of the change and, last, of the reward
    lowest: Float[Array, " observation"]
    highest: Float[Array, " observation"]

    @property
    def scale(self) -> Float[Array, " observation+1"]:
        """The root of the mean squares; what never changes has scale 1."""
        return jnp.where(self.squares > 0, jnp.sqrt(self.squares), 1.0)

    def with_rows(self, s: Array, rows: Transition, change: Array, count: Array) -> "Seen":
        """And another minibatch, after ``count`` others."""
        squares = (jnp.concatenate([change, rows.rewards[:, None]], axis=-1) ** 2).mean(0)
        return Seen(
            self.squares + (squares - self.squares) / (count + 1),
            jnp.minimum(self.lowest, s.min(0)),
            jnp.maximum(self.highest, s.max(0)),
        )


class SVGState(NamedTuple):
    """Everything an SVG learner is."""

    normaliser: Normaliser
    model: Model
    seen: Seen
    actor: MLP  # s -> action before tanh
    critics: Critics
    target_critics: Critics
    model_optimiser: optax.OptState
    actor_optimiser: optax.OptState
    critics_optimiser: optax.OptState
    updates: Int[Array, ""]  # so far: the first ones are the model's


class Rollout(NamedTuple):
    """A policy's way through windows of the log, [w, n, ...]."""

    observations: Array  # normalised
    actions: Array
    rewards: Array
    next_observations: Array


@dataclass(frozen=True)
class SVG:
    """Hyperparameters of SVG. A minibatch has ``batch_size`` windows of ``window`` transitions in a row.

    ``moved`` are the columns of an observation that actions can move; the others, such as weather, prices and the
    clock, come as they were logged. Empty: all may be moved.

    Learners need `updates` of them: with fewer the actor's rate does not fall to zero, with more it stays there.
    """

    hidden: tuple[int, ...] = (128, 128)  # actor and critics
    model_hidden: tuple[int, ...] = (128, 128)
    batch_size: int = 16
    window: int = 96
    learning_rate: float = 1e-3  # the critics'; the model's falls from twice as much to zero along a cosine
    actor_rate: float = 5e-4  # the actor's, which falls to zero along a cosine
    model_updates: int = 3000  # the first updates fit the model
    policy_updates: int = 700  # those after them improve the actor and the critics
    discount: float = 0.995
    target_rate: float = 0.01  # Polyak step of the target critics
    noise: float = 0.3  # standard deviation of the noise on actions in rollouts
    moved: tuple[int, ...] = ()

    @property
    def updates(self) -> int:
        """All of them, as `TeachConfig` counts."""
        return self.model_updates + self.policy_updates

    @property
    def _adam(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)

    @property
    def _clipped(self) -> optax.GradientTransformation:
        rate = optax.cosine_decay_schedule(self.actor_rate, self.policy_updates)
        return optax.chain(optax.clip_by_global_norm(MAX_NORM), optax.adam(rate))

    @property
    def _model_adam(self) -> optax.GradientTransformation:
        return optax.adam(optax.cosine_decay_schedule(2 * self.learning_rate, self.model_updates))

    # ------------------------------------------------------------------ the contract (see base.Algorithm)

    def init(self, key: Array, spec: Spec, normaliser: Normaliser) -> SVGState:
        """A fresh learner."""
        model_key, actor_key, critics_key = jax.random.split(key, 3)
        model = Model(model_key, spec, self.model_hidden)
        actor = MLP(actor_key, spec.observation_dim, self.hidden, spec.action_dim)
        critics = Critics(critics_key, spec, self.hidden)
        nothing = jnp.zeros(spec.observation_dim)
        return SVGState(
            normaliser,
            model,
            Seen(jnp.zeros(spec.observation_dim + 1), nothing, nothing),
            actor,
            critics,
            critics,
            self._model_adam.init(model),
            self._clipped.init(actor),
            self._adam.init(critics),
            jnp.zeros((), jnp.int32),
        )

    def update(self, state: SVGState, batch: Transition, key: Array) -> tuple[SVGState, Metrics]:
        """One step on the model, or on the critics and the actor; ``batch`` is [n, window, ...]."""
        learns_model = state.updates < self.model_updates
        state, metrics = jax.lax.cond(
            learns_model, lambda: self._fit(state, batch), lambda: self._improve(state, batch, key)
        )
        return state._replace(updates=state.updates + 1), metrics

    def act(self, state: SVGState, observations: Array, key: Array) -> Array:
        """The actor's action."""
        del key
        return jnp.tanh(state.actor(state.normaliser(observations)))

    def targets(self, state: SVGState, observations: Array, actions: Array, key: Array) -> Targets:
        """Value of the logged action by the first critic; the one candidate is the actor's action, no latents."""
        del key
        s = state.normaliser(observations)
        latents = jnp.zeros((*actions.shape[:-1], 0))
        return Targets(state.critics.first(s, actions), latents, jnp.tanh(state.actor(s)))

    # ------------------------------------------------------------------ the two kinds of update

    def _fit(self, state: SVGState, batch: Transition) -> tuple[SVGState, Metrics]:
        """One step on the model, on all transitions of the windows."""
        rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)
        s, s_next = state.normaliser(rows.observations), state.normaliser(rows.next_observations)
        seen = state.seen.with_rows(s, rows, s_next - s, state.updates)
        loss, grad = jax.value_and_grad(model_loss_fn)(state.model, s, rows, s_next, seen.scale, self.moved)
        model, optimiser = gradient_step(self._model_adam, grad, state.model_optimiser, state.model)
        state = state._replace(model=model, seen=seen, model_optimiser=optimiser)
        return state, {"model_loss": loss, "critics_loss": jnp.zeros(()), "q_mean": jnp.zeros(())}

    def _improve(self, state: SVGState, batch: Transition, key: Array) -> tuple[SVGState, Metrics]:
        """One step on the actor and one on the critics, both by the same rollouts."""
        batch = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), batch)  # [window, n, ...]
        noise = self.noise * jax.random.normal(key, batch.actions.shape)

        def loss(actor: MLP) -> tuple[Array, tuple[Rollout, Array]]:
            path = rollout(state.model, state.seen, actor, state.normaliser, batch, noise, self.moved)
            following = state.target_critics(path.next_observations, jnp.tanh(actor(path.next_observations))).min(0)
            y = path_returns(path.rewards, following, batch, self.discount)
            saturation = jnp.maximum(jnp.abs(actor(path.observations)) - SATURATED, 0.0) ** 2
            return -y[0].mean() / state.seen.scale[-1] + saturation.mean(), (path, y)

        grad, (path, y) = jax.grad(loss, has_aux=True)(state.actor)
        actor, actor_optimiser = gradient_step(self._clipped, grad, state.actor_optimiser, state.actor)
        path, y = jax.lax.stop_gradient((path, y))
        (critics_loss, q), grad = jax.value_and_grad(critics_loss_fn, has_aux=True)(
            state.critics, path.observations, path.actions, y
        )
        critics, critics_optimiser = gradient_step(self._adam, grad, state.critics_optimiser, state.critics)
        state = state._replace(
            actor=actor,
            critics=critics,
            target_critics=polyak(state.target_critics, critics, self.target_rate),
            actor_optimiser=actor_optimiser,
            critics_optimiser=critics_optimiser,
        )
        return state, {"model_loss": jnp.zeros(()), "critics_loss": critics_loss, "q_mean": q.mean()}


# ---------------------------------------------------------------------- rollouts and losses


def columns(moved: tuple[int, ...], size: int) -> Bool[Array, " size"]:
    """Which of ``size`` columns may be moved; where none is named, all."""
    return jnp.isin(jnp.arange(size), jnp.array(moved)) if moved else jnp.ones(size, bool)


def begins(batch: Transition) -> Bool[Array, "w n"]:
    """Where a window [w, n, ...] enters another episode: a transition that does not follow from the one before it."""
    follows = (batch.observations[1:] == batch.next_observations[:-1]).all(-1) & ~batch.terminations[:-1]
    return jnp.concatenate([jnp.ones_like(follows[:1]), ~follows])


def rollout(
    model: Model,
    seen: Seen,
    actor: MLP,
    normaliser: Normaliser,
    batch: Transition,
    noise: Array,
    moved: tuple[int, ...],
) -> Rollout:
    """The actor's way through windows [w, n, ...], with the log's residuals, within the range of what was logged.

    It sets out from a window's first observation, and from the first one of every episode that the window enters; in
    every second window with the logged action: so do the critics learn what logged actions are worth.
    """
    may_move = columns(moved, batch.observations.shape[-1])
    logged, logged_next = normaliser(batch.observations), normaliser(batch.next_observations)
    as_logged = jnp.arange(batch.rewards.shape[1]) % 2 == 0

    def step(s: Array, given: tuple[Array, ...]) -> tuple[Array, Rollout]:
        begin, own, own_next, own_action, own_reward, shift = given
        s = jnp.where(begin[:, None], own, s)
        a = jnp.where((begin & as_logged)[:, None], own_action, jnp.clip(jnp.tanh(actor(s)) + shift, -1.0, 1.0))
        moves = s - own + (model.change(s, a) - model.change(own, own_action)) * seen.scale[:-1]
        s_next = jnp.where(may_move, within(own_next + moves, seen.lowest, seen.highest), own_next)
        earns = model.reward(s, a, s_next) - model.reward(own, own_action, own_next)
        return s_next, Rollout(s, a, own_reward + earns * seen.scale[-1], s_next)

    given = begins(batch), logged, logged_next, batch.actions, batch.rewards, noise
    found: Rollout = jax.lax.scan(step, logged[0], given)[1]
    return found


def within(x: Array, low: Array, high: Array) -> Array:
    """Clipped, but with the gradient of ``x``: a policy that runs out of the range must find back."""
    return x + jax.lax.stop_gradient(jnp.clip(x, low, high) - x)


def path_returns(rewards: Array, following: Array, batch: Transition, discount: float) -> Float[Array, "w n"]:
    """Discounted rewards from each step to the end of its window or episode, and what follows there by the critics."""
    last = jnp.concatenate([begins(batch)[1:], jnp.ones_like(batch.terminations[:1])])

    def step(later: Array, given: tuple[Array, ...]) -> tuple[Array, Array]:
        reward, value, ends, terminated = given
        found = reward + discount * jnp.where(terminated, 0.0, jnp.where(ends, value, later))
        return found, found

    given = rewards, following, last, batch.terminations
    returns: Array = jax.lax.scan(step, jnp.zeros_like(rewards[0]), given, reverse=True)[1]
    return returns


def model_loss_fn(
    model: Model, s: Array, rows: Transition, s_next: Array, scale: Array, moved: tuple[int, ...]
) -> Array:
    """Mean squared error of the columns that move, plus that of the reward, each in units of its mean square."""
    changes = (model.change(s, rows.actions) - (s_next - s) / scale[:-1]) ** 2
    rewards = (model.reward(s, rows.actions, s_next) - rows.rewards / scale[-1]) ** 2
    return changes.mean(0).mean(where=columns(moved, s.shape[-1])) + rewards.mean()
