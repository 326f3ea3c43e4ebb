"""Frozen batches as training reads them: from where they lie, so that they may be larger than the memory.

Nothing is copied when a batch is opened. A training loop draws indices for some updates at once, and `Replay.take_from`
reads those transitions alone; what the operating system keeps of the files in its cache is its own affair. Where it
cannot keep all of them, `windows.py` has what is drawn from.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from bmrl.data import Batch
from bmrl.errors import BmrlError
from bmrl.types import Transition

BLOCK_BYTES = 1 << 24  # of transitions that are read at once where all of a batch is gone through


class Log(Protocol):
    """One MDP's transitions, n in number, in the order in which they were logged."""

    @property
    def size(self) -> int:
        """n."""

    @property
    def dims(self) -> tuple[int, int]:
        """The numbers of an observation, and of an action."""

    def take(self, index: Int[np.ndarray, "*m"]) -> Transition:
        """The transitions at ``index``."""

    def starts(self, index: Int[np.ndarray, "*m"]) -> Int[np.ndarray, "*m"]:
        """The first transition of the episode that each of these belongs to."""

    def visited(self) -> Iterator[Float[np.ndarray, "rows observation"]]:
        """All observations, with those after the last transitions of episodes, some at a time."""


class Episodes(NamedTuple):
    """A log as a batch stores it: each observation once. Transition t of episode e has rows t + e and t + e + 1."""

    observations: Float[np.ndarray, "rows observation"]
    actions: Float[np.ndarray, "n action"]
    rewards: Float[np.ndarray, " n"]
    terminations: Bool[np.ndarray, " n"]
    ends: Int[np.ndarray, " episodes"]  # one past the last transition of each

    @property
    def size(self) -> int:
        """See `Log`."""
        return len(self.actions)

    @property
    def dims(self) -> tuple[int, int]:
        """See `Log`."""
        return self.observations.shape[1], self.actions.shape[1]

    def rows(self, index: Int[np.ndarray, "*m"]) -> Int[np.ndarray, "*m"]:
        """The rows of the observations at which transitions begin: every episode before them has one row more."""
        return index + self.ends.searchsorted(index, side="right")

    def take(self, index: Int[np.ndarray, "*m"]) -> Transition:
        """See `Log`."""
        rows = self.rows(index)
        return Transition(  # ndarray.take is about twice as fast as indexing
            self.observations.take(rows, axis=0),
            self.actions.take(index, axis=0),
            self.rewards.take(index),
            self.observations.take(rows + 1, axis=0),
            self.terminations.take(index),
        )

    def starts(self, index: Int[np.ndarray, "*m"]) -> Int[np.ndarray, "*m"]:
        """See `Log`."""
        episode = self.ends.searchsorted(index, side="right")
        return np.where(episode > 0, self.ends[episode - 1], 0)

    def visited(self) -> Iterator[Float[np.ndarray, "rows observation"]]:
        """See `Log`."""
        rows = block_rows(self)
        for start in range(0, len(self.observations), rows):
            yield self.observations[start : start + rows]


@dataclass(frozen=True, eq=False)
class Replay:
    """The logs of K MDPs."""

    logs: tuple[Log, ...]

    def __len__(self) -> int:
        """K."""
        return len(self.logs)

    @cached_property
    def size(self) -> Int[np.ndarray, " K"]:
        """Transitions of each."""
        return np.array([log.size for log in self.logs], np.int32)

    def of(self, batches: Iterable[int]) -> "Replay":
        """The logs of some of the MDPs."""
        return Replay(tuple(self.logs[k] for k in batches))

    def take_from(self, mdp: Int[np.ndarray, "*m"], index: Int[np.ndarray, "*m"]) -> Transition:
        """The transitions at ``index`` of the logs of ``mdp``."""
        found = self._gather(mdp, index, lambda log, index: log.take(index))
        return Transition(*(x.reshape((*np.shape(mdp), *x.shape[1:])) for x in found))

    def starts_of(self, mdp: Int[np.ndarray, "*m"], index: Int[np.ndarray, "*m"]) -> Int[np.ndarray, "*m"]:
        """The first transitions of the episodes that these belong to."""
        return self._gather(mdp, index, lambda log, index: (log.starts(index),))[0].reshape(np.shape(mdp))

    def _gather(
        self, mdp: np.ndarray, index: np.ndarray, read: Callable[[Log, np.ndarray], tuple[np.ndarray, ...]]
    ) -> list[np.ndarray]:
        """What ``read`` has for each of m entries, flat: a log is read once for all entries of its MDP."""
        mdp, index = np.ravel(mdp), np.ravel(index)
        order = np.argsort(mdp, kind="stable")
        which, first = np.unique(mdp[order], return_index=True)
        sorted_index, ends = index[order], [*first[1:].tolist(), len(mdp)]
        groups = zip(which.tolist(), first.tolist(), ends, strict=True)
        parts = [read(self.logs[k], sorted_index[start:end]) for k, start, end in groups]
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return [np.concatenate(arrays).take(back, axis=0) for arrays in zip(*parts, strict=True)]


def stack(batches: Sequence[Batch]) -> Replay:
    """K batches as one Replay."""
    return Replay(
        tuple(Episodes(b.observations, b.actions, b.rewards, b.terminations, b.episode_ends) for b in batches)
    )


