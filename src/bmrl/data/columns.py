"""Columns of what is read at a time: in the form that their use asks for, filled up, cut and joined."""

import math
from typing import Any

import numpy as np

from bmrl.data.readers import MISSING_FLAG, Array, Chunk, Key, Times, Use, flags_of, key_of, merged
from bmrl.errors import BmrlError


def convert(values: Array, use: Use, where: Any) -> Any:
    """Rows of an array as their use asks for."""
    kind = values.dtype.kind
    if use == "number":
        if kind not in "biuf":
            raise BmrlError(f"{where(0)} has dtype {values.dtype}, numbers are needed")
        return values.astype(np.float64)
    if values.ndim > 1 and math.prod(values.shape[1:]) != 1:
        raise BmrlError(f"{where(0)} has rows of shape {list(values.shape[1:])}, one value a row is needed")
    values = values.reshape(len(values))
    if use == "key":
        names, codes = np.unique(values, return_inverse=True)
        missing = np.isnan(names[codes]) if kind == "f" else np.zeros(len(codes), bool)
        return key_of(names.tolist(), np.where(missing, -1, codes).astype(np.int64), where)
    if use == "time" and kind == "M":
        seconds = values.astype("M8[us]").astype(np.int64) / 1e6
        return Times(np.where(np.isnat(values), np.nan, seconds), "local")
    if kind not in "biuf":
        raise BmrlError(f"{where(0)} has dtype {values.dtype}, numbers are needed")
    return flags_of(values.astype(np.float64), where) if use == "flag" else Times(values.astype(np.float64), "number")


def filled(column: Any, size: int) -> Any:
    """A column with rows for what is missing at its end."""
    if isinstance(column, Key):
        return Key(np.pad(column.codes, (0, size - len(column.codes)), mode="edge"), column.names)
    if isinstance(column, Times):
        return Times(filled(column.values, size), column.clock)
    lacking = (size - len(column), *column.shape[1:])
    return np.concatenate([column, np.full(lacking, MISSING_FLAG if column.dtype == np.int8 else np.nan, column.dtype)])


def part(column: Any, rows: slice) -> Any:
    """Some rows of a column."""
    if isinstance(column, Key):
        return Key(column.codes[rows], column.names)
    return Times(column.values[rows], column.clock) if isinstance(column, Times) else column[rows]


def concatenated(columns: list[Any]) -> Any:
    """Columns of one kind, one after the other."""
    one = columns[0]
    if isinstance(one, Times):
        return Times(np.concatenate([column.values for column in columns]), one.clock)
    if isinstance(one, Key):
        firsts = np.cumsum([0, *(len(column.names) for column in columns)])
        codes = [np.where(x.codes < 0, -1, x.codes + first) for x, first in zip(columns, firsts[:-1], strict=True)]
        return merged([name for column in columns for name in column.names], np.concatenate(codes))
    return np.concatenate(columns)


def joined(chunks: list[Chunk]) -> Chunk:
    """Chunks of which each follows the one before, as one."""
    if len(chunks) == 1:
        return chunks[0]

    def join(name: str) -> Any:
        found = [getattr(chunk, name) for chunk in chunks]
        if all(each is None for each in found):
            return None
        sizes = [chunk.size for chunk in chunks]
        return concatenated([np.ones(n, bool) if x is None else x for x, n in zip(found, sizes, strict=True)])

    names = chunks[0].columns
    columns = {name: concatenated([chunk.columns[name] for chunk in chunks]) for name in names}
    size = sum(chunk.size for chunk in chunks)
    return Chunk(chunks[0].first, size, columns, join("valid"), join("episodes"), join("mdps"))
