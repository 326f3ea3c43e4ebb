"""Fitted Q evaluation (Le, Voloshin & Yue 2019): what a fixed policy earns, from logs of other policies alone.

A policy that chooses by the observation alone makes an MDP a Markov chain of pairs (s, a), whose next pair is
(s', policy(s')). Its value is learned as phase 1 learns: from a log of pairs (`Pairs`), by a learner (`FQE`) that
`teach` trains.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from bmrl.batch_rl.base import Metrics, gradient_step, polyak
from bmrl.batch_rl.replay import Episodes, gone_through
from bmrl.networks import MLP, Normaliser
from bmrl.types import Spec, Transition


class FQEState(NamedTuple):
    """A learner of the value of pairs, in the unit of `Pairs.rewards`."""

    normaliser: Normaliser
    critic: MLP
    target: MLP  # its running mean, which the estimates are of
    optimiser: optax.OptState

    def values(self, pairs: Float[Array, "*n pair"]) -> Float[Array, "*n"]:
        """The policy's value after each pair (s, a)."""
        return self.target(self.normaliser(pairs))[..., 0]


@dataclass(frozen=True)
class FQE:
    """Hyperparameters."""

    hidden: tuple[int, ...] = (128, 128)
    batch_size: int = 256
    learning_rate: float = 1e-3
    discount: float = 0.99
    target_rate: float = 0.05  # Polyak step of the target network

    @property
    def _adam(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)

    # ------------------------------------------------------------------ the contract (see base.Learner)

    def init(self, key: Array, spec: Spec, normaliser: Normaliser) -> FQEState:
        """A fresh learner; ``spec`` is that of pairs."""
        critic = MLP(key, spec.observation_dim, self.hidden, 1)
        return FQEState(normaliser, critic, critic, self._adam.init(critic))

    def update(self, state: FQEState, batch: Transition, key: Array) -> tuple[FQEState, Metrics]:
        """One step towards the reward and the value of the next pair."""
        del key
        y = fqe_target(batch.rewards, batch.terminations, state.values(batch.next_observations), self.discount)
        x = state.normaliser(batch.observations)
        (loss, q), grad = jax.value_and_grad(fqe_loss, has_aux=True)(state.critic, x, y)
        critic, optimiser = gradient_step(self._adam, grad, state.optimiser, state.critic)
        target = polyak(state.target, critic, self.target_rate)
        return FQEState(state.normaliser, critic, target, optimiser), {"fqe_loss": loss, "q_mean": q.mean()}


def fqe_target(rewards: Array, terminations: Array, next_values: Array, discount: float) -> Float[Array, "*n"]:
    """r + gamma Q'(s', policy(s')) (Le, Voloshin & Yue 2019, Algorithm 3), within what returns can be in this unit."""
    return jnp.clip(rewards + discount * jnp.where(terminations, 0.0, next_values), -1.0, 1.0)


def fqe_loss(critic: MLP, x: Array, y: Array) -> tuple[Array, Array]:
    """The mean squared error to the target."""
    q = critic(x)[..., 0]
    return ((q - jax.lax.stop_gradient(y)) ** 2).mean(), q


# ---------------------------------------------------------------------- what it learns from


@dataclass(frozen=True, eq=False)
class Pairs:
    """A log as transitions between pairs (s, a) -> (s', policy(s')), whose episodes were drawn: see `Log`.

    Rewards are shifted by their mean and scaled so that no discounted return leaves [-1, 1]. A termination is a state
    that pays 0 for ever, whose shifted value its transition has in its reward: the shift changes no comparison.
    """

    log: Episodes
    chosen: Float[np.ndarray, "rows action"]  # the policy's actions at all observations of the log
    episodes: Int[np.ndarray, " drawn"]  # which count, as often as they are named
    discount: float

    @cached_property
    def index(self) -> Int[np.ndarray, " n"]:
        """The transitions of the drawn episodes."""
        starts = np.concatenate([[0], self.log.ends[:-1]])[self.episodes]
        return np.concatenate([np.arange(a, b) for a, b in zip(starts, self.log.ends[self.episodes], strict=True)])

    @cached_property
    def shift(self) -> float:
        """The mean reward of the log."""
        return float(np.mean(self.log.rewards, dtype=np.float64))

    @cached_property
    def scale(self) -> float:
        """The largest discounted return that differs from that of the mean reward at every step, in rewards' unit."""
        largest = max(float(np.abs(t.rewards - self.shift).max()) for t in gone_through(self.log))
        if self.log.terminations.any():
            largest = max(largest, abs(self.shift))
        return max(largest, 1e-12) / (1 - self.discount)

    def returns(self, values: np.ndarray) -> np.ndarray:
        """Values of `FQEState` as discounted returns in the rewards' unit."""
        return self.shift / (1 - self.discount) + self.scale * np.asarray(values, np.float64)

    @property
    def size(self) -> int:
        """See `Log`."""
        return len(self.index)

    @property
    def dims(self) -> tuple[int, int]:
        """See `Log`: a pair is an observation, and there is no action."""
        return sum(self.log.dims), 0

    def take(self, index: Int[np.ndarray, "*m"]) -> Transition:
        """See `Log`."""
        index = self.index[index]
        t, rows = self.log.take(index), self.log.rows(index)
        after = np.where(t.terminations, -self.shift * self.discount / (1 - self.discount), 0.0)
        return Transition(
            np.concatenate([t.observations, t.actions], axis=-1),
            t.actions[..., :0],
            ((t.rewards - self.shift + after) / self.scale).astype(np.float32),
            np.concatenate([t.next_observations, self.chosen[rows + 1]], axis=-1),
            t.terminations,
        )

    def starts(self, index: Int[np.ndarray, "*m"]) -> Int[np.ndarray, "*m"]:
        """See `Log`."""
        lengths = np.diff(self.log.ends, prepend=0)[self.episodes]
        ends = np.cumsum(lengths)
        return (ends - lengths)[np.searchsorted(ends, index, side="right")]

    def visited(self) -> Iterator[Float[np.ndarray, "rows pair"]]:
        """See `Log`; the pairs of the log."""
        for t in gone_through(self):
            yield t.observations

    def lag(self, state: FQEState) -> float:
        """What the values of ``state`` still lack on average, in their unit: the mean error of the targets, for ever.

        At the fixed point the mean error is 0. A value that is off by the same everywhere comes nearer by a share of
        1 - discount alone each time the running mean has followed, so that this part is solved for instead.
        """
        total = 0.0
        for t in gone_through(self):
            later = np.where(t.terminations, 0.0, state.values(t.next_observations))
            total += float((t.rewards + self.discount * later - state.values(t.observations)).sum())
        goes_on = self.size - float(self.log.terminations[self.index].sum())
        return total / (self.size - self.discount * goes_on)

    def first(self) -> Float[np.ndarray, "drawn pair"]:
        """The policy's first pair of each drawn episode."""
        starts = np.concatenate([[0], self.log.ends[:-1]])[self.episodes]
        rows = self.log.rows(starts)
        return np.concatenate([self.log.observations[rows], self.chosen[rows]], axis=-1)
