"""Reads tables, CSV and Parquet, with Arrow: some rows at a time, and only the columns that are asked for."""

import collections
import contextlib
import csv
import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from bmrl.data import mapping as mapping_module
from bmrl.data.arrow import FALSE, TRUE, convert, kind_of
from bmrl.data.readers import CHUNK_BYTES, MISSING_FLAG, Chunk, Reader, Source, Use
from bmrl.errors import BmrlError

CSV_BYTES = 1 << 20  # of a CSV file, read at a time, and at most in a row: Arrow reads several such pieces ahead
MOST_EMPTY = 10_000  # rows in which a column may be empty before its first word
MAX_HEADER = CSV_BYTES  # characters of the line with the names of the columns
NULLS = frozenset(pyarrow.csv.ConvertOptions().null_values)  # cells without a value, as Arrow has it: "", "NA", "null"

_CELL = re.compile(r"In CSV column #(\d+): Row #(\d+): CSV conversion error to \w+: (.*)", re.DOTALL)
_ROW = re.compile(r"CSV parse error: Row #(\d+): (.*)", re.DOTALL)


class CsvReader(Reader):
    """A CSV file: columns by the names in its header, whatever else is in it."""

    def __init__(self, source: Source, mapping: mapping_module.Mapping):
        """Raises ``BmrlError`` where the file is empty, or no text in the mapping's encoding."""
        self.source, self._mapping = source, mapping
        try:
            with open(source.path, newline="", encoding=mapping.codec) as file:
                above = sum(1 for _ in itertools.islice(_lines(file), mapping.header - 1))
                records = csv.reader(_lines(file), delimiter=mapping.separator)
                head = next(records, [])
                collections.deque(itertools.islice(records, mapping.skip), maxlen=0)
        except OSError as error:
            raise BmrlError(f"{source.path} cannot be read ({error.strerror})") from error
        except UnicodeError as error:
            raise self._no_text(source.path, error) from error
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
        by_arrow = "number" if self._mapping.thousands is None else None  # it knows no thousands
        kinds = {places[name]: pa.float64() if use == by_arrow else pa.string() for name, use in uses.items()}
        first = 0
        try:
            file = pa.OSFile(str(self.source.path), "rb")
            stream = pyarrow.csv.open_csv(
                file,
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
                    null_values=[*NULLS, *self._mapping.missing_as],
                    strings_can_be_null=True,
                ),
            )
            for batch in stream:
                columns = {name: batch.column(place) for name, place in places.items()}
                chunk = _chunk(self, first, batch.num_rows, columns, uses)
                for name in booleans:
                    flags = chunk.columns[name]
                    chunk.columns[name] = np.where(flags == MISSING_FLAG, np.nan, flags)
                self.share = file.tell() / file.size()
                yield chunk
                first += batch.num_rows
        except (pa.ArrowInvalid, pa.ArrowKeyError, UnicodeError) as error:
            if "Empty CSV file" not in str(error):  # a header alone is no error: what is made of it will tell
                raise self._error(str(error)) from error

    def _words(self) -> set[str]:
        """Columns whose first value is a word as True: as numbers, they are 1 and 0."""
        first: dict[str, str] = {}
        missing = {*NULLS, *self._mapping.missing_as}
        with open(self.source.path, newline="", encoding=self._mapping.encoding, errors="replace") as file:
            lines = itertools.islice(_lines(file), self._above, None)
            records = csv.reader(lines, delimiter=self._mapping.separator)
            with contextlib.suppress(csv.Error):  # a cell that Python finds too large
                for record in itertools.islice(records, MOST_EMPTY):
                    for name, cell in zip(self.names, record, strict=False):
                        if cell not in missing:
                            first.setdefault(name, cell.strip().lower())
                    if len(first) == len(self.names):
                        break
        words = {word for word in TRUE + FALSE if word.isalpha()}
        return {name for name, cell in first.items() if cell in words}

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

    def _no_text(self, place: object, error: object) -> BmrlError:
        """The error where bytes are no text."""
        return self._mapping.error(
            "encoding",
            f"{place} is no text in {self._mapping.encoding!r} ({mapping_module.one_line(error)}); say which it is, as "
            'encoding = "cp1252" (Excel in Western Europe)',
        )

    def _error(self, text: str) -> BmrlError:
        if "invalid UTF8" in text or "can't decode" in text:
            match = _CELL.fullmatch(text)
            place = self.where(int(match[2]) - self._above - 1) if match else self.source.path
            return self._no_text(place, "no UTF-8" if match else text)
        if match := _CELL.fullmatch(text):
            row = int(match[2]) - self._above - 1
            name = self.names[int(match[1])]
            reason = mapping_module.one_line(match[3])
            return BmrlError(f"{self.where(row)}, column {name!r}: no number ({reason}); {self._remedy(reason, row)}")
        if match := _ROW.fullmatch(text):
            row = int(match[1]) - self._above - 1
            return BmrlError(f"{self.where(row)}: {mapping_module.one_line(match[2])}")
        return BmrlError(f"{self.source.path} cannot be read as CSV: {mapping_module.one_line(text)}")

    def _remedy(self, reason: str, row: int) -> str:
        """What to say where a cell is no number."""
        mapping = self._mapping
        cell = reason.partition("'")[2].rpartition("'")[0]
        if cell.lower() in TRUE + FALSE:
            return "mend the file: the column has words as this one and numbers"
        if re.search(r"\d", cell):
            return (
                f"mend the file, or the lines separator ({mapping.separator!r}), decimal ({mapping.decimal!r}) and "
                f"thousands ({mapping.thousands or 'none'!r}) of {mapping.path}"
            )
        units = "skip = 1 if this line holds units, " if row == 0 and not mapping.skip else ""
        return f"mend the file, or say in {mapping.path} {units}missing_as = [{cell!r}] if it marks a missing value"


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
                self.share = (first + batch.num_rows) / self._file.metadata.num_rows
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
    """{column of a Parquet file: its kind, as `survey.Column` has it}."""
    assert isinstance(reader, ParquetReader)
    schema = reader._file.schema_arrow
    return {name: kind_of(schema.field(place).type) for place, name in enumerate(schema.names)}


def _chunk(reader: Any, first: int, size: int, columns: Mapping[str, Any], uses: Mapping[str, Use]) -> Chunk:
    """The columns, each as its use asks for."""
    found: dict[str, Any] = {}
    times = [name for name, use in uses.items() if use == "time"]
    for name, use in uses.items():

        def where(row: int, name: str = name) -> str:
            return f"{reader.where(first + row)}, column {name!r}"

        parts = times if use == "time" else [name]
        if name == parts[0]:
            found[name] = convert([columns[part] for part in parts], use, where, reader._mapping)
    return Chunk(first, size, found)
