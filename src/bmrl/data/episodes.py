"""From the rows of one MDP's log to its episodes: what follows what, what is missing, and where an episode ends.

A row holds an observation, the action taken then, and an outcome (reward, end) of this action or of the last one:

    row            0     1     2     3   |   4  ...        the episode of row 0 ends in row 3
    observation   s_0   s_1   s_2   s_3
    transition     x     x     x                           s_3 is the next observation of s_2, its action leads nowhere

So an episode's last row is an observation alone, unless the log has next observations.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bmrl.data.checks import ACTION_TOLERANCE, LARGEST
from bmrl.data.import_report import Problem
from bmrl.data.mapping import Mapping
from bmrl.data.reward import RewardFunction
from bmrl.runs.storage import Scratch, ScratchArray

STEP_TOLERANCE = 0.1  # a step may be so much longer or shorter, relative to the mapping's
BLOCK_BYTES = 1 << 23  # of rows looked at together
FLAGS = ("terminations", "truncations")
STORED = ("actions", "rewards", *FLAGS)  # of each transition, and its infos
_LARGEST = dict.fromkeys(("observations", "next observation", "rewards"), LARGEST)

Array = NDArray[Any]


def row_type(observations: int, actions: int, following: bool, infos: dict[str, tuple[int, ...]]) -> np.dtype[Any]:
    """One row of a log as it waits on the disk; ``infos`` are their shapes."""
    fields: list[Any] = [
        ("observations", np.float32, (observations,)),
        ("actions", np.float32, (actions,)),
        ("rewards", np.float32),
        ("terminations", np.int8),
        ("truncations", np.int8),
        ("valid", np.bool_),  # it has an action
        ("exact", np.bool_),  # if it has one, the next row has its next observation, even where an episode ends
        ("episode", np.int64),
        ("time", np.float64),
        ("file", np.int32),
        ("row", np.int64),
        *((f"infos.{name}", np.float32, shape) for name, shape in infos.items()),
    ]
    if following:
        fields.append(("following", np.float32, (observations,)))
    return np.dtype(fields)


@dataclass
class Episodes:
    """The episodes of one MDP, on the disk, and what was found on the way.

    Attributes:
        observations: [N + E, d_s].
        transitions: [N], with the other fields of a batch.
        counts: "rows", "transitions", "episodes", "terminated", "truncated", "cut" (ended by the end of the rows, a gap
            or a missing value), "gaps", "missing" (rows), "duplicates", "observations" (rows that are an observation
            alone), "unused" (rows that are nothing) and "jumps" (next observations that the next row lacks).
        problems: {kind: the problem}.
    """

    observations: ScratchArray
    transitions: ScratchArray
    counts: Counter[str] = field(default_factory=Counter)
    problems: dict[str, Problem] = field(default_factory=dict)


@dataclass(frozen=True)
class Labels:
    """How to speak of rows and columns.

    Attributes:
        place: (file, row) -> "logs.csv, line 17".
        observations: names of the columns.
        actions: likewise.
        clock: of the times: "number", "local" or "utc"; None where there are none.
    """

    place: Callable[[int, int], str]
    observations: list[str]
    actions: list[str]
    clock: str | None

    def time(self, value: float) -> str:
        """A time as a person reads it."""
        if self.clock == "number":
            return f"{value:.12g}"
        shown = str(np.datetime64(round(value), "s")).replace("T", " ")
        return f"{shown} UTC" if self.clock == "utc" else shown


class Assembler:
    """Takes the rows of one MDP's log apart into episodes."""

    def __init__(self, name: str, mapping: Mapping, labels: Labels, reward: RewardFunction | None, scratch: Scratch):
        self._name, self._mapping, self._labels, self._reward = name, mapping, labels, reward
        self._late = mapping.outcome_of == "last action"
        self._scratch = scratch
        self._scale = scaling(mapping, len(labels.actions))
        self._whole = mapping.low is None

    def assemble(self, rows: Array) -> Episodes:
        """The episodes of all rows [n], a `row_type`."""
        infos = [name for name in rows.dtype.names or () if name.startswith("infos.")]
        kinds: list[Any] = [
            (name, np.bool_ if name in FLAGS else np.float32, rows.dtype[name].shape) for name in STORED
        ]
        kinds += [(name, np.float32, rows.dtype[name].shape) for name in infos]
        self._infos, self._stored = infos, np.dtype(kinds)
        self._found = Episodes(
            self._scratch((0, len(self._labels.observations)), np.float32),
            self._scratch((0,), self._stored),
        )
        index = self._order(rows)
        size = len(rows) if index is None else len(index)
        self._found.counts["rows"] = len(rows)
        step = max(1, BLOCK_BYTES // rows.dtype.itemsize)
        for start in range(0, size, step):
            # Whether a row is a transition, and its episode's last one, depends on one row before and two after it.
            first, stop = max(start - 1, 0), min(start + step + 2, size)
            block = rows[first:stop] if index is None else rows[index[first:stop]]
            self._block(block, start - first, min(step, size - start))
        counts = self._found.counts
        counts["unused"] = counts["rows"] - sum(counts[x] for x in ("transitions", "observations", "duplicates"))
        if self._whole and counts["transitions"] and "outside" not in self._found.problems:
            self._note("whole", rows[0], counts["transitions"])
        return self._found

    # ------------------------------------------------------------------ order

    def _order(self, rows: Array) -> NDArray[np.int64] | None:
        """The rows to take, in order; None for all as they are. Holds 32 bytes a row if rows are sorted or dropped."""
        mapping = self._mapping
        if mapping.unordered is None and mapping.duplicates is None:
            return None
        episode, time = rows["episode"], rows["time"]
        index = np.arange(len(rows))
        if mapping.unordered == "sort":
            index = np.lexsort((time, episode)) if mapping.time else np.argsort(episode, kind="stable")
        if mapping.duplicates is not None:
            same = (episode[index[1:]] == episode[index[:-1]]) & (time[index[1:]] == time[index[:-1]])
            drop = np.append(same, False) if mapping.duplicates == "last" else np.insert(same, 0, False)
            self._found.counts["duplicates"] = int(drop.sum())
            index = index[~drop]
        return index

    def _follows(self, block: Array, ended: Array, valid: Array) -> tuple[Array, Array]:
        """Where the next row has the next observation [n], and where time has a gap there [n]."""
        mapping = self._mapping
        follows = _next(block["episode"], -1) == block["episode"]
        follows[-1] = False
        follows &= block["exact"] | ~ended | (~_next(valid, True) & (not self._late))
        self._refuse("order", block, _next(block["episode"], np.iinfo(np.int64).max) < block["episode"])
        gap = np.zeros(len(block), bool)
        if mapping.time is None:
            return follows, gap
        apart = _next(block["time"], np.nan) - block["time"]
        self._refuse("backwards", block, follows & (apart < 0))
        self._refuse("repeated", block, follows & (apart == 0))
        assert mapping.step is not None
        if np.isfinite(mapping.step):
            gap = follows & (np.abs(apart - mapping.step) > STEP_TOLERANCE * mapping.step) & (apart > 0)
            if mapping.gaps is None and (gaps := np.flatnonzero(gap & self._own)).size:
                here, there = (self._labels.time(t) for t in block["time"][gaps[0] : gaps[0] + 2].tolist())
                self._refuse("gap", block, gap, f" ({here}, then {there})")
            if mapping.gaps == "cut":
                follows &= ~gap
        return follows, gap

    # ------------------------------------------------------------------ transitions

    def _block(self, block: Array, start: int, size: int) -> None:
        """Adds the transitions of rows ``start`` to ``start + size`` of a block that has their neighbours as well."""
        self._own = np.zeros(len(block), bool)
        self._own[start : start + size] = True
        counts = self._found.counts
        terminal, cut = block["terminations"] == 1, block["truncations"] == 1
        ended = terminal | cut
        bare = np.isnan(block["actions"]).all(axis=1)
        valid = block["valid"] & ~bare
        follows, gap = self._follows(block, ended, valid)
        counts["gaps"] += int((gap & self._own).sum())
        following, taken, goes_on, from_next = self._next_observations(block, follows, valid, terminal, ended)

        rewards = _next(block["rewards"], np.nan) if self._late else block["rewards"]
        flags = {name: _next(block[name], 0) if self._late else block[name] for name in FLAGS}
        lone = bare & block["valid"] & follows & ~np.concatenate([[False], ended[:-1]])
        values = {"observations": block["observations"], "next observation": following, "actions": block["actions"]}
        values |= {name: block[name] for name in self._infos}
        if self._reward is None:
            values["rewards"] = rewards
        missing = self._missing(block, taken, lone, values, flags)
        counts["missing"] += int((missing & self._own).sum())
        taken = taken & ~missing

        goes_on = goes_on & taken & _next(taken, False) & (flags["terminations"] != 1) & (flags["truncations"] != 1)
        last = taken & ~goes_on
        self._emit(block, taken & self._own, last, following, rewards, flags)
        counts["observations"] += int((last & self._own & from_next & ~_next(taken, False)).sum())

    def _next_observations(
        self, block: Array, follows: Array, valid: Array, terminal: Array, ended: Array
    ) -> tuple[Array, Array, Array, Array]:
        """The next observations, which rows are transitions, which go on in the next row, and which need it."""
        everywhere = np.ones(len(block), bool)
        if "following" in (block.dtype.names or ()):
            following = block["following"]
            here = _next(block["observations"], np.nan)
            same = (here.view(np.uint32) == following.view(np.uint32)).all(axis=1)
            self._found.counts["jumps"] += int((follows & ~same & valid & self._own).sum())
            return following, valid, follows & same & ~ended, ~everywhere
        following = _next(block["observations"], np.nan)
        taken = valid & follows
        lost = valid & terminal & ~follows & (not self._late)
        repeat = self._mapping.terminal_observation == "repeat"
        if self._mapping.terminal_observation is None:
            self._refuse("terminal", block, lost)
        if repeat:
            following = np.where(lost[:, None], block["observations"], following)
            taken = taken | lost
        return following, taken, follows, ~lost if repeat else everywhere

    def _missing(
        self, block: Array, taken: Array, lone: Array, values: dict[str, Array], flags: dict[str, Array]
    ) -> Array:
        """Which of the transitions lack a value; one that lacks several counts once, at the first in order."""
        missing = lone.copy()
        kinds: dict[str, tuple[int, str, Array]] = {}

        def note(kind: str, row: int, found: Array, more: str) -> None:
            first, label, known = kinds.get(kind, (row, more, found))
            kinds[kind] = first, label, known | found

        if (rows := np.flatnonzero(lone & self._own)).size:
            note("action missing", int(rows[0]), lone, "")
        for name, array in values.items():
            bad = ~(np.abs(array) <= _LARGEST.get(name, np.finfo(np.float32).max)).reshape(len(array), -1)
            found = bad.any(axis=1) & taken
            if (rows := np.flatnonzero(found & self._own)).size:
                row = int(rows[0])
                column = int(np.flatnonzero(bad[row])[0])
                value = float(array.reshape(len(array), -1)[row, column])
                names = {"observations": self._labels.observations, "actions": self._labels.actions}
                names["next observation"] = self._labels.observations
                label = f"{name} ({names[name][column]!r})" if name in names else name
                note("value missing" if np.isnan(value) else "value too large", row, found, f", {label}")
            missing |= found
        for name, flag in flags.items():
            found = (flag < 0) & taken
            if (rows := np.flatnonzero(found & self._own)).size:
                note("value missing", int(rows[0]), found, f", {name}")
            missing |= found
        if self._mapping.missing is None:
            for kind, (row, label, found) in kinds.items():
                self._note(kind, block[row], int((found & self._own).sum()), label)
        return missing

    def _emit(
        self, block: Array, taken: Array, last: Array, following: Array, rewards: Array, flags: dict[str, Array]
    ) -> None:
        rows = np.flatnonzero(taken)
        if not len(rows):
            return
        counts = self._found.counts
        last = last[rows]
        here = np.arange(len(rows)) + np.concatenate([[0], np.cumsum(last)[:-1]])  # an episode has one more
        observations = np.empty((len(rows) + int(last.sum()), block["observations"].shape[1]), np.float32)
        observations[here] = block["observations"][rows]
        observations[here[last] + 1] = following[rows[last]]
        actions = self._scaled(block, rows)
        if self._reward is not None:
            given = self._reward(self._name, block["observations"][rows], block["actions"][rows], following[rows])
            paid = given.astype(np.float32)
        else:
            paid = rewards[rows]
        terminations = flags["terminations"][rows] == 1
        logged = flags["truncations"][rows] == 1
        truncations = logged | (last & ~terminations)
        transitions = np.empty(len(rows), self._stored)
        found = {"actions": actions, "rewards": paid, "terminations": terminations, "truncations": truncations}
        for name in self._stored.names or ():
            transitions[name] = found[name] if name in found else block[name][rows]
        self._found.observations.append(observations)
        self._found.transitions.append(transitions)
        counts["transitions"] += len(rows)
        counts["episodes"] += int(last.sum())
        counts["terminated"] += int(terminations.sum())
        counts["truncated"] += int((logged & ~terminations).sum())
        counts["cut"] += int((truncations & ~logged).sum())

    def _scaled(self, block: Array, rows: Array) -> Array:
        """Actions in [-1, 1]."""
        low, high = self._scale
        logged = block["actions"][rows].astype(np.float64)
        self._whole &= bool((logged == np.round(logged)).all())
        identity = (low == -1) & (high == 1)
        scaled = np.where(identity, logged, (logged - low) * (2 / (high - low)) - 1).astype(np.float32)
        outside = np.abs(scaled) > 1 + ACTION_TOLERANCE
        if outside.any():
            first = np.argwhere(outside)[0]
            column = int(first[1])
            mask = np.zeros(len(block), bool)
            mask[rows[outside.any(axis=1)]] = True
            bounds = f"[{low[column]:g}, {high[column]:g}]"
            self._refuse(
                "outside", block, mask, f", {self._labels.actions[column]!r}: {logged[tuple(first)]:g}, not in {bounds}"
            )
        return scaled

    def _refuse(self, kind: str, block: Array, found: Array, more: str = "") -> None:
        """Notes a problem where ``found`` [n] is set in the block's own rows."""
        rows = np.flatnonzero(found & self._own)
        if len(rows):
            self._note(kind, block[rows[0]], len(rows), more)

    def _note(self, kind: str, row: Any, count: int, more: str = "") -> None:
        if kind not in self._found.problems:
            where = self._labels.place(int(row["file"]), int(row["row"])) + more
            self._found.problems[kind] = Problem(kind, where, 0)
        self._found.problems[kind].count += count


def scaling(mapping: Mapping, actions: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The bounds of every action, [d_a] each. Raises ``BmrlError`` where they are not as many, or crossed."""
    bounds = []
    for key, given in (("low", mapping.low or (-1.0,)), ("high", mapping.high or (1.0,))):
        if len(given) not in (1, actions):
            raise mapping.error(key, f"{len(given)} numbers for {actions} actions: one for all, or one for each")
        bounds.append(np.broadcast_to(np.array(given, np.float64), (actions,)))
    low, high = bounds
    if (crossed := np.flatnonzero(low >= high)).size:
        raise mapping.error(
            "high", f"the bounds of action {crossed[0]} are [{low[crossed[0]]:g}, {high[crossed[0]]:g}]"
        )
    return low, high


def _next(values: Array, beyond: Any) -> Array:
    """The values of the rows after these; ``beyond`` the last there is ``beyond``."""
    last = np.full((1, *values.shape[1:]), beyond, values.dtype)
    return np.concatenate([values[1:], last])
