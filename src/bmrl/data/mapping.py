"""The mapping: a small TOML file that says what is what in a person's logs. `docs/own-logs.md` explains its lines.

observations = ["indoor", "outdoor", "price_*"]
actions      = ["setpoint"]
low          = 16
high         = 28
rewards      = "reward"
outcome_of   = "this action"
terminations = "none"
mdp          = "building"
time         = "timestamp"
step         = "15 min"
"""

import codecs
import difflib
import math
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from bmrl.errors import BmrlError, shortened

UNDECIDED = "?"  # what a draft holds where the file alone does not say
NONE = "none"
MAX_BYTES = 1 << 20
MAX_LINES = 1_000_000  # above the first row of a CSV file

_UNITS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
_PART = re.compile(r"(?P<name>.+)\[(?P<start>\d+)(?P<more>:(?P<stop>\d+))?\]")


class Pick(NamedTuple):
    """A column of the logs, or some columns of an array; ``part`` is None for all of it."""

    name: str
    part: slice | None = None


class Parameters(NamedTuple):
    """Where the MDPs' parameters are: a table with a row for each MDP."""

    file: str  # relative to the mapping's directory
    mdp: str  # the column with the MDPs' names
    columns: tuple[str, ...]  # of the parameters: names, patterns, ranges


@dataclass(frozen=True)
class Mapping:
    """What a mapping says. Names are those of columns (CSV, Parquet) or arrays (NPZ, HDF5).

    Attributes:
        path: the file.
        lines: {key: its line in the file}.
        said: {key: what the file says}.
        observations: the columns of an observation: names, patterns ("price_*"), ranges ("s0:s99"), parts of
            arrays ("states[0:17]").
        actions: the columns of an action, likewise.
        terminations: where the MDP reached a terminal state: a column, "not" and a column, or "none".
        truncations: where an episode was cut, likewise; None as "none".
        rewards: the column; None where a function gives them.
        outcome_of: whose reward and ends a row holds: those of "this action" or of the "last action".
        next_observations: the columns of the next observation, as many as those of the observation.
        valids: where a row's action was taken: false in rows that hold an observation alone.
        padding: where a row is nothing, but fills its episode up to the length of the longest; "none" if none is.
        infos: {name: column}, what else to keep.
        low: the least value of each action in its own unit (one for all, or one each); None: -1.
        high: the greatest; None: 1.
        terminal_observation: the next observation of a terminal transition, where the logs lack it: "repeat" that
            which it has, or "drop" the transition.
        mdp: the column that names the MDP.
        files: a pattern of file names in which {mdp} stands for the MDP's name.
        episode: the column that tells episodes apart.
        time: the column of times: numbers, or dates and times; or two columns, of dates and of times of the day.
        step: between two rows, in the unit of ``time`` (dates and times: seconds, or "15 min"); "any".
        gaps: where rows are not ``step`` apart: "cut" the episode, or "keep" it going.
        unordered: "sort" rows by episode and time.
        duplicates: of rows of one episode and time keep the "first" or the "last".
        missing: where a value is missing, infinite or above 1.1e12, "cut" the episode.
        missing_as: how the file marks a missing value, beside what its format has for that: texts; numbers as texts.
        timezone: of dates and times that name none, e.g. "Europe/Vienna".
        time_format: of dates and times that are not ISO 8601, e.g. "%d.%m.%Y %H:%M".
        separator: of a CSV file's cells.
        decimal: of its numbers.
        thousands: what sets groups of three digits apart in its numbers.
        encoding: of its text.
        header: the line with its columns' names.
        skip: how many lines below it are no rows, but units for example.
        axes: what the first axes of all arrays are, if not rows: "episode, time" or "mdp, episode, time".
        groups: a pattern of the HDF5 groups that hold an episode each, e.g. "episode_*".
        family: the name of the MDPs' family.
        parameters: of the MDPs.
    """

    path: Path
    lines: dict[str, int]
    said: dict[str, Any]
    observations: tuple[str, ...]
    actions: tuple[str, ...]
    terminations: str
    truncations: str = NONE
    rewards: str | None = None
    outcome_of: str | None = field(default=None, metadata={"one of": ("this action", "last action")})
    next_observations: tuple[str, ...] = ()
    valids: str | None = None
    padding: str | None = None
    infos: dict[str, str] = field(default_factory=dict)
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None
    terminal_observation: str | None = field(default=None, metadata={"one of": ("repeat", "drop")})
    mdp: str | None = None
    files: str | None = None
    episode: str | None = None
    time: tuple[str, ...] | None = None
    step: float | None = None
    gaps: str | None = field(default=None, metadata={"one of": ("cut", "keep")})
    unordered: str | None = field(default=None, metadata={"one of": ("sort",)})
    duplicates: str | None = field(default=None, metadata={"one of": ("first", "last")})
    missing: str | None = field(default=None, metadata={"one of": ("cut",)})
    missing_as: tuple[str, ...] = ()
    timezone: str | None = None
    time_format: str | None = None
    separator: str = ","
    decimal: str = field(default=".", metadata={"one of": (".", ",")})
    thousands: str | None = field(default=None, metadata={"one of": (",", ".", "'", " ", "\N{NO-BREAK SPACE}")})
    encoding: str = "utf-8"
    header: int = 1
    skip: int = 0
    axes: str | None = field(default=None, metadata={"one of": ("episode, time", "mdp, episode, time")})
    groups: str | None = None
    family: str | None = None
    parameters: Parameters | None = None

    @property
    def codec(self) -> str:
        """By which text is read: a byte-order mark before UTF-8 is none of it."""
        return "utf-8-sig" if self.encoding == "utf-8" else self.encoding

    def at(self, key: str) -> str:
        """Where the mapping says ``key``, or that it does not: the beginning of every message about it."""
        if key in self.lines:
            return f"{self.path}, line {self.lines[key]} ({key})"
        return f"{self.path} (no line {key!r})"

    def error(self, key: str, says: str) -> BmrlError:
        """The error to raise where the line of ``key`` has to change."""
        return BmrlError(f"{self.at(key)}: {says}")

    def pick(self, key: str, spec: str, names: Sequence[str], where: str) -> list[Pick]:
        """The columns among ``names`` that one entry of the line ``key`` means.

        Raises ``BmrlError`` where there is none, or two of that name.
        """
        if spec in names:
            found = [Pick(spec)]
        elif part := _PART.fullmatch(spec):
            start = int(part["start"])
            stop = int(part["stop"]) if part["more"] else start + 1
            if start >= stop:
                raise self.error(key, f"{spec!r} is no column: columns are counted from 0, the second number excluded")
            found = [Pick(part["name"], slice(start, stop))] if part["name"] in names else []
        elif any(sign in spec for sign in "*?"):
            found = [Pick(name) for name in names if fnmatchcase(name, spec)]
        else:
            first, _, last = spec.partition(":")
            known = first in names and last in names
            found = [Pick(name) for name in names[names.index(first) : names.index(last) + 1]] if known else []
        if not found:
            close = difflib.get_close_matches(spec, names, 1)
            hint = f"did you mean {close[0]!r}? It" if close else "it"
            raise self.error(key, f"{where} has no column {spec!r}; {hint} has {shortened(names)}")
        for pick in found:
            if names.count(pick.name) > 1:
                raise self.error(key, f"{where} has two columns named {pick.name!r}; rename one of them there")
        return found