def block_rows(log: Log) -> int:
    """How many transitions of a log fit into `BLOCK_BYTES`, one at least."""
    observation, action = log.dims
    return max(1, BLOCK_BYTES // (4 * (2 * observation + action + 2)))


def gone_through(log: Log) -> Iterator[Transition]:
    """All transitions of a log in their order, some at a time."""
    rows = block_rows(log)
    for start in range(0, log.size, rows):
        yield log.take(np.arange(start, min(start + rows, log.size)))


def copied(log: Log, pieces: Sequence[tuple[int, int]]) -> Episodes:
    """A copy of pieces of a log, (first transition, one past the last), one after the other.

    What is cut of an episode is an episode of its own, and so is what ends in another observation than the next
    transition begins with.
    """
    size, (observation, action) = sum(stop - first for first, stop in pieces), log.dims
    observations = np.empty((2 * size, observation), np.float32)  # rows that nobody writes to take no memory
    actions, rewards = np.empty((size, action), np.float32), np.empty(size, np.float32)
    terminations, ends = np.empty(size, bool), []
    done = rows_done = 0
    for first, stop in pieces:
        index, part = np.arange(first, stop), slice(done, done + stop - first)
        taken = log.take(index)
        ended = (taken.next_observations[:-1] != taken.observations[1:]).any(-1) | (np.diff(log.starts(index)) != 0)
        rows = rows_done + np.arange(len(index)) + np.append(0, np.cumsum(ended))
        observations[rows], observations[rows + 1] = taken.observations, taken.next_observations
        actions[part], rewards[part], terminations[part] = taken.actions, taken.rewards, taken.terminations
        ends.append(done + np.append(ended.nonzero()[0] + 1, len(index)))
        done, rows_done = part.stop, rows[-1] + 2
    return Episodes(observations[:rows_done], actions, rewards, terminations, np.concatenate(ends))


def select(log: Log, choose: Callable[[int], np.ndarray]) -> Episodes:
    """A copy of those episodes of a log that ``choose`` picks, given how many there are, in its order."""
    first = np.unique(log.starts(np.arange(log.size)))
    bounds = np.append(first, log.size)
    return copied(log, [(int(bounds[i]), int(bounds[i + 1])) for i in choose(len(first))])


def best_episodes(replay: Replay, share: float) -> Replay:
    """`best_of` each log; the logs themselves, and no copies, where all of them are wanted."""
    return replay if share == 1 else Replay(tuple(best_of(log, share) for log in replay.logs))


def bounds_of(
    chunks: Iterable[Float[np.ndarray, "n d"]],
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]]:
    """The lowest and the highest value of each column of rows that come some at a time."""
    low, high = zip(*((rows.min(0), rows.max(0)) for rows in chunks), strict=True)
    return np.min(low, axis=0), np.max(high, axis=0)


def check_share(share: float) -> None:
    """Raises BmrlError if the share of the best episodes is not in (0, 1]."""
    if not 0 < share <= 1:
        raise BmrlError(f"the share of the best episodes is {share}: it must be above 0 and at most 1")


def best_of(log: Log, share: float) -> Episodes:
    """A copy of the episodes with the highest returns, as many as hold ``share`` of the transitions, in their order.

    Raises BmrlError if the share is not in (0, 1].
    """
    check_share(share)
    rewards = np.concatenate([part.rewards for part in gone_through(log)], dtype=np.float64)
    first = np.unique(log.starts(np.arange(log.size)))
    order = np.argsort(-np.add.reduceat(rewards, first), kind="stable")
    held = np.diff(np.append(first, log.size))[order].cumsum()
    count = int(held.searchsorted(share * log.size)) + 1
    return select(log, lambda _: np.sort(order[:count]))


@dataclass(frozen=True, eq=False)
class Joined:
    """Logs one after the other as one, as if no one had noted which MDP a transition came from."""

    parts: Replay

    @property
    def size(self) -> int:
        """See `Log`."""
        return int(self.parts.size.sum(dtype=np.int64))

    @property
    def dims(self) -> tuple[int, int]:
        """See `Log`."""
        return self.parts.logs[0].dims

    def take(self, index: Int[np.ndarray, "*m"]) -> Transition:
        """See `Log`."""
        which, offset = self._part(index)
        return self.parts.take_from(which, index - offset)

    def starts(self, index: Int[np.ndarray, "*m"]) -> Int[np.ndarray, "*m"]:
        """See `Log`."""
        which, offset = self._part(index)
        return self.parts.starts_of(which, index - offset) + offset

    def visited(self) -> Iterator[Float[np.ndarray, "rows observation"]]:
        """See `Log`."""
        for log in self.parts.logs:
            yield from log.visited()

    def _part(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """In which part each transition lies, and how many transitions lie before that part."""
        ends = np.cumsum(self.parts.size, dtype=np.int64)
        which = np.searchsorted(ends, index, side="right")
        return which, (ends - self.parts.size)[which]


def pool(replay: Replay) -> Replay:
    """K logs as a single one."""
    return Replay((Joined(replay),))


def minibatches(replay: Replay, index: Int[np.ndarray, "K steps n"]) -> Transition:
    """For each of K logs its own transitions, [K, steps, n, ...]."""
    return jax.tree.map(lambda *x: np.stack(x), *(log.take(i) for log, i in zip(replay.logs, index, strict=True)))
