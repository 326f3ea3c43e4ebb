"""Reads arrays, NPZ and HDF5: some rows at a time, whatever their first axes are.

Where there is one observation more than actions in an episode, the last row gets no action:

    observations   0   1   2   3
    actions        0   1   2   NaN         valid:  yes yes yes no
"""

import bisect
import contextlib
import math
import zipfile
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from bmrl.data import hdf5
from bmrl.data import mapping as mapping_module
from bmrl.data.columns import concatenated, convert, filled, joined, part
from bmrl.data.npz import DAMAGED, Npy
from bmrl.data.readers import CHUNK_BYTES, Array, Chunk, Key, Reader, Source, Use
from bmrl.errors import BmrlError

PADDING_STEPS = 2  # so many steps of nothing but zeros at an episode's end are taken for padding
MAX_EPISODE_BYTES = 1 << 28  # of stacked arrays, where episodes are read whole


class Hdf5Array:
    """One array of an HDF5 file."""

    def __init__(self, array: Any):
        self._array, self.shape, self.dtype = array, array.shape, array.dtype

    def read(self, prefix: tuple[int, ...], start: int, stop: int) -> Array:
        """The items ``[*prefix, start:stop]``."""
        found: Array = self._array[(*prefix, slice(start, stop))]
        return found


class Group(NamedTuple):
    """Arrays whose rows belong together: all of a file, or one episode of it."""

    label: str
    arrays: Mapping[str, Npy | Hdf5Array]


