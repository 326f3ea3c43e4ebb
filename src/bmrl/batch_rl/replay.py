"""Frozen batches as arrays that a compiled training loop samples from."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from bmrl.data import Batch
from bmrl.types import Transition


class Replay(NamedTuple):
    """One MDP's batch, of NumPy or JAX arrays; K of them are stacked along a leading axis and padded to the longest.

    Observations are stored once: transition t reads rows[t] and rows[t] + 1.
    """

    observations: Float[Any, "rows observation"]
    actions: Float[Any, "n action"]
    rewards: Float[Any, " n"]
    terminations: Bool[Any, " n"]
    rows: Int[Any, " n"]
    starts: Int[Any, " n"]  # the first transition of the episode that each transition belongs to
    size: Int[Any, ""]  # transitions without padding

    def take(self, index: Int[Any, "*m"]) -> Transition:
        """The transitions at ``index``."""
        rows = self.rows[index]
        return Transition(
            self.observations[rows],
            self.actions[index],
            self.rewards[index],
            self.observations[rows + 1],
            self.terminations[index],
        )

    def take_from(self, mdp: Int[Any, "*m"], index: Int[Any, "*m"]) -> Transition:
        """The transitions at ``index`` of batch ``mdp``, of K stacked batches."""
        rows = self.rows[mdp, index]
        return Transition(
            self.observations[mdp, rows],
            self.actions[mdp, index],
            self.rewards[mdp, index],
            self.observations[mdp, rows + 1],
            self.terminations[mdp, index],
        )

    def sample(self, key: Array, count: int) -> Transition:
        """``count`` transitions, uniformly with replacement."""
        return self.take(jax.random.randint(key, (count,), 0, self.size))


def stack(batches: Sequence[Batch]) -> Replay:
    """K batches as one Replay of numpy arrays [K, ...]."""

    def starts(batch: Batch) -> np.ndarray:
        lengths = batch.episode_ends - batch.episode_starts
        return np.repeat(batch.episode_starts, lengths).astype(np.int32)

    return Replay(
        _pad([np.asarray(b.observations) for b in batches]),
        _pad([np.asarray(b.actions) for b in batches]),
        _pad([np.asarray(b.rewards) for b in batches]),
        _pad([np.asarray(b.terminations) for b in batches]),
        _pad([np.asarray(b.rows, np.int32) for b in batches]),
        _pad([starts(b) for b in batches]),
        np.array([b.size for b in batches], np.int32),
    )


def _pad(arrays: list[np.ndarray]) -> np.ndarray:
    out = np.zeros((len(arrays), max(map(len, arrays)), *arrays[0].shape[1:]), arrays[0].dtype)
    for k, x in enumerate(arrays):
        out[k, : len(x)] = x
    return out


def select(replay: Replay, choose: Callable[[int], np.ndarray]) -> Replay:
    """Of each of K batches [K, ...] the episodes that ``choose`` picks, given how many there are, in its order."""
    parts = []
    for k, n in enumerate(replay.size):
        first = np.unique(replay.starts[k, :n])
        chosen = choose(len(first))
        lengths = np.diff(first, append=n)[chosen]
        index = np.concatenate([np.arange(x, x + t) for x, t in zip(first[chosen], lengths, strict=True)])
        # an episode's observations, with the one after its last transition
        rows = [np.arange(x, x + t + 1) for x, t in zip(replay.rows[k, first[chosen]], lengths, strict=True)]
        parts.append(
            Replay(
                replay.observations[k, np.concatenate(rows)],
                replay.actions[k, index],
                replay.rewards[k, index],
                replay.terminations[k, index],
                (np.arange(len(index)) + np.repeat(np.arange(len(lengths)), lengths)).astype(np.int32),
                np.repeat(np.cumsum([0, *lengths[:-1]]), lengths).astype(np.int32),
                len(index),
            )
        )
    return Replay(
        _pad([part.observations for part in parts]),
        _pad([part.actions for part in parts]),
        _pad([part.rewards for part in parts]),
        _pad([part.terminations for part in parts]),
        _pad([part.rows for part in parts]),
        _pad([part.starts for part in parts]),
        np.array([part.size for part in parts], np.int32),
    )


def concatenate(replays: Sequence[Replay]) -> Replay:
    """Batches [K, ...] and others [L, ...] as [K + L, ...]."""
    return Replay(
        *(
            _pad([x for array in arrays for x in array]) if arrays[0].ndim > 1 else np.concatenate(arrays)
            for arrays in zip(*replays, strict=True)
        )
    )


def pool(replay: Replay) -> Replay:
    """K batches [K, ...] as one batch [1, ...], as if no one had noted which MDP a transition came from."""
    used = [replay.rows[k, n - 1] + 2 for k, n in enumerate(replay.size)]  # observation rows without padding
    row_offsets, offsets = np.cumsum([0, *used[:-1]]), np.cumsum([0, *replay.size[:-1]])

    def join(x: np.ndarray, lengths: Sequence[int] | np.ndarray, offset: np.ndarray | None = None) -> np.ndarray:
        parts = [x[k, :n] if offset is None else x[k, :n] + offset[k] for k, n in enumerate(lengths)]
        return np.concatenate(parts)[None].astype(x.dtype)

    return Replay(
        join(replay.observations, used),
        join(replay.actions, replay.size),
        join(replay.rewards, replay.size),
        join(replay.terminations, replay.size),
        join(replay.rows, replay.size, row_offsets),
        join(replay.starts, replay.size, offsets),
        replay.size.sum(keepdims=True).astype(np.int32),
    )
