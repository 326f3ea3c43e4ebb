"""Reads tables, CSV and Parquet, with Arrow: some rows at a time, and only the columns that are asked for."""

import contextlib
import csv
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bmrl.data import mapping as mapping_module
from bmrl.data.readers import CHUNK_BYTES, MISSING_FLAG, Array, Chunk, Key, Reader, Source, Times, Use, flags_of, key_of
from bmrl.errors import BmrlError

TRUE, FALSE = ("true", "t", "yes", "y", "1", "1.0"), ("false", "f", "no", "n", "0", "0.0")
CSV_BYTES = 1 << 20  # of a CSV file, read at a time, and at most in a row: Arrow reads several such pieces ahead
MAX_HEADER = CSV_BYTES  # characters of the line with the names of the columns

_CELL = re.compile(r"In CSV column #(\d+): Row #(\d+): CSV conversion error to \w+: (.*)", re.DOTALL)
_ROW = re.compile(r"CSV parse error: Row #(\d+): (.*)", re.DOTALL)


class CsvReader(Reader):
    """A CSV file: columns by the names in its header, whatever else is in it."""

    def __init__(self, source: Source, mapping: mapping_module.Mapping):
        """Raises ``BmrlError`` where the file is empty, or no text in the mapping's encoding."""
        self.source, self._mapping = source, mapping
        try:
            with open(source.path, newline="", encoding=mapping.encoding.replace("utf-8", "utf-8-sig")) as file:
                above = sum(1 for _ in itertools.islice(_lines(file), mapping.header - 1))
                records = csv.reader(_lines(file), delimiter=mapping.separator)
                head = next(records, [])
        except OSError as error:
            raise BmrlError(f"{source.path} cannot be read ({error.strerror})") from error
        except (UnicodeError, LookupError) as error:
            raise mapping.error(
                "encoding",
                f"{source.path} is no text in {mapping.encoding!r} ({mapping_module.one_line(error)}); say which "
                'it is, as encoding = "cp1252" (Excel in Western Europe)',
            ) from error
        except csv.Error as error:
            raise BmrlError(f"{source.path}, line {mapping.header}: no names of columns ({error})") from error
        if not any(cell.strip() for cell in head):
            raise BmrlError(f"{source.path} is empty: it has no line {mapping.header} with the names of its columns")
        self._above = above + records.line_num  # lines above the first row: a name in quotes may have several
        self.names = [re.sub(r"\s*[\r\n]+\s*", " ", name.strip()) for name in head]

    def chunks(self, uses: Mapping[str, Use]) -> Iterator[Chunk]:
        """See `Reader.chunks`."""
        words = self._words()
        booleans = [name for name, use in uses.items() if use == "number" and name in words]
        uses = {**uses, **dict.fromkeys(booleans, "flag")}
        places = {name: f"c{self.names.index(name)}" for name in uses}
        kinds = {places[name]: pa.float64() if use == "number" else pa.string() for name, use in uses.items()}
        first = 0
        try:
            stream = pyarrow.csv.open_csv(
                self.source.path,
                read_options=pyarrow.csv.ReadOptions(
                    use_threads=False,  # else an error does not tell its row
                    block_size=CSV_BYTES,
                    skip_rows=self._above,
                    column_names=[f"c{place}" for place in range(len(self.names))],
                    encoding=self._mapping.encoding,
                ),
                parse_options=pyarrow.csv.ParseOptions(delimiter=self._mapping.separator, newlines_in_values=True),
                convert_options=pyarrow.csv.ConvertOptions(
                    column_types=kinds,
                    include_columns=list(kinds),
                    decimal_point=self._mapping.decimal,
                    strings_can_be_null=True,
                ),
            )
            for batch in stream:
                columns = {name: batch.column(place) for name, place in places.items()}
                chunk = _chunk(self, first, batch.num_rows, columns, uses)
                for name in booleans:
                    flags = chunk.columns[name]
                    chunk.columns[name] = np.where(flags == MISSING_FLAG, np.nan, flags)
                yield chunk
                first += batch.num_rows
        except (pa.ArrowInvalid, pa.ArrowKeyError, UnicodeError) as error:
            if "Empty CSV file" not in str(error):  # a header alone is no error: what is made of it will tell
                raise self._error(str(error)) from error

    def _words(self) -> set[str]:
        """Columns whose first value is a word as True: as numbers, they are 1 and 0."""
        with open(self.source.path, newline="", encoding=self._mapping.encoding, errors="replace") as file:
            lines = itertools.islice(_lines(file), self._above, None)
            line = next((line for line in lines if line.strip()), "")
        cells = next(csv.reader([line], delimiter=self._mapping.separator), [])
        words = {word for word in TRUE + FALSE if word.isalpha()}
        return {name for name, cell in zip(self.names, cells, strict=False) if cell.strip().lower() in words}

    def where(self, row: int) -> str:
        """See `Reader.where`: the line where the row begins, blank lines and those within quotes counted."""
        with open(self.source.path, newline="", encoding=self._mapping.encoding, errors="replace") as file:
            for _ in itertools.islice(_lines(file), self._above):
                pass
            records, seen, begins = csv.reader(_lines(file), delimiter=self._mapping.separator), -1, 0
            with contextlib.suppress(csv.Error):  # a cell that Python finds too large
                for record in records:
                    seen += bool(record)
                    if seen == row:
                        return f"{self.source.path}, line {self._above + begins + 1}"
                    begins = records.line_num
        return f"{self.source.path}, row {row}"

    def _error(self, text: str) -> BmrlError:
        if match := _CELL.fullmatch(text):
            row = int(match[2]) - self._above - 1
            name = self.names[int(match[1])]
            reason = mapping_module.one_line(match[3])
            return BmrlError(
                f"{self.where(row)}, column {name!r}: no number ({reason}); mend the file, or the lines separator "
                f"({self._mapping.separator!r}) and decimal ({self._mapping.decimal!r}) of {self._mapping.path}"
            )
        if match := _ROW.fullmatch(text):
            row = int(match[1]) - self._above - 1
            return BmrlError(f"{self.where(row)}: {mapping_module.one_line(match[2])}")
        return BmrlError(f"{self.source.path} cannot be read as CSV: {mapping_module.one_line(text)}")


