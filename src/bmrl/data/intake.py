"""Distributes the rows of files among MDPs, in the form in which episodes are made of them."""

import contextlib
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from bmrl.data.checks import LARGEST, MAX_WIDTH
from bmrl.data.clock import Clock
from bmrl.data.episodes import FLAGS, Array, Labels, row_type, scaling
from bmrl.data.mapping import NONE, Mapping, Pick
from bmrl.data.parameters import read_parameters
from bmrl.data.readers import MISSING_FLAG, Chunk, Key, Reader, Source, Times, Use
from bmrl.data.sources import ONLY, discrete_arrays, name_from_file
from bmrl.runs.storage import Scratch, ScratchArray, raise_open_files_limit

MAX_MDPS = 10_000  # a column that names more is hardly that of the MDPs
LEVELS = 10  # of a column, at least, that float32 has to tell apart
OTHER_FILES = 100  # that the process holds open: the logs, libraries, the screen


@dataclass
class Log:
    """The rows of one MDP, as they come.

    Attributes:
        rows: on the disk, a `row_type` each.
        files: the numbers of the files that they come from.
        episodes: {(file, its name there): number}, by first appearance.
        clock: of its local times.
        padding: how many rows more were nothing.
    """

    rows: ScratchArray
    clock: Clock | None
    padding: int = 0
    files: set[int] = field(default_factory=set)
    episodes: dict[Any, int] = field(default_factory=dict)


