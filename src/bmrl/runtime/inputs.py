"""What a caller passes, as checked arrays: wrong shapes and kinds are errors, wrong values are reasons to fall back."""

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bmrl.errors import BmrlError

Array = NDArray[Any]


def array_of(name: str, values: Any) -> Array:
    """An array of numbers of any shape; a missing one (None, or masked) is NaN. Raises BmrlError for anything else."""
    try:
        if isinstance(values, np.ma.MaskedArray) and values.dtype.kind in "biuf":
            values = np.ma.filled(values.astype(np.float64), np.nan)
        array = np.asarray(values)
        if array.dtype == object and all(x is None or isinstance(x, Real) for x in array.flat):
            array = array.astype(np.float64)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BmrlError(f"{name} is no array of numbers: {' '.join(str(error).split())}") from error
    if array.dtype.kind not in "biuf":
        raise BmrlError(f"{name} is an array of {array.dtype}, numbers are needed")
    return array


def numbers(name: str, values: Any) -> Array:
    """`array_of` as float64."""
    with np.errstate(over="ignore"):
        return array_of(name, values).astype(np.float64)


def rows(name: str, values: Any, size: int) -> Array:
    """[n, size] of an array [size] or [n, size] of numbers. Raises BmrlError for any other shape, and for no row."""
    array = array_of(name, values)
    if array.ndim not in (1, 2) or array.shape[-1] != size or not array.size:
        raise BmrlError(f"{name} has shape {list(array.shape)}, [{size}] or [n, {size}] is needed")
    return numbers(name, array).reshape(-1, size)


def outside(name: str, array: Array, low: Array, high: Array) -> list[str]:
    """For each row of [n, d] why it cannot be used: a value that is no number or outside [low, high]; or ""."""
    found = [""] * len(array)
    bad = ~((array >= low) & (array <= high))  # true for NaN as well
    if bad.any():
        low, high = (np.broadcast_to(bound, array.shape[1:]) for bound in (low, high))
        for i in np.flatnonzero(bad.any(axis=1)):
            j = bad[i].argmax()
            found[i] = f"{name}[{j}] is {array[i, j]:g}, outside [{low[j]:g}, {high[j]:g}]"
    return found


def spread(name: str, log: Any, most: int) -> tuple[Array, Array, Array, Array]:
    """Up to ``most`` transitions (s, a, r, s') of a log, evenly spread over it; see `Policy.warm_start`.

    Raises BmrlError where an array is missing or of another length than the others.
    """
    layouts = (
        ("observations", "actions", "rewards", "next_observations"),
        ("observations", "actions", "rewards", "terminations", "truncations"),
    )
    fields = next((names for names in layouts if isinstance(log, Mapping) and log.keys() >= set(names)), None)
    if fields is None:
        raise BmrlError(f"{name} needs the arrays {', '.join(layouts[0])}, or those of a batch")
    arrays = {field: array_of(f"{name}: {field}", log[field]) for field in fields}
    size = len(arrays["actions"]) if arrays["actions"].ndim else 0
    if not size or any(array.ndim == 0 for array in arrays.values()):
        raise BmrlError(f"{name} has no transition: actions have shape {list(arrays['actions'].shape)}")
    index = np.linspace(0, size - 1, min(most, size)).astype(int)
    at, lengths = index, {field: size for field in fields}
    if "terminations" in arrays:  # an episode's observations are one more than its transitions
        flags = [arrays[field] for field in ("terminations", "truncations")]
        if any(flag.shape != (size,) or not np.isin(flag, (0, 1)).all() for flag in flags):
            shapes = " and ".join(str(list(flag.shape)) for flag in flags)
            raise BmrlError(f"{name}: terminations and truncations of shapes {shapes}; {size} bools each are needed")
        ends = 1 + np.flatnonzero(flags[0].astype(bool) | flags[1].astype(bool))
        at, lengths["observations"] = index + np.searchsorted(ends, index, side="right"), size + len(ends)
        if not len(ends) or ends[-1] != size:
            raise BmrlError(f"{name}: the last transition ends no episode; set its truncation")
    if wrong := [f"{len(arrays[field])} {field}, not {n}" for field, n in lengths.items() if len(arrays[field]) != n]:
        raise BmrlError(f"{name} has {size} actions, but {wrong[0]}")
    next_s = arrays["next_observations"][index] if "next_observations" in arrays else arrays["observations"][at + 1]
    return arrays["observations"][at], arrays["actions"][index], arrays["rewards"][index], next_s
