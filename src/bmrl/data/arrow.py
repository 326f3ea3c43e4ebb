"""Columns of tables as their use asks for: numbers, flags, names and times from Arrow's columns."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bmrl.data import mapping as mapping_module
from bmrl.data.readers import MISSING_FLAG, Array, Key, Times, Use, flags_of, key_of
from bmrl.errors import BmrlError

TRUE, FALSE = ("true", "t", "yes", "y", "1", "1.0"), ("false", "f", "no", "n", "0", "0.0")


def convert(columns: Sequence[Any], use: Use, where: Any, mapping: mapping_module.Mapping) -> Any:
    """A column as its use asks for; two for "time": dates and times of the day."""
    plain = [_without_marks(column, mapping) for column in columns]
    if use == "number":
        return _numbers(plain[0], where, mapping)
    if use == "flag":
        return _flags(plain[0], where, mapping)
    return _key(plain[0], where) if use == "key" else _times(_together(plain, where), where, mapping)


def _without_marks(column: Any, mapping: mapping_module.Mapping) -> Any:
    """A column whose texts are no marks of missing values."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if not (mapping.missing_as and _is_text(column.type)):
        return column
    marked = pc.is_in(column, value_set=pa.array(mapping.missing_as, column.type))
    return pc.if_else(marked, pa.scalar(None, column.type), column)


def kind_of(kind: Any) -> str:
    """The kind of a column, as `survey.Column` has it, from its type."""
    types = pa.types
    if types.is_boolean(kind):
        return "flag"
    for name, holds in {"time": types.is_timestamp, "date": types.is_date, "clock": types.is_time}.items():
        if holds(kind):
            return name
    numbers = (types.is_integer, types.is_floating, types.is_decimal, types.is_list, types.is_fixed_size_list)
    return "number" if any(holds(kind) for holds in numbers) else "text"


def _numbers(column: Any, where: Any, mapping: mapping_module.Mapping) -> NDArray[np.float64]:
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        lengths = pc.list_value_length(column).fill_null(-1).to_numpy(zero_copy_only=False)
        if (odd := np.flatnonzero(lengths != lengths[0])).size or lengths[0] < 1:
            row = int(odd[0]) if odd.size else 0
            raise BmrlError(f"{where(row)} has a list of another length than row {where(0)}; all need the same, >= 1")
        flat = _numbers(pc.list_flatten(column), lambda row: where(row // lengths[0]), mapping)
        return flat.reshape(len(column), -1)
    if _is_text(kind) and mapping.thousands is not None:
        return _with_thousands(column, where, mapping)
    if pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)) and not (
        pa.types.is_boolean(kind) or pa.types.is_null(kind)
    ):
        choices = "; choices, as 'heat', are discrete actions: no learner of bmrl has them" if _is_text(kind) else ""
        raise BmrlError(
            f"{where(0)} holds {kind}, numbers are needed where {mapping.path} names it{choices}{_apart(kind)}"
        )
    values: NDArray[np.float64] = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return values


def _with_thousands(column: Any, where: Any, mapping: mapping_module.Mapping) -> NDArray[np.float64]:
    """Numbers as "1.234,5"; groups have three digits, so that none is taken for another number."""
    assert mapping.thousands is not None
    apart, point = re.escape(mapping.thousands), re.escape(mapping.decimal)
    text = pc.utf8_trim_whitespace(column)
    number = rf"^-?((\d+|\d{{1,3}}({apart}\d{{3}})+)({point}\d*)?|{point}\d+)([eE][+-]?\d+)?$"
    fits = pc.match_substring_regex(text, number).fill_null(True).to_numpy(zero_copy_only=False)
    if (odd := np.flatnonzero(~fits)).size:
        row = int(odd[0])
        raise BmrlError(
            f"{where(row)}: no number ({text[row].as_py()!r}) as thousands ({mapping.thousands!r}) and decimal "
            f"({mapping.decimal!r}) of {mapping.path} have it; mend the file or these lines, or name it in missing_as "
            "if it marks a missing value, or say skip = 1 if units stand below the names"
        )
    plain = pc.replace_substring(pc.replace_substring(text, mapping.thousands, ""), mapping.decimal, ".")
    values: NDArray[np.float64] = pc.cast(plain, pa.float64()).to_numpy(zero_copy_only=False)
    return values