class Intake:
    """Distributes the rows of files among MDPs.

    Attributes:
        readers: of the files so far.
        logs: {MDP's name: its rows}.
        labels: names of columns.
        parameters: {MDP's name: its parameters}, where the mapping names a table of them.
    """

    def __init__(self, mapping: Mapping, scratch: Scratch):
        self.mapping, self.scratch = mapping, scratch
        self.readers: list[Reader] = []
        self.logs: dict[str, Log] = {}
        self._type: np.dtype[Any] | None = None
        self._clock: str | None = None
        self._zone = _zone(mapping)
        self._marks = _marks(mapping)
        self._ranges: dict[tuple[str, str], tuple[float, float]] = {}  # {(the mapping's key, column): least, greatest}
        self.parameters = read_parameters(mapping)
        self._most = min(MAX_MDPS, (raise_open_files_limit() - OTHER_FILES) // 2)  # two arrays of each wait in files
        self.labels = Labels(self._place, [], [], None)

    def read(self, reader: Reader) -> Iterator[int]:
        """Takes in all rows of a file, some at a time; yields how many."""
        self.readers.append(reader)
        mapping, number = self.mapping, len(self.readers) - 1
        where = str(reader.source.path)
        self._vectors = {
            key: [pick for spec in getattr(mapping, key) for pick in mapping.pick(key, spec, reader.names, where)]
            for key in ("observations", "actions", "next_observations")
        }
        self._refuse_choices(reader.source)
        said = {key: getattr(mapping, key) for key in _USES} | {"time": mapping.time and mapping.time[0]}
        self._columns = {key: self._one(key, spec, reader) for key, spec in said.items() if spec not in (None, NONE)}
        infos = {name: self._one("infos", spec, reader).name for name, spec in mapping.infos.items()}
        uses: dict[str, Use] = {pick.name: "number" for picks in self._vectors.values() for pick in picks}
        uses |= dict.fromkeys(infos.values(), "number")
        clocks = [("time", self._one("time", spec, reader)) for spec in (mapping.time or ())[1:]]
        for key, pick in [*self._columns.items(), *clocks]:
            if uses.setdefault(pick.name, _USES[key]) != _USES[key]:
                raise mapping.error(
                    key, f"the column {pick.name!r} has another use already: give the logs a copy of it"
                )
        for chunk in reader.chunks(uses):
            if chunk.size:
                self._unmark(chunk, uses)
                self._take(number, chunk, infos)
                yield chunk.size

    def check_precision(self) -> None:
        """Raises ``BmrlError`` where float32, which batches hold, leaves hardly anything of how a column varies."""
        for (key, name), (low, high) in self._ranges.items():
            apart = float(np.spacing(np.float32(max(abs(low), abs(high)))))
            if apart > (high - low) / LEVELS > 0:
                raise self.mapping.error(
                    key,
                    f"{name!r} lies between {low:.12g} and {high:.12g}: batches hold float32, in which numbers of "
                    f"that size are {apart:g} apart; subtract a constant first (of a counter, give the differences), "
                    "or leave it out",
                )

    def _refuse_choices(self, source: Source) -> None:
        """Raises ``BmrlError`` where numbers of a Minari dataset are choices: they would be taken for amounts."""
        for space, keys, says in _CHOICES:
            discrete = discrete_arrays(source, space)
            for key in keys:
                if odd := [pick.name for pick in self._vectors[key] if pick.name in discrete]:
                    raise self.mapping.error(key, f"{odd[0]!r} of {source.path} is {discrete[odd[0]]}: choices, {says}")

    def _unmark(self, chunk: Chunk, uses: dict[str, Use]) -> None:
        """Takes away the numbers that mark a missing value. They are compared as batches have numbers, in float32."""
        with np.errstate(over="ignore"):
            for name in (name for name, use in uses.items() if use == "number" and self._marks):
                values = chunk.columns[name]
                chunk.columns[name] = np.where(np.isin(values.astype(np.float32), self._marks), np.nan, values)

    def _one(self, key: str, spec: str, reader: Reader) -> Pick:
        """The only column that an entry means."""
        name = spec.removeprefix("not ") if _USES.get(key) == "flag" else spec
        picks = self.mapping.pick(key, name, reader.names, str(reader.source.path))
        if len(picks) > 1 or (picks[0].part is not None and key != "rewards"):
            raise self.mapping.error(key, f"{spec!r} means more than one column, or a part of one: name one column")
        return picks[0]

    def _take(self, number: int, chunk: Chunk, infos: dict[str, str]) -> None:
        reader, mapping = self.readers[number], self.mapping
        vectors = {key: self._matrix(chunk, key) for key, picks in self._vectors.items() if picks}
        if self._type is None:
            self._begin(chunk, vectors, {name: chunk.columns[column].shape[1:] for name, column in infos.items()})
        assert self._type is not None
        rows = np.zeros(chunk.size, self._type)
        for key, field_name in _VECTOR_FIELDS.items():
            if key in vectors:
                wanted = self._type[field_name].shape[0]
                if vectors[key].shape[1] != wanted:
                    raise mapping.error(
                        key, f"{reader.source.path} has {vectors[key].shape[1]} columns of these, {wanted} are needed"
                    )
                with np.errstate(over="ignore"):
                    rows[field_name] = vectors[key]
                labels = self.labels.actions if key == "actions" else self.labels.observations
                self._widen("actions" if key == "actions" else "observations", labels, vectors[key])
        with np.errstate(over="ignore"):
            if "rewards" in self._columns:
                rows["rewards"] = rewards = self._single(chunk, "rewards")
                self._widen("rewards", [self._columns["rewards"].name], rewards[:, None])
            for name, column in infos.items():
                rows[f"infos.{name}"] = values = chunk.columns[column]
                self._widen("infos", [name], values.reshape(-1, 1))
        for key in FLAGS:
            rows[key] = self._flag(chunk, key) if key in self._columns else 0
        valid = np.ones(chunk.size, bool) if chunk.valid is None else chunk.valid
        rows["valid"] = valid if "valids" not in self._columns else valid & self._whole_flag(number, chunk, "valids")
        padding = np.zeros(chunk.size, bool)
        if "padding" in self._columns:
            padding = self._whole_flag(number, chunk, "padding")
        if chunk.valid is not None:  # an observation more than actions: the first row of padding holds the last one
            rows["valid"] &= ~padding
            padding[:] = False
        rows["exact"] = chunk.valid is not None
        rows["file"], rows["row"] = number, np.arange(chunk.first, chunk.first + chunk.size)
        names = self._names(number, chunk)
        order = np.argsort(names.codes, kind="stable")
        starts = np.flatnonzero(np.diff(names.codes[order], prepend=-1))
        for part in np.split(order, starts[1:]):
            log = self._log(names.names[int(names.codes[part[0]])])
            log.files.add(number)
            log.padding += int(padding[part].sum())
            part = part[~padding[part]]
            if not part.size:
                continue
            mine = rows[part]
            mine["episode"] = self._episodes(log, number, chunk, part)
            if "time" in self._columns:
                mine["time"] = self._times(log, number, chunk, part)
            log.rows.append(mine)

    def _begin(self, chunk: Chunk, vectors: dict[str, Array], infos: dict[str, tuple[int, ...]]) -> None:
        """What the first rows tell of all: how wide they are, and what their columns are called."""
        names = {key: self._labels(chunk, key) for key in ("observations", "actions")}
        if (width := sum(map(len, names.values()))) >= MAX_WIDTH:
            raise self.mapping.error("observations", f"{width} numbers a transition are more than {MAX_WIDTH}")
        scaling(self.mapping, len(names["actions"]))
        widths = (len(names["observations"]), len(names["actions"]))
        self._type = row_type(*widths, "next_observations" in vectors, infos)
        exact = chunk.valid is not None or "next_observations" in vectors
        outcomes = {"rewards", *FLAGS} & self._columns.keys()
        if outcomes and self.mapping.outcome_of is None and not exact:
            raise self.mapping.error(
                "outcome_of",
                'say whose reward and end a row holds: outcome_of = "this action" if they came after the row\'s '
                'action, "last action" if they came with its observation',
            )
        if "time" in self._columns:
            self._clock = chunk.columns[self._columns["time"].name].clock
            if self._clock == "number" and isinstance(self.mapping.said["step"], str) and self.mapping.step != np.inf:
                raise self.mapping.error("step", "times are plain numbers here: give the step as one, in their unit")
            if self._zone is not None and self._clock != "local":
                raise self.mapping.error("timezone", "times are plain numbers, or name their zone: leave the line out")
        self.labels = Labels(self._place, names["observations"], names["actions"], "utc" if self._zone else self._clock)

    def _place(self, file: int, row: int) -> str:
        return self.readers[file].where(row)

    def _log(self, name: str) -> Log:
        if name not in self.logs:
            if len(self.logs) == self._most:
                room = "" if self._most == MAX_MDPS else "; if so, let processes hold more files open (ulimit -n)"
                raise self.mapping.error(
                    "mdp", f"there are more than {self._most} MDPs: is this the column that names them?{room}"
                )
            if self.mapping.parameters is not None and name not in self.parameters:
                raise self.mapping.error("parameters", f"{self.mapping.parameters.file} has no row of {name!r}")
            assert self._type is not None
            clock = None if self._zone is None else Clock(self._zone, self.mapping.step or np.inf)
            self.logs[name] = Log(self.scratch((0,), self._type), clock)
        return self.logs[name]

    def _names(self, number: int, chunk: Chunk) -> Key:
        """Which MDP each row is of."""
        if "mdp" in self._columns:
            return self._key(number, chunk, "mdp")
        if chunk.mdps is not None:
            file = self.readers[number].source.name
            return Key(chunk.mdps.codes, [f"{file}/{name}" for name in chunk.mdps.names])
        return Key(np.zeros(chunk.size, np.int64), [name_from_file(self.readers[number].source, self.mapping)])

    def _key(self, number: int, chunk: Chunk, key: str) -> Key:
        column = self._columns[key].name
        found: Key = chunk.columns[column]
        unnamed = np.flatnonzero(
            (found.codes < 0) | np.isin(found.codes, [c for c, n in enumerate(found.names) if not n])
        )
        if unnamed.size:
            place = self.readers[number].where(chunk.first + int(unnamed[0]))
            raise self.mapping.error(key, f"{place}: the column {column!r} is empty ({unnamed.size} rows or more)")
        return found

    def _episodes(self, log: Log, number: int, chunk: Chunk, part: Array) -> Array:
        """Numbers of episodes, by first appearance; an episode that a column tells apart lies in one file."""
        if "episode" in self._columns:
            key = self._key(number, chunk, "episode")
            codes, names = key.codes[part], key.names
        elif chunk.episodes is not None:
            values, codes = np.unique(chunk.episodes[part], return_inverse=True)
            names = values.tolist()
        else:  # one file after the other is one log, if times can tell whether it goes on
            codes, names = np.zeros(len(part), np.int64), ["all"]
            number = 0 if "time" in self._columns else number
        values, firsts, places = np.unique(codes, return_index=True, return_inverse=True)
        for code in values[np.argsort(firsts)].tolist():
            log.episodes.setdefault((number, names[code]), len(log.episodes))
        return np.array([log.episodes[number, names[code]] for code in values.tolist()], np.int64)[places]

    def _times(self, log: Log, number: int, chunk: Chunk, part: Array) -> Array:
        column = self._columns["time"].name
        times: Times = chunk.columns[column]
        if times.clock != self._clock:
            place = self.readers[number].where(chunk.first)
            raise self.mapping.error("time", f"{place}: times are written in another way here than before")
        values = times.values[part]
        lacking = ~np.isfinite(values)
        if chunk.valid is not None:
            lacking &= chunk.valid[part]
        if lacking.any():
            place = self.readers[number].where(chunk.first + int(part[np.flatnonzero(lacking)[0]]))
            raise self.mapping.error("time", f"{place}: the column {column!r} is empty or no time")
        if log.clock is None:
            return values
        seconds, skipped, back = log.clock.utc(values)
        back &= self.mapping.unordered == "sort"  # otherwise rows that go back are refused, all of them
        if (odd := np.flatnonzero(skipped | back)).size:
            row, zone = int(odd[0]), self.mapping.timezone
            place = self.readers[number].where(chunk.first + int(part[row]))
            shown = str(np.datetime64(round(values[row]), "s")).replace("T", " ")
            raise self.mapping.error(
                "timezone",
                f"{place}: clocks in {zone} never showed {shown}"
                if skipped[row]
                else f"{place}: {shown} is earlier than the row before, by an hour that clocks in {zone} show twice; "
                "which of the two a row is from only rows in order tell: put the oldest first, or give times in UTC",
            )
        return seconds

    def _single(self, chunk: Chunk, key: str) -> Array:
        values, name = self._wide(chunk, key, self._columns[key]), self._columns[key].name
        if values.shape[1] != 1:
            episodes = (
                ', or say axes = "episode, time" if it has a row an episode'
                if self.readers[-1].source.format in ONLY["axes"]
                else ""
            )
            raise self.mapping.error(key, f"{name!r} has {values.shape[1]} columns: name one of them{episodes}")
        return values[:, 0]

    def _matrix(self, chunk: Chunk, key: str) -> Array:
        """Columns side by side, [n, d] float64."""
        return np.concatenate([self._wide(chunk, key, pick) for pick in self._vectors[key]], axis=1)

    def _wide(self, chunk: Chunk, key: str, pick: Pick) -> Array:
        values: Array = chunk.columns[pick.name].reshape(chunk.size, -1)
        if pick.part is None:
            return values
        if pick.part.stop > values.shape[1]:
            part_of = f"{pick.name}[{pick.part.start}:{pick.part.stop}]"
            raise self.mapping.error(
                key, f"{part_of}: in {self.readers[-1].source.path} it has {values.shape[1]} columns, from 0 on"
            )
        part: Array = values[:, pick.part]
        return part

    def _labels(self, chunk: Chunk, key: str) -> list[str]:
        labels = []
        for pick in self._vectors[key]:
            start = 0 if pick.part is None else pick.part.start
            width = self._wide(chunk, key, pick).shape[1]
            alone = chunk.columns[pick.name].ndim == 1
            labels += [pick.name] if alone else [f"{pick.name}[{start + place}]" for place in range(width)]
        return labels

    def _flag(self, chunk: Chunk, key: str) -> Array:
        values: Array = chunk.columns[self._columns[key].name]
        if getattr(self.mapping, key).startswith("not "):
            values = np.where(values == MISSING_FLAG, values, 1 - values)
        return values

    def _whole_flag(self, number: int, chunk: Chunk, key: str) -> Array:
        """A flag without which a row cannot be understood, [n] bool. Raises ``BmrlError`` where a cell is empty."""
        values = self._flag(chunk, key)
        empty = np.flatnonzero((values == MISSING_FLAG) & (True if chunk.valid is None else chunk.valid))
        if empty.size:
            place = self.readers[number].where(chunk.first + int(empty[0]))
            raise self.mapping.error(key, f"{place}: the column {self._columns[key].name!r} is empty")
        return values == 1

    def _widen(self, key: str, names: list[str], values: Array) -> None:
        """Notes between which values columns [n, d] lie, but for those that are too large for a batch."""
        finite = np.where(np.abs(values) <= LARGEST, values, np.nan)
        for name, low, high in zip(names, np.fmin.reduce(finite), np.fmax.reduce(finite), strict=True):
            if low <= high:
                known = self._ranges.get((key, name), (low, high))
                self._ranges[key, name] = min(known[0], low), max(known[1], high)


_USES: dict[str, Use] = {
    "rewards": "number",
    "terminations": "flag",
    "truncations": "flag",
    "valids": "flag",
    "padding": "flag",
    "mdp": "key",
    "episode": "key",
    "time": "time",
}
_CHOICES: tuple[tuple[Literal["observations", "actions"], tuple[str, ...], str], ...] = (
    # a dataset's space, the mapping's keys of its arrays, and what to say of choices
    (
        "observations",
        ("observations", "next_observations"),
        "which are no amounts; make the dataset with one number for each choice (numpy.eye(n)[observations], space "
        "Box), or leave it out",
    ),
    (
        "actions",
        ("actions",),
        "and no learner of bmrl has discrete ones; if they are amounts, make the dataset with a Box",
    ),
)
_VECTOR_FIELDS = {"observations": "observations", "actions": "actions", "next_observations": "following"}


def _marks(mapping: Mapping) -> list[np.float32]:
    """The numbers among the marks of missing values."""
    found = []
    for mark in mapping.missing_as:
        with contextlib.suppress(ValueError), np.errstate(over="ignore"):
            found.append(np.float32(mark.replace(mapping.decimal, ".")))
    return found


def _zone(mapping: Mapping) -> zoneinfo.ZoneInfo | None:
    if mapping.timezone is None:
        return None
    try:
        return zoneinfo.ZoneInfo(mapping.timezone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise mapping.error("timezone", f'{mapping.timezone!r} is no time zone, as "Europe/Vienna" is') from error
