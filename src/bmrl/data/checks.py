"""What arrays must be to make the batch of one MDP: checked when it is written, when it is read, and for the report."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bmrl.errors import BmrlError

FIELDS = ("observations", "actions", "rewards", "terminations", "truncations")
FLAGS = ("terminations", "truncations")
ACTION_TOLERANCE = 1e-6  # rounding of float32 policies; anything further outside [-1, 1] is a mistake
# Of observations and rewards. Training adds values up, to returns and over minibatches, and squares them in float32: a
# sum of 2^24 of the largest has a square that is just not infinite. What is larger is in the wrong unit, or a sign
# for "missing".
LARGEST = 2.0**40
MAX_WIDTH = 1 << 16  # numbers in one row of all fields together; what takes some rows at a time counts on it
BLOCK_BYTES = 1 << 24  # arrays are checked and converted this much at a time: they may exceed the memory

Array: TypeAlias = NDArray[Any]

_SHAPES = {"observations": "[N + E, d_s]", "actions": "[N, d_a]"}  # of the other fields: [N]


class Problems(list[BmrlError]):
    """What is wrong with one MDP. A guard refuses the first of them, a report tells all."""

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note the problem that ends the ``with`` block, and go on after it."""
        try:
            yield
        except BmrlError as problem:
            self.append(problem)

    def refuse(self) -> None:
        """Raises the first one, if there are any."""
        if self:
            raise self[0]


def dtype_of(field: str) -> np.dtype[Any]:
    """Of an array as it is stored."""
    return np.dtype(np.bool_ if field in FLAGS else np.float32)


def blocks(array: Array) -> Iterator[tuple[int, Array]]:
    """(first row, rows) of the pieces of an array, none larger than ``BLOCK_BYTES``, within which a row lies."""
    rows = max(1, BLOCK_BYTES // (array.nbytes // len(array)))
    for start in range(0, len(array), rows):
        yield start, array[start : start + rows]


def check_width(where: Path, arrays: Mapping[str, Array]) -> None:
    """Raises ``BmrlError`` where a row is too wide to be looked at; only the shapes are, here."""
    widths = {field: math.prod(array.shape[1:]) for field, array in arrays.items()}
    if sum(widths.values()) > MAX_WIDTH:
        field = max(widths, key=widths.__getitem__)
        raise BmrlError(
            f"{where}: a transition has {sum(widths.values())} numbers ({widths[field]} of them {field}), at most "
            f"{MAX_WIDTH} are taken"
        )


def check_arrays(where: Path, arrays: Mapping[str, Array], problems: Problems) -> NDArray[np.int64]:
    """One past the last transition of every episode, [E]; meaningless if there are problems.

    Notes what keeps {field: array} from being a batch: of each field its shape, or the first row of each kind of
    value that it may not have; then where episodes end.
    """
    fit = {}
    for field, array in arrays.items():
        with problems.noted():
            _check_shape(where, field, array, arrays.get("actions"))
            found = list(_bad_values(where, field, array))
            problems += found
            if not (found and field in FLAGS):
                fit[field] = array
    if fit.keys() >= {"observations", "actions", *FLAGS}:
        with problems.noted():
            return _episode_ends(where, fit)
    return np.zeros(0, np.int64)


def _check_shape(where: Path, field: str, array: Array, actions: Array | None) -> None:
    shape = list(array.shape)
    wanted = _SHAPES.get(field, "[N]" if field in FIELDS else "[N, ...]")
    rank = wanted.count(",") + 1
    if array.ndim != rank and (array.ndim == 0 or field in FIELDS):
        raise BmrlError(f"{where}: {field} has shape {shape}, {wanted} is needed")
    if array.size == 0:
        raise BmrlError(f"{where}: {field} is empty (shape {shape}), {wanted} is needed")
    if field != "observations" and actions is not None and actions.size and len(array) != len(actions):
        raise BmrlError(
            f"{where}: {field} has shape {shape}, actions {list(actions.shape)}; both need one row a transition"
        )


def _bad_values(where: Path, field: str, array: Array) -> Iterator[BmrlError]:
    """For each thing that is needed of the values, the first one that lacks it."""
    told = set()
    for start, block in blocks(array):
        for needed, bad in _faults(field, block):
            if needed not in told and bad.any():
                told.add(needed)
                index = tuple(np.argwhere(bad)[0].tolist())
                column = f", column {', '.join(map(str, index[1:]))}" if len(index) > 1 else ""
                value = _as_numbers(field, block)[index]
                yield BmrlError(f"{where}: {field} has {value} at row {start + index[0]}{column}; {needed}")


def _faults(field: str, block: Array) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """What is needed of values, and where they lack it."""
    numbers = _as_numbers(field, block)
    if field in FLAGS:
        yield "0 (no) or 1 (yes) is needed", (numbers != 0) & (numbers != 1)
        return
    with np.errstate(over="ignore"):
        values = numbers.astype(np.float32, copy=False)
    finite = np.isfinite(values)
    yield "a finite float32 is needed", ~finite
    if field in ("observations", "rewards"):
        yield f"a size of at most {LARGEST:.1e} is needed", finite & (np.abs(values) > LARGEST)
    if field == "actions":
        yield "actions must be scaled to [-1, 1]", finite & (np.abs(values) > 1 + ACTION_TOLERANCE)


def _as_numbers(field: str, block: Array) -> Array:
    """The block itself; the bools of a file as bytes, since they may be any."""
    return block.view(np.uint8) if field in FLAGS and block.dtype == np.bool_ else block


def _episode_ends(where: Path, arrays: Mapping[str, Array]) -> NDArray[np.int64]:
    """See `check_arrays`; raises ``BmrlError`` where the end is missing, or observations are too few or many."""
    size = len(arrays["actions"])
    found = []
    for start in range(0, size, BLOCK_BYTES):
        ended, cut = (arrays[field][start : start + BLOCK_BYTES].astype(bool) for field in FLAGS)
        found.append(start + 1 + np.flatnonzero(ended | cut))
    ends = np.concatenate(found)
    if len(ends) == 0 or ends[-1] != size:
        raise BmrlError(
            f"{where}: the last transition (row {size - 1}) ends no episode; if the data was cut there, set "
            "its truncation"
        )
    needed, rows = size + len(ends), len(arrays["observations"])
    if rows != needed:
        raise BmrlError(
            f"{where}: observations has {rows} rows, {needed} are needed: {size} transitions and the last "
            f"observation of {len(ends)} episodes"
        )
    return ends