def _apart(kind: Any) -> str:
    """What to do about a column that has columns within."""
    if not pa.types.is_struct(kind):
        return ""
    return "; write each of its fields as a column of its own, as Arrow's Table.flatten() does, and name that"


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
        raise BmrlError(
            f"{where(0)} holds {column.type}, a text or a number is needed to tell MDPs or episodes apart"
            f"{_apart(column.type)}"
        )
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    encoded = pc.dictionary_encode(column)
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return key_of(encoded.dictionary.to_pylist(), codes, where)


def _together(columns: Sequence[Any], where: Any) -> Any:
    """A column of times; dates and times of the day in two columns as one of texts."""
    if len(columns) == 1:
        return columns[0]
    types = pa.types
    for column in columns:
        if not (_is_text(column.type) or types.is_date(column.type) or types.is_time(column.type)):
            raise BmrlError(
                f"{where(0)} is one of two columns of times, and one holds {column.type}: texts, or dates and times "
                "of the day, are needed"
            )
    texts = [pc.utf8_trim_whitespace(column.cast(pa.string())) for column in columns]
    return pc.binary_join_element_wise(*texts, " ")


def _times(column: Any, where: Any, mapping: mapping_module.Mapping) -> Times:
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        zoned = pa.types.is_timestamp(kind) and kind.tz is not None
        return Times(_seconds(column), "utc" if zoned else "local")
    if mapping.time_format is not None and pa.types.is_integer(kind):  # as 20210328
        column = column.cast(pa.string())
    elif not _is_text(kind):
        return Times(_numbers(column, where, mapping), "number")
    text, late = _midnights(pc.utf8_trim_whitespace(column), mapping)
    failed: Any = None
    for read, clock in _clocks(mapping):
        try:
            values = read(text)
        except pa.ArrowInvalid as error:
            failed = failed or error
            continue
        return Times(values + 86400 * late, clock)
    row = _first_odd(text, mapping)
    raise mapping.error(
        "time_format",
        f"{where(row)} has {text[row].as_py()!r}, which is no number, no time as 2021-03-28 02:00:00 and no such time "
        'with its zone (+01:00); say how it is written, as time_format = "%d.%m.%Y %H:%M"'
        if mapping.time_format is None
        else f"{where(row)} has {text[row].as_py()!r}, which is not written as {mapping.time_format!r} says",
    ) from failed


def _midnights(text: Any, mapping: mapping_module.Mapping) -> tuple[Any, NDArray[np.bool_]]:
    """Times with 24:00 written as 00:00, and which they are [n]: the end of the day that is named."""
    if mapping.time_format is not None and "%H:%M" not in mapping.time_format:
        return text, np.zeros(len(text), bool)
    midnight = r"(^|[T ])24:00(:00(?:\.0+)?)?($|[^\d:])"
    late = pc.match_substring_regex(text, midnight).fill_null(False)
    shown = pc.replace_substring_regex(text, midnight, r"\100:00\2\3")
    return shown, late.to_numpy(zero_copy_only=False)


def _clocks(mapping: mapping_module.Mapping) -> Sequence[Any]:
    """Ways to read a column of times from text, and which clock each reads."""
    if mapping.time_format is not None:
        clock = "utc" if "%z" in mapping.time_format else "local"
        return [(lambda text: _seconds(pc.strptime(text, format=mapping.time_format, unit="us")), clock)]

    def numbers(text: Any) -> Array:
        if mapping.decimal != ".":
            text = pc.replace_substring(text, mapping.decimal, ".")
        values: Array = pc.cast(text, pa.float64()).to_numpy(zero_copy_only=False)
        return values

    return [
        (numbers, "number"),
        (lambda text: _seconds(pc.cast(text, pa.timestamp("us"))), "local"),
        (lambda text: _seconds(pc.cast(text, pa.timestamp("us", "UTC"))), "utc"),
        # Of more than six decimals. These are last, as nanoseconds tell the years 1678 to 2261 alone.
        (lambda text: _seconds(pc.cast(text, pa.timestamp("ns"))), "local"),
        (lambda text: _seconds(pc.cast(text, pa.timestamp("ns", "UTC"))), "utc"),
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
    micros = times.cast(pa.timestamp("us"), safe=False).cast(pa.int64()).to_numpy(zero_copy_only=False)
    return np.asarray(micros, np.float64) / 1e6


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