def read_mapping(path: Path) -> Mapping:
    """Reads a mapping.

    Raises ``BmrlError``, naming the line to change, where the file is missing or no TOML, a key is unknown, missing,
    undecided ("?") or of a wrong kind, or two lines do not go together.
    """
    text = _read_text(path)
    try:
        said = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also an integer of more digits than Python reads
        raise BmrlError(f"{path} is no TOML: {error}; a line is: key = value, text in quotes") from error
    lines = _lines(text)
    known = [each.name for each in fields(Mapping) if each.name not in ("path", "lines", "said")]
    values: dict[str, Any] = {}
    for key, value in said.items():
        where = f"{path}, line {lines.get(key, 1)} ({key})"
        if key not in known:
            close = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"the keys are {', '.join(known)}"
            raise BmrlError(f"{where}: there is no such key; {hint}")
        marks = key == "missing_as"  # among these, it is one
        if value == UNDECIDED or (isinstance(value, list) and UNDECIDED in value and not marks):
            raise BmrlError(f"{where} is undecided: put what holds for these logs in the place of {UNDECIDED!r}")
        values[key] = _value(where, key, value)
    for key, wanted in _NEEDED.items():
        if key not in values:
            raise BmrlError(f"{path} (no line {key!r}): add {wanted}")
    mapping = Mapping(path=path, lines={key: lines.get(key, 1) for key in said}, said=said, **values)
    _check_together(mapping)
    return mapping


_NEEDED = {
    "observations": 'observations = ["...", ...], the columns of an observation',
    "actions": 'actions = ["...", ...], the columns of an action',
    "terminations": 'terminations = "...", the column that is true where the MDP reached a terminal state; "none" if '
    "no state is terminal",
}


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES or not path.is_file():
            raise BmrlError(f"{path} is no mapping: a text file of a few lines; 'bmrl data suggest' drafts one")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BmrlError(f"{path} cannot be read ({error.strerror}); 'bmrl data suggest' drafts a mapping") from error
    except UnicodeDecodeError as error:
        raise BmrlError(f"{path} is no text in UTF-8; save it as that") from error


def _lines(text: str) -> dict[str, int]:
    """{key: the line that it is on}, for the messages."""
    found: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if match := re.match(r"""\s*(?:([\w-]+)|"([^"]+)"|\[([\w-]+)\])\s*(?:[.=]|$)""", line):
            found.setdefault(next(filter(None, match.groups())), number)
    return found


