"""What training draws from: all transitions, or where they are larger than the memory a changing part of them.

To read single transitions from a disk takes up to a hundred times as long as to train on them; to read long pieces
does not. A window therefore holds some pieces of every log, copied into memory. Transitions are drawn from it,
uniformly as ever, until each was drawn `USES` times on average; then comes the next window. The pieces of a log come in
a random order, all of them before any of them comes again.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Int, UInt32

from bmrl.batch_rl.replay import Log, Replay, copied
from bmrl.runs.machine import memory_limit
from bmrl.runs.training import CHUNK

WHOLE = 2 / 3  # of the memory: what is larger is drawn from window by window
SHARE = 1 / 8  # of the memory: a window
PIECE_BYTES = 1 << 20  # which a disk reads about as fast as longer ones
USES = 2  # the time that a window takes to be read is then small beside that of training on it

Piece = tuple[int, int]  # of a log: its first transition, and one past its last


class Window(NamedTuple):
    """What some updates draw from."""

    replay: Replay  # of K logs, copies of pieces where these are not all
    beside: Any  # what there is of each transition beside the log


class Windows:
    """The windows of one training, a function of the keys, the logs, and how much memory there is."""

    def __init__(
        self, replay: Replay, keys: UInt32[np.ndarray, "K 2"], draws: int, beside: Any = None, everywhere: bool = False
    ):
        """``draws`` is how many transitions an update draws from all logs.

        ``beside`` has arrays [K, n, ...], or [K, K, n, ...] if ``everywhere``, of which those of a log's transitions
        are wanted with it.
        """
        self._replay, self._keys, self._beside = replay, keys, beside
        self._before = (slice(None),) if everywhere else ()  # the axes of ``beside`` before that of the logs
        row, limit = self._row_bytes(), memory_limit()
        self._whole = row * int(replay.size.sum(dtype=np.int64)) <= WHOLE * limit
        self._number, self._window = -1, Window(replay, beside)
        if not self._whole:
            length = max(1, PIECE_BYTES // row)
            self._cuts = [cuts(log, length) for log in replay.logs]
            wanted = max(1, round(SHARE * limit / (len(replay) * row * length)))
            self._pieces = [min(wanted, len(cut) - 1) for cut in self._cuts]
            shares = [n / (len(cut) - 1) for n, cut in zip(self._pieces, self._cuts, strict=True)]
            self._updates = max(CHUNK, int(USES * np.dot(shares, replay.size) / draws))

    def at(self, step: int) -> Window:
        """What the updates from ``step`` on draw from, `CHUNK` of them at most."""
        if not self._whole and (number := step // self._updates) != self._number:
            self._window = Window(Replay(()), None)  # its memory goes first
            self._number, self._window = number, self._read(number)
        return self._window

    def _row_bytes(self) -> int:
        """Bytes of a transition, with what there is of it beside; an episode's last observation counts for little."""
        observation, action = self._replay.logs[0].dims
        counted = [x.nbytes // int(np.prod(x.shape[len(self._before) :][:2])) for x in jax.tree.leaves(self._beside)]
        return 4 * (observation + action + 1) + 1 + sum(counted)

    def _read(self, number: int) -> Window:
        pieces = [self._pieces_of(k, number) for k in range(len(self._replay))]
        replay = Replay(tuple(copied(log, of) for log, of in zip(self._replay.logs, pieces, strict=True)))
        longest = int(replay.size.max())
        return Window(replay, jax.tree.map(lambda x: self._beside_of(x, pieces, longest), self._beside))

    def _pieces_of(self, k: int, number: int) -> list[Piece]:
        """The pieces of log ``k`` in a window."""
        cut, n = self._cuts[k], self._pieces[k]
        rounds, places = np.divmod(number * n + np.arange(n), len(cut) - 1)
        orders = {r: np.random.default_rng([*self._keys[k].tolist(), r]).permutation(len(cut) - 1) for r in set(rounds)}
        chosen = [orders[r][place] for r, place in zip(rounds, places, strict=True)]
        return [(int(cut[i]), int(cut[i + 1])) for i in chosen]

    def _beside_of(self, array: np.ndarray, pieces: Sequence[Sequence[Piece]], longest: int) -> np.ndarray:
        """Of an array of ``beside`` what belongs to these pieces of the logs, padded to ``longest`` transitions."""
        axis = len(self._before) + 1  # of the transitions
        found = np.zeros((*array.shape[:axis], longest, *array.shape[axis + 1 :]), array.dtype)
        for k, of in enumerate(pieces):
            done = 0
            for first, stop in of:
                found[(*self._before, k, slice(done, done + stop - first))] = array[
                    (*self._before, k, slice(first, stop))
                ]
                done += stop - first
        return found


def cuts(log: Log, length: int) -> Int[np.ndarray, " pieces+1"]:
    """Where pieces of about ``length`` transitions begin, none shorter than half of it, and the log's end.

    A piece begins with an episode, unless that is longer than a piece.
    """
    at = np.arange(length, log.size, length)
    first = log.starts(at)
    kept = [0]
    for cut in np.where(first > at - length, first, at).tolist():
        if min(cut - kept[-1], log.size - cut) >= length / 2:
            kept.append(cut)
    return np.array([*kept, log.size])
