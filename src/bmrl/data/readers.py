"""What reads logs: pieces of a file, row after row, each column in the form that its use asks for."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bmrl.errors import BmrlError

Array: TypeAlias = NDArray[Any]
Use: TypeAlias = Literal["number", "flag", "key", "time"]
"""What a column is read as: "number" [n, ...] float64, NaN where there is none; "flag" [n] int8, -1 where there is
none; "key" a `Key`; "time" a `Times`: where two columns are read so, the first one gets that of both together."""

CHUNK_BYTES = 1 << 23  # of a file's content, read at a time
MISSING_FLAG = -1


class Key(NamedTuple):
    """A column of names: ``names[codes]``; the code is -1 where there is none."""

    codes: NDArray[np.int64]
    names: list[str]


class Times(NamedTuple):
    """A column of times, [n] float64: numbers, or seconds since 1970, of a local clock or UTC; NaN: none."""

    values: NDArray[np.float64]
    clock: Literal["number", "local", "utc"]


@dataclass(frozen=True)
class Chunk:
    """Some rows of a file.

    Attributes:
        first: the number of the first row.
        size: how many rows.
        columns: {name: what its use asks for}.
        valid: [n] bool, false in rows that hold an observation alone; None where the file's layout does not tell.
        episodes: [n] int64, numbers of the episodes; None where the file's layout does not tell.
        mdps: names of the MDPs; None where the file's layout does not tell.
    """

    first: int
    size: int
    columns: dict[str, Any]
    valid: NDArray[np.bool_] | None = None
    episodes: NDArray[np.int64] | None = None
    mdps: Key | None = None


@dataclass(frozen=True)
class Source:
    """One file of logs.

    Attributes:
        path: the file.
        name: of the MDP, where neither a column nor a pattern gives one.
        format: "csv", "parquet", "npz" or "hdf5".
        minari: whether it is a Minari dataset's.
        family: the name of the MDP's family, None if unknown.
        parameters: of the MDP, None if unknown.
        exported: whether it is a dataset that bmrl made of a batch: its actions are in [-1, 1] already.
    """

    path: Path
    name: str
    format: str
    minari: bool = False
    family: str | None = None
    parameters: dict[str, float] | None = None
    exported: bool = False


class Reader(ABC):
    """Reads one file of logs.

    Attributes:
        source: the file.
        names: of its columns.
        share: of the file that was read, as far as the reader can tell, 0 ... 1.
    """

    source: Source
    names: list[str]
    share = 0.0

    @abstractmethod
    def chunks(self, uses: Mapping[str, Use]) -> Iterator[Chunk]:
        """The rows, some at a time, with the columns that ``uses`` names.

        Raises ``BmrlError``, naming the file, row and column, where a value does not fit its use.
        """

    def close(self) -> None:
        """Lets go of the file; `where` goes on to answer."""
        return

    @abstractmethod
    def where(self, row: int) -> str:
        """The place of a row as a person finds it: "logs.csv, line 17"."""


def natural(name: str) -> list[tuple[int, str]]:
    """A sort key by which "b2" comes before "b10"."""
    parts = [(part.lstrip("0"), part) for part in re.split(r"([0-9]+)", name)]
    return [(len(number), number) if re.match("[0-9]", part) else (-1, part) for number, part in parts]


def flags_of(values: Array, where: Callable[[int], str]) -> NDArray[np.int8]:
    """Numbers [n] as flags; NaN is a missing one. Raises ``BmrlError`` for any other number but 0 and 1."""
    found = np.full(values.shape, MISSING_FLAG, np.int8)
    found[values == 0], found[values == 1] = 0, 1
    odd = (found == MISSING_FLAG) & ~np.isnan(values.astype(np.float64))
    if odd.any():
        row = int(np.flatnonzero(odd)[0])
        raise BmrlError(f"{where(row)} has {values[row]}, where true or false (1 or 0) is needed")
    return found


def key_of(values: Sequence[Any] | Array, codes: NDArray[np.int64], where: Callable[[int], str]) -> Key:
    """A key from distinct values; whole numbers are named without decimals, texts without spaces around them.

    Raises ``BmrlError`` for bytes that are no text.
    """

    def name(code: int, value: Any) -> str:
        if isinstance(value, bytes):
            try:
                value = value.decode("utf-8")
            except UnicodeDecodeError as error:
                row = int(np.flatnonzero(codes == code)[0])
                raise BmrlError(f"{where(row)} has {value!r}, which is no text in UTF-8: write it as one") from error
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return str(value).strip()

    return merged([name(code, value) for code, value in enumerate(values)], codes)


def merged(names: Sequence[str], codes: NDArray[np.int64]) -> Key:
    """A key in which each name has one code."""
    distinct = list(dict.fromkeys(names))
    place = {name: code for code, name in enumerate(distinct)}
    table = np.array([*(place[name] for name in names), -1])  # the last one for -1
    return Key(table[codes], distinct)