class ArrayReader(Reader):
    """Arrays whose rows are transitions, or whose first axes are named by the mapping."""

    def __init__(self, source: Source, mapping: mapping_module.Mapping):
        """Raises ``BmrlError`` where the file is damaged, or of another kind than its name says."""
        self.source, self._mapping = source, mapping
        self._firsts: list[int] = []  # the first row of each group
        self._labels: list[str] = []
        self._lengths: tuple[int, ...] = ()  # of the axes before "time" and of "time", where the mapping names them

    def where(self, row: int) -> str:
        """See `Reader.where`."""
        if self._lengths:
            *axes, step = map(int, np.unravel_index(row, self._lengths))
            names = ("MDP", "episode")[-len(axes) :]
            return f"{self.source.path}, {', '.join(map('{} {}'.format, names, axes))}, step {step}"
        number = bisect.bisect_right(self._firsts, row) - 1
        if number < 0 or not self._labels[number]:
            return f"{self.source.path}, row {row}"
        return f"{self.source.path}, {self._labels[number]}, step {row - self._firsts[number]}"

    def chunks(self, uses: Mapping[str, Use]) -> Iterator[Chunk]:
        """See `Reader.chunks`."""
        pieces = self._stacked(uses) if self._mapping.axes else self._grouped(uses)
        waiting: list[Chunk] = []
        for piece in pieces:  # episodes may be short: several make a chunk
            waiting.append(piece)
            if sum(chunk.size for chunk in waiting) >= self._rows(uses):
                yield joined(waiting)
                waiting = []
        if waiting:
            yield joined(waiting)

    def _rows(self, uses: Mapping[str, Use]) -> int:
        return max(1, CHUNK_BYTES // (8 * max(1, self._width)))

    _width = 1  # numbers in a row

    @abstractmethod
    def array(self, name: str) -> "Npy | Hdf5Array":
        """One of the arrays, of the first group if there are groups; ``BmrlError`` where it cannot be read."""

    @abstractmethod
    def _groups(self, names: list[str]) -> Iterator[Group]:
        """The groups, each with the arrays of these names."""

    def _grouped(self, uses: Mapping[str, Use]) -> Iterator[Chunk]:
        """The rows of groups, an episode each, or of all arrays."""
        first = 0
        for number, group in enumerate(self._groups(list(uses))):
            lengths = {name: array.shape[0] for name, array in group.arrays.items()}
            longest, lasts_alone = self._check_lengths(lengths, group.label)
            self._width = sum(math.prod(array.shape[1:]) for array in group.arrays.values())
            self._firsts.append(first)
            self._labels.append(group.label)
            for start in range(0, longest, self._rows(uses)):
                stop = min(start + self._rows(uses), longest)
                columns = {
                    name: self._column(name, array, (), start, stop, lengths[name], longest, uses[name], first)
                    for name, array in group.arrays.items()
                }
                valid = np.arange(start, stop) < longest - 1 if lasts_alone else None
                episodes = np.full(stop - start, number) if self._mapping.groups or lasts_alone else None
                yield Chunk(first + start, stop - start, columns, valid, episodes)
            first += longest

    def _column(
        self,
        name: str,
        array: Npy | Hdf5Array,
        prefix: tuple[int, ...],
        start: int,
        stop: int,
        length: int,
        longest: int,
        use: Use,
        first: int,
    ) -> Any:
        """Rows ``start`` to ``stop`` of an array; those that it lacks at its end are filled up."""
        moved = self._is_late(name, length, longest)
        if moved and start == 0:
            array.read(prefix, 0, 1)
        values = array.read(prefix, start + moved, min(stop + moved, length))
        column = convert(values, use, lambda row: f"{self.where(first + start + row)}, array {name!r}")
        return filled(column, stop - start)

    def _is_late(self, name: str, length: int, longest: int) -> bool:
        """Whether row t + 1 tells of transition t: Minari's infos, whose first row is the reset's."""
        shorter = self._shorter
        return shorter and length == longest and name in self._mapping.infos.values()

    _shorter = False  # whether there is an observation more than actions

    def _check_lengths(self, lengths: Mapping[str, int], label: str) -> tuple[int, bool]:
        """The number of rows, and whether the last one has no action."""
        longest = max(lengths.values())
        where = ", ".join(filter(None, (str(self.source.path), label)))
        actions = min(lengths[pick.name] for pick in self._picks("actions"))
        self._shorter = actions == longest - 1
        for name, length in lengths.items():
            if length not in (longest, actions) or actions < longest - 1:
                told = ", ".join(f"{name} {length}" for name, length in lengths.items())
                raise self._mapping.error(
                    "axes", f"{where}: arrays of unequal length ({told}); an episode may have one observation more"
                )
        outcomes = {lengths[pick.name] for key in ("rewards", "terminations") for pick in self._picks(key)}
        if self._shorter and self._mapping.outcome_of != "last action" and longest in outcomes:
            raise self._mapping.error(
                "outcome_of", f"{where}: rewards and ends have one row more than actions: say whose they are"
            )
        if self._shorter and self._mapping.outcome_of == "last action" and actions in outcomes:
            raise self._mapping.error("outcome_of", f'{where}: rewards and ends are those of "this action"')
        return longest, self._shorter

    def _picks(self, key: str) -> list[mapping_module.Pick]:
        said = getattr(self._mapping, key)
        specs = () if said in (None, mapping_module.NONE) else (said,) if isinstance(said, str) else said
        where = str(self.source.path)
        return [p for spec in specs for p in self._mapping.pick(key, spec.removeprefix("not "), self.names, where)]

    def _stacked(self, uses: Mapping[str, Use]) -> Iterator[Chunk]:
        """The rows of arrays that have an axis of episodes, and maybe one of MDPs, before that of time."""
        axes = self._mapping.axes
        assert axes is not None
        before = axes.count(",")
        (group,) = self._groups(list(uses))
        arrays = group.arrays
        shapes = {name: array.shape for name, array in arrays.items()}
        actions = self._picks("actions")[0].name
        wanted = shapes[actions][:before]
        for name, shape in shapes.items():
            if len(shape) <= before or shape[:before] != wanted:
                raise self._mapping.error(
                    "axes",
                    f"{self.source.path}: {name!r} has shape {list(shape)}, its first axes are to be {axes}, "
                    f"as in {actions!r}, {list(shapes[actions])}; where time comes first, save "
                    f"array.swapaxes({before - 1}, {before}) of all",
                )
        lengths = {name: shape[before] for name, shape in shapes.items()}
        longest, lasts_alone = self._check_lengths(lengths, "")
        self._lengths = (*wanted, longest)
        self._width = sum(math.prod(shape[before + 1 :]) for shape in shapes.values())
        if 8 * self._width * longest > MAX_EPISODE_BYTES:
            raise self._mapping.error("axes", f"{self.source.path}: episodes of {longest} steps are too long for this")
        many = max(1, self._rows(uses) // max(1, longest))
        late = {name for name in arrays if self._is_late(name, lengths[name], longest)}
        for number in range(math.prod(wanted[:-1])):
            for start in range(0, wanted[-1], many):
                stop = min(start + many, wanted[-1])
                prefix = (number,) if before == 2 else ()
                first = (number * wanted[-1] + start) * longest
                columns = {
                    name: self._flat(name, array.read(prefix, start, stop), longest, uses[name], first, name in late)
                    for name, array in arrays.items()
                }
                self._check_padding(columns, first)
                size = (stop - start) * longest
                episodes = np.repeat(np.arange(start, stop) + number * wanted[-1], longest)
                valid = np.tile(np.arange(longest) < longest - 1, stop - start) if lasts_alone else None
                mdps = Key(np.zeros(size, np.int64), [str(number)]) if before == 2 else None
                yield Chunk(first, size, columns, valid, episodes, mdps)

    def _check_padding(self, columns: Mapping[str, Any], first: int) -> None:
        """Refuses episodes that end in steps of zeros, unless the mapping says what these are."""
        if self._mapping.padding is not None or self._mapping.valids is not None:
            return
        names = {pick.name for key in ("observations", "actions", "rewards") for pick in self._picks(key)}
        empty = [~np.nan_to_num(columns[name], nan=0.0).reshape(len(columns[name]), -1).any(axis=1) for name in names]
        ends = np.logical_and.reduce(empty).reshape(-1, self._lengths[-1])[:, -PADDING_STEPS:].all(axis=1)
        if ends.any():
            row = first + (int(ends.argmax()) + 1) * self._lengths[-1] - PADDING_STEPS
            raise self._mapping.error(
                "padding",
                f"{self.where(row)}: from here to the episode's end all is 0. If steps fill the episode up, name the "
                'array that says where: padding = "not mask"; else padding = "none"',
            )

    def _flat(self, name: str, values: Array, longest: int, use: Use, first: int, late: bool) -> Any:
        """Episodes [e, T, ...] as rows [e L, ...], each filled up to L of them."""
        values = values[:, late:]
        episodes, length = values.shape[:2]
        column = convert(
            values.reshape(episodes * length, *values.shape[2:]),
            use,
            lambda row: f"{self.where(first + row // length * longest + row % length)}, array {name!r}",
        )
        if length == longest:
            return column
        parts = [part(column, slice(n * length, (n + 1) * length)) for n in range(episodes)]
        return concatenated([filled(episode, longest) for episode in parts])


class NpzReader(ArrayReader):
    """An NPZ file, as ``numpy.savez`` makes it."""

    def __init__(self, source: Source, mapping: mapping_module.Mapping):
        """Raises ``BmrlError`` where it is no archive."""
        super().__init__(source, mapping)
        try:
            self._archive = zipfile.ZipFile(source.path)
        except (OSError, *DAMAGED) as error:
            raise BmrlError(f"{source.path} cannot be read as NPZ: {mapping_module.one_line(error)}") from error
        names = [name for name in self._archive.namelist() if name.endswith(".npy")]
        self.names = [name.removesuffix(".npy") for name in names]

    def chunks(self, uses: Mapping[str, Use]) -> Iterator[Chunk]:
        """See `Reader.chunks`."""
        try:
            yield from super().chunks(uses)
        except DAMAGED as error:
            raise BmrlError(f"{self.source.path} is damaged: {mapping_module.one_line(error)}") from error

    def close(self) -> None:
        """See `Reader.close`."""
        self._archive.close()

    def array(self, name: str) -> Npy:
        """See `ArrayReader.array`."""
        try:
            return Npy(self._archive, name)
        except Exception as error:  # the header's parser lets through whatever Python raises
            raise BmrlError(
                f"{self.source.path}: the array {name!r} cannot be read: {mapping_module.one_line(error)}"
            ) from error

    def _groups(self, names: list[str]) -> Iterator[Group]:
        if self._mapping.groups:
            raise self._mapping.error("groups", f"{self.source.path} is no HDF5 file: it has no groups")
        yield Group("", {name: self.array(name) for name in names})


class Hdf5Reader(ArrayReader):
    """An HDF5 file: D4RL's, with rows one after the other, or Minari's, with a group an episode."""

    def __init__(self, source: Source, mapping: mapping_module.Mapping):
        """Raises ``BmrlError`` where it is no HDF5 file, or has no such groups."""
        super().__init__(source, mapping)
        with contextlib.ExitStack() as stack, hdf5.reading(source.path):
            self._file = stack.enter_context(hdf5.open_file(source.path))
            self._places = (
                hdf5.groups(self._file, source.path, mapping.groups) if mapping.groups else [("", self._file)]
            )
            if not self._places:
                has = ", ".join(list(self._file)[:9])
                raise mapping.error("groups", f"{source.path} has no groups {mapping.groups!r}; it has {has}")
            self.names = hdf5.array_names(self._places[0][1], source.path)
            stack.pop_all()

    def chunks(self, uses: Mapping[str, Use]) -> Iterator[Chunk]:
        """See `Reader.chunks`."""
        with hdf5.reading(self.source.path):
            yield from super().chunks(uses)

    def close(self) -> None:
        """See `Reader.close`."""
        self._file.close()

    def array(self, name: str) -> Hdf5Array:
        """See `ArrayReader.array`."""
        return self._array(*self._places[0], name)

    def _groups(self, names: list[str]) -> Iterator[Group]:
        for label, group in self._places:
            yield Group(label, {name: self._array(label, group, name) for name in names})

    def _array(self, label: str, group: Any, name: str) -> Hdf5Array:
        with hdf5.reading(self.source.path):
            array = hdf5.member(group, name, self.source.path)
            if array is None or not hasattr(array, "dtype"):
                raise BmrlError(f"{self.source.path}, {label}: there is no array {name!r}")
            return Hdf5Array(hdf5.check_array(array, f"{label}/{name}".lstrip("/"), self.source.path))
