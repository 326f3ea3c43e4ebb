"""What the beginning of a file tells of it: its columns, how its text is written, which groups are episodes."""

import contextlib
import csv
import itertools
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bmrl.data.mapping import Mapping
from bmrl.data.readers import Reader, Source
from bmrl.data.sources import needing_extra
from bmrl.errors import BmrlError

if TYPE_CHECKING:
    from bmrl.data.arrays import ArrayReader

MOST_ODD = 0.1  # of a column's cells, if these are numbers for the rest; half of them, if they are one mark
MOST_FALLS = 0.1  # of the steps of a column of times: where episodes begin
SAMPLE_BYTES = 1 << 18  # of a file, or of an array
ISO = re.compile(r"\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?( ?(Z|[+-]\d{2}:?\d{2}))?")
TIMES: dict[str, tuple[str, str | None]] = {  # how a cell looks -> kind, and how it is written if not in ISO 8601
    ISO.pattern: ("time", None),
    r"\d{1,2}\.\d{1,2}\.\d{4} \d{1,2}:\d{2}": ("time", "%d.%m.%Y %H:%M"),
    r"\d{1,2}\.\d{1,2}\.\d{4} \d{1,2}:\d{2}:\d{2}": ("time", "%d.%m.%Y %H:%M:%S"),
    r"\d{4}-\d{2}-\d{2}": ("date", None),
    r"\d{1,2}\.\d{1,2}\.\d{4}": ("date", "%d.%m.%Y"),
    r"\d{1,2}/\d{1,2}/\d{4}": ("date", "?"),  # months first, or days
    r"\d{1,2}:\d{2}": ("clock", "%H:%M"),
    r"\d{1,2}:\d{2}:\d{2}": ("clock", "%H:%M:%S"),
}
GROUPED = re.compile(r"-?\d{1,3}([.,' \xa0])\d{3}(\1\d{3})*((?!\1)[.,]\d+|\1\d{3})")  # no other way to read it
LEAST = (-99.0, -999.0, -9999.0, -99999.0)  # numbers that often mark a missing value
WORDS = {"true", "false", "t", "f", "yes", "no", "y", "n"}


@dataclass(frozen=True)
class Column:
    """What the beginning of a file tells of a column, or of an array.

    Attributes:
        name: in the file.
        kind: "number", "flag", "time", "date", "clock" (time of the day) or "text".
        shape: of an array, () for a column.
        low: the least number.
        high: the greatest.
        whole: whether all numbers are whole.
        rising: whether almost every number is above the one before.
        time_format: how times are written, if not in ISO 8601.
        odd: cells that are no numbers, amid numbers: each once.
    """

    name: str
    kind: str
    shape: tuple[int, ...] = ()
    low: float = np.nan
    high: float = np.nan
    whole: bool = False
    rising: bool = False
    time_format: str | None = None
    odd: tuple[str, ...] = ()

    def told(self) -> str:
        """A line of the draft's list."""
        shape = f" {list(self.shape)}" if self.shape else ""
        values = f", {self.low:g} ... {self.high:g}" if np.isfinite(self.low) else ""
        slips = [cell for cell in self.odd if cell not in self.marks()]
        odd = f"; but {slips[0]!r}, which import will not take for a number" if slips else ""
        return f"{self.name or 'without a name'}{shape} ({self.kind}{values}{odd})"

    def marks(self) -> list[str]:
        """Those of the odd cells that can hardly be numbers, but mark that there is none."""
        return [cell for cell in self.odd if not re.search(r"\d", cell)]


def csv_format(path: Path) -> dict[str, Any]:
    """How a CSV file is written, where it differs from what a mapping assumes."""
    content = _beginning(path)
    said: dict[str, Any] = {}
    try:
        text = content.decode("utf-8-sig", "strict" if len(content) < SAMPLE_BYTES else "ignore")
    except UnicodeDecodeError:
        utf_16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
        said["encoding"] = "utf-16" if utf_16 else "cp1252"
        text = content.decode(said["encoding"], "replace")
    lines = [line for line in text.splitlines() if line.strip()][:50]
    if not lines:
        raise BmrlError(f"{path} is empty")
    separator = max(",;\t|", key=lambda sign: min(line.count(sign) for line in lines))
    if separator != ",":
        said["separator"] = separator
        cells = [cell.strip() for line in lines for cell in line.split(separator)]
        if sum(bool(re.fullmatch(r"-?\d+,\d+", cell)) for cell in cells) > 0:
            said["decimal"] = ","
    records: list[list[str]] = []
    with contextlib.suppress(csv.Error):  # a cell that Python finds too large
        records += ([cell.strip() for cell in record] for record in csv.reader(lines, delimiter=separator))
    grouped = filter(None, (GROUPED.fullmatch(cell) for record in records for cell in record))
    if match := next(grouped, None):
        said["thousands"] = match[1]
        if match[1] == ".":
            said["decimal"] = ","
        elif match[1] == ",":
            said.pop("decimal", None)
    if _are_units(records[1:], said.get("decimal", "."), said.get("thousands")):
        said["skip"] = 1
    return said