def _value(where: str, key: str, value: Any) -> Any:
    """The value of a key, in the type of its field."""

    said = value

    def need(holds: bool, what: str) -> None:
        if not holds:
            raise BmrlError(f"{where}: {what} is needed, not {one_line(said)[:80]!r}")

    if key in ("observations", "actions", "next_observations"):
        value = [value] if isinstance(value, str) else value
        need(_all(value, str) and bool(value), 'a list of columns, as ["a", "b"],')
        return tuple(value)
    if key == "time":
        value = [value] if isinstance(value, str) else value
        named = _all(value, str) and all(value) and len(value) == len(set(value)) in (1, 2)
        need(named, 'a column, or those of the date and of the time of the day, as ["date", "clock"],')
        return tuple(value)
    if key == "missing_as":
        value = value if isinstance(value, list) else [value]
        marks = bool(value) and all(_finite(mark) or (isinstance(mark, str) and mark) for mark in value)
        need(marks, 'a list of marks, as ["-", -999],')
        return tuple(map(str, value))
    if key == "infos":
        value = {name.rpartition("/")[2]: name for name in value} if _all(value, str) else value
        need(isinstance(value, dict) and _all(list(value.values()), str), 'a list of columns, or {name = "column"},')
        for name in value:
            need(
                bool(_NAME.fullmatch(name)), f"a name of letters, digits, '_', '-', as {{name = \"...\"}}, for {name!r}"
            )
        return value
    if key == "parameters":
        said_all = isinstance(value, dict) and value.keys() == {"file", "mdp", "columns"}
        named = said_all and _all([value["file"], value["mdp"]], str) and _all(value["columns"], str)
        need(
            named and value["columns"] != [], 'a table, as {file = "a.csv", mdp = "house", columns = ["area", "u_*"]},'
        )
        return Parameters(value["file"], value["mdp"], tuple(value["columns"]))
    if key in ("low", "high"):
        value = value if isinstance(value, list) else [value]
        need(bool(value) and all(map(_finite, value)), "a number, or a list with one for each action,")
        return tuple(map(float, value))
    if key == "step":
        need(_finite(value) or isinstance(value, str), 'a number, a duration as "15 min", or "any",')
        return _duration(where, value)
    if key == "header":
        need(type(value) is int and 1 <= value <= MAX_LINES, f"the number of a line, from 1 to {MAX_LINES},")
        return value
    if key == "skip":
        need(type(value) is int and 1 <= value <= MAX_LINES, f"how many lines are skipped, from 1 to {MAX_LINES},")
        return value
    need(isinstance(value, str) and bool(value), "a text in quotes")
    one_of = next(each.metadata.get("one of") for each in fields(Mapping) if each.name == key)
    swap = " (swap axes first where time comes before episodes: array.swapaxes(0, 1))" if key == "axes" else ""
    need(not one_of or value in one_of, f"{' or '.join(map(repr, one_of or ()))}{swap}")
    if key == "separator":
        need(len(value) == 1, "one character")
    if key == "encoding":
        need(_is_encoding(value), 'the name of an encoding, as "cp1252" (Excel in Western Europe),')
        return codecs.lookup(value).name.removesuffix("-sig")
    if key == "time_format":
        need("%f" not in value, "a format without %f, as fractions are read in ISO 8601 alone (no time_format),")
    if key == "files":
        need(value.count("{mdp}") == 1, "a pattern with {mdp} in it, as 'building_{mdp}.csv',")
    return value


def _duration(where: str, value: Any) -> float:
    """Seconds, or the number itself; infinite for "any"."""
    if value == "any":
        return math.inf
    if isinstance(value, str):
        match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([a-z]+)", value)
        if match is None or match[2] not in _UNITS:
            raise BmrlError(f'{where}: {value!r} is no duration; "15 min" is one, the units are {", ".join(_UNITS)}')
        value = float(match[1]) * _UNITS[match[2]]
    if value <= 0:
        raise BmrlError(f"{where}: {value} is no step; a step is greater than 0")
    return float(value)


def _check_together(mapping: Mapping) -> None:
    """Refuses lines that do not go together."""
    for one, other in (("low", "high"), ("high", "low"), ("time", "step")):
        if one in mapping.lines and other not in mapping.lines:
            needed = 'how far two rows are apart, as "15 min"; "any" to check nothing' if other == "step" else "both"
            raise mapping.error(other, f"add {other}: {one} alone does not say {needed}")
    for key in ("step", "gaps", "duplicates", "timezone", "time_format"):
        if key in mapping.lines and mapping.time is None:
            raise mapping.error(key, f"without a line 'time' there is nothing that {key} could be about")
    if mapping.mdp is not None and mapping.files is not None:
        raise mapping.error("files", "the MDP's name comes from a column (mdp) or from the file's name, not both")
    if mapping.thousands == mapping.decimal:
        raise mapping.error("thousands", f"{mapping.decimal!r} is the sign before decimals; say decimal as well")
    if mapping.outcome_of == "last action" and mapping.next_observations:
        raise mapping.error("outcome_of", "rows with next observations hold the outcome of this action")


def _all(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(each, kind) for each in value)


def _is_encoding(name: str) -> bool:
    """Whether it is that of a text in which what is odd can be replaced."""
    try:
        b"a".decode(name, "replace")
    except (LookupError, UnicodeError, ValueError):
        return False
    return True


def _finite(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300


def one_line(text: object) -> str:
    """What a library or a file says, fit for a message of one line."""
    return " ".join(str(text).split())[:300]