def _lines(file: TextIO) -> Iterator[str]:
    """The lines of a text; one that is longer than any of a table comes in pieces."""
    return iter(lambda: file.readline(MAX_HEADER), "")


class ParquetReader(Reader):
    """A Parquet file; a column of lists of one length counts as several columns."""

    def __init__(self, source: Source, mapping: mapping_module.Mapping):
        """Raises ``BmrlError`` where the file is no Parquet file."""
        self.source, self._mapping = source, mapping
        try:
            self._file = pq.ParquetFile(source.path, pre_buffer=False, buffer_size=1 << 16)
            self.names = list(self._file.schema_arrow.names)
        except (pa.ArrowException, OSError, MemoryError, ValueError) as error:
            raise BmrlError(f"{source.path} cannot be read as Parquet: {mapping_module.one_line(error)}") from error

    def chunks(self, uses: Mapping[str, Use]) -> Iterator[Chunk]:
        """See `Reader.chunks`."""
        rows = max(1, CHUNK_BYTES // (8 * max(1, len(uses))))
        first = 0
        try:
            for batch in self._file.iter_batches(batch_size=min(rows, 1 << 16), columns=list(uses)):
                columns = {name: batch.column(name) for name in uses}
                yield _chunk(self, first, batch.num_rows, columns, uses)
                first += batch.num_rows
        except (pa.ArrowException, OSError, MemoryError, ValueError) as error:
            raise BmrlError(
                f"{self.where(first)} or below: damaged Parquet: {mapping_module.one_line(error)}"
            ) from error

    def close(self) -> None:
        """See `Reader.close`."""
        self._file.close()

    def where(self, row: int) -> str:
        """See `Reader.where`."""
        return f"{self.source.path}, row {row}"


def kinds(reader: Reader) -> dict[str, str]:
    """{column of a Parquet file: "number", "flag", "time" or "text"}."""
    assert isinstance(reader, ParquetReader)
    schema = reader._file.schema_arrow
    return {name: _kind(schema.field(place).type) for place, name in enumerate(schema.names)}


def _kind(kind: Any) -> str:
    types = pa.types
    if types.is_boolean(kind):
        return "flag"
    if types.is_timestamp(kind) or types.is_date(kind):
        return "time"
    numbers = (types.is_integer, types.is_floating, types.is_decimal, types.is_list, types.is_fixed_size_list)
    return "number" if any(holds(kind) for holds in numbers) else "text"


def _chunk(reader: Any, first: int, size: int, columns: Mapping[str, Any], uses: Mapping[str, Use]) -> Chunk:
    """The columns, each as its use asks for."""
    found: dict[str, Any] = {}
    for name, use in uses.items():

        def where(row: int, name: str = name) -> str:
            return f"{reader.where(first + row)}, column {name!r}"

        column = columns[name]
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if use == "number":
            found[name] = _numbers(column, where, reader._mapping)
        elif use == "flag":
            found[name] = _flags(column, where, reader._mapping)
        elif use == "key":
            found[name] = _key(column, where)
        else:
            found[name] = _times(column, where, reader._mapping)
    return Chunk(first, size, found)


def _numbers(column: Any, where: Any, mapping: mapping_module.Mapping) -> NDArray[np.float64]:
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        lengths = pc.list_value_length(column).fill_null(-1).to_numpy(zero_copy_only=False)
        if (odd := np.flatnonzero(lengths != lengths[0])).size or lengths[0] < 1:
            row = int(odd[0]) if odd.size else 0
            raise BmrlError(f"{where(row)} has a list of another length than row {where(0)}; all need the same, >= 1")
        flat = _numbers(pc.list_flatten(column), lambda row: where(row // lengths[0]), mapping)
        return flat.reshape(len(column), -1)
    if pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)) and not (
        pa.types.is_boolean(kind) or pa.types.is_null(kind)
    ):
        choices = "; choices, as 'heat', are discrete actions: no learner of bmrl has them" if _is_text(kind) else ""
        raise BmrlError(f"{where(0)} holds {kind}, numbers are needed where {mapping.path} names it{choices}")
    values: NDArray[np.float64] = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return values


def _flags(column: Any, where: Any, mapping: mapping_module.Mapping) -> NDArray[np.int8]:
    if not _is_text(column.type):
        return flags_of(_numbers(column, where, mapping), where)
    text = pc.utf8_lower(pc.utf8_trim_whitespace(column))
    yes, no = (pc.is_in(text, value_set=pa.array(words)).to_numpy(zero_copy_only=False) for words in (TRUE, FALSE))
    flags = np.where(yes, 1, np.where(no, 0, MISSING_FLAG)).astype(np.int8)
    odd = np.flatnonzero((flags == MISSING_FLAG) & ~column.is_null().to_numpy(zero_copy_only=False))
    if odd.size:
        raise BmrlError(f"{where(int(odd[0]))} has {column[int(odd[0])].as_py()!r}, where true or false is needed")
    return flags


def _key(column: Any, where: Any) -> Key:
    if pa.types.is_nested(column.type):
        raise BmrlError(f"{where(0)} holds {column.type}, a text or a number is needed to tell MDPs or episodes apart")
    encoded = pc.dictionary_encode(column)
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return key_of(encoded.dictionary.to_pylist(), codes)


def _times(column: Any, where: Any, mapping: mapping_module.Mapping) -> Times:
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        zoned = pa.types.is_timestamp(kind) and kind.tz is not None
        return Times(_seconds(column.cast(pa.timestamp("us"), safe=False)), "utc" if zoned else "local")
    if not _is_text(kind):
        return Times(_numbers(column, where, mapping), "number")
    text = pc.utf8_trim_whitespace(column)
    failed: Any = None
    for read, clock in _clocks(mapping):
        try:
            values = read(text)
        except pa.ArrowInvalid as error:
            failed = failed or error
            continue
        return Times(values, clock)
    row = _first_odd(text, mapping)
    raise mapping.error(
        "time_format",
        f"{where(row)} has {text[row].as_py()!r}, which is no number, no time as 2021-03-28 02:00:00 and no such time "
        'with its zone (+01:00); say how it is written, as time_format = "%d.%m.%Y %H:%M"'
        if mapping.time_format is None
        else f"{where(row)} has {text[row].as_py()!r}, which is not written as {mapping.time_format!r} says",
    ) from failed


def _clocks(mapping: mapping_module.Mapping) -> Sequence[Any]:
    """Ways to read a column of times from text, and which clock each reads."""
    if mapping.time_format is not None:
        return [(lambda text: _seconds(pc.strptime(text, format=mapping.time_format, unit="us")), "local")]

    def numbers(text: Any) -> Array:
        if mapping.decimal != ".":
            text = pc.replace_substring(text, mapping.decimal, ".")
        values: Array = pc.cast(text, pa.float64()).to_numpy(zero_copy_only=False)
        return values

    return [
        (numbers, "number"),
        (lambda text: _seconds(pc.cast(text, pa.timestamp("us"))), "local"),
        (lambda text: _seconds(pc.cast(text, pa.timestamp("us", "UTC"))), "utc"),
    ]


def _first_odd(text: Any, mapping: mapping_module.Mapping) -> int:
    """The first row that is no time in the way in which the most rows are: found by halving."""

    def reads(rows: Any) -> bool:
        for read, _ in _clocks(mapping):
            try:
                read(rows)
                return True
            except pa.ArrowInvalid:
                continue
        return False

    low, high = 0, len(text)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if reads(text.slice(0, middle)) else (low, middle)
    return low


def _seconds(times: Any) -> NDArray[np.float64]:
    micros = times.cast(pa.int64()).to_numpy(zero_copy_only=False)
    return np.asarray(micros, np.float64) / 1e6


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