def _are_units(rows: list[list[str]], decimal: str, thousands: str | None) -> bool:
    """Whether the first of the rows has no value, but words where those below have numbers, and none of its words."""
    values = [[_number(cell, decimal, thousands) for cell in row] for row in rows]
    if len(rows) < 2 or any(value is not None for value in values[0]) or any(_time([c]) for c in rows[0] if c):
        return False
    below = {place: [row[place] for row in rows[1:] if len(row) > place] for place in range(len(rows[1]))}
    return any(
        unit and values[1][place] is not None and unit not in below[place]
        for place, unit in enumerate(rows[0][: len(rows[1])])
    )


def _number(cell: str, decimal: str, thousands: str | None) -> float | None:
    """A cell as a number; None where it is none."""
    if thousands:
        cell = re.sub(rf"(?<=\d){re.escape(thousands)}(?=\d{{3}}(?!\d))", "", cell)
    try:
        return float(cell.replace(decimal, "."))
    except ValueError:
        return None


def _time(cells: list[str]) -> tuple[str, str | None] | None:
    """The kind of a column of times, and how they are written; None where they are none."""
    return next((found for like, found in TIMES.items() if all(re.fullmatch(like, cell) for cell in cells)), None)


def _beginning(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(SAMPLE_BYTES)
    except OSError as error:
        raise BmrlError(f"{path} cannot be read ({error.strerror})") from error


def episode_groups(path: Path) -> str | None:
    """The pattern of the groups that hold an episode each, as Minari ("episode_*") and others ("data/demo_*") have."""
    with needing_extra():
        from bmrl.data import hdf5

    with hdf5.open_file(path) as file, hdf5.reading(path):
        for parent in ("", "data"):
            place = hdf5.member(file, parent, path) if parent else file
            names = list(place)[:1] if place is not None and not hasattr(place, "dtype") else []
            if names and re.fullmatch(r"[A-Za-z_]+\d+", names[0]):
                pattern = re.sub(r"\d+$", "*", names[0])
                full = f"{parent}/{pattern}".lstrip("/")
                if hdf5.groups(file, path, full):
                    return full
    return None


def columns_of(reader: Reader, source: Source, mapping: Mapping) -> list[Column]:
    """The columns of a table, or the arrays of a file."""
    if source.format == "csv":
        return _csv_columns(reader, source, mapping)
    if source.format == "parquet":
        from bmrl.data.tables import kinds

        return [_summary(reader, name, kind) for name, kind in kinds(reader).items()]
    from bmrl.data.arrays import ArrayReader

    assert isinstance(reader, ArrayReader)
    return [_array_summary(reader, name) for name in reader.names]


def _csv_columns(reader: Reader, source: Source, mapping: Mapping) -> list[Column]:
    with needing_extra():
        from bmrl.data.tables import NULLS

    text = _beginning(source.path).decode(mapping.codec, "ignore")
    lines = text.splitlines(keepends=True)[mapping.header - 1 : 1000]
    read = csv.reader(lines[:-1] if len(lines) > 2 else lines, delimiter=mapping.separator)  # the last may be cut
    rows: list[list[str]] = []
    with contextlib.suppress(csv.Error):
        rows += itertools.islice(read, 1 + mapping.skip, None)
    columns = []
    for place, name in enumerate(reader.names):
        cells = [row[place].strip() for row in rows if len(row) > place]
        columns.append(_from_text(name, [cell for cell in cells if cell not in NULLS], mapping))
    return columns


def _from_text(name: str, cells: list[str], mapping: Mapping) -> Column:
    numbers = [_number(cell, mapping.decimal, mapping.thousands) for cell in cells]
    odd = [cell for cell, number in zip(cells, numbers, strict=True) if number is None]
    if len(odd) <= MOST_ODD * len(cells) or (len(set(odd)) == 1 and 2 * len(odd) <= len(cells)):
        found = _from_numbers(name, np.array([number for number in numbers if number is not None]), ())
        return replace(found, odd=tuple(dict.fromkeys(odd)))
    if {cell.lower() for cell in cells} <= WORDS:
        return Column(name, "flag")
    kind, written = _time(cells) or ("text", None)
    return Column(name, kind, time_format=written)


def _summary(reader: Reader, name: str, kind: str) -> Column:
    if kind != "number":
        return Column(name, kind)
    try:
        values = next(reader.chunks({name: "number"})).columns[name]
    except (BmrlError, StopIteration):
        return Column(name, "text")
    return _from_numbers(name, values, values.shape[1:])


def _array_summary(reader: "ArrayReader", name: str) -> Column:
    try:
        array = reader.array(name)
        row = math.prod(array.shape[1:]) * array.dtype.itemsize
        values = array.read((), 0, min(array.shape[0], max(1, SAMPLE_BYTES // max(1, row))))
    except (BmrlError, ValueError, EOFError):
        return Column(name, "text")
    if array.dtype.kind in "iuf":
        return _from_numbers(name, values.astype(np.float64), array.shape)
    return Column(name, {"b": "flag", "M": "time"}.get(array.dtype.kind, "text"), array.shape)


def _from_numbers(name: str, values: Any, shape: tuple[int, ...]) -> Column:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return Column(name, "number", shape)
    whole = bool((finite == np.round(finite)).all())
    rising = bool(np.count_nonzero(np.diff(finite) > 0) > (1 - MOST_FALLS) * (len(finite) - 1))
    return Column(name, "number", shape, float(finite.min()), float(finite.max()), whole, rising)
