"""Drafts a mapping from a file: what names and values tell is filled in, what they do not is left as "?"."""

import contextlib
import csv
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bmrl.data.mapping import Mapping, one_line
from bmrl.data.readers import Reader, Source, Times
from bmrl.data.sources import find_sources, minari_metadata, minari_space, open_reader
from bmrl.errors import BmrlError

if TYPE_CHECKING:
    from bmrl.data.arrays import ArrayReader

SAMPLE_BYTES = 1 << 18  # of a CSV file's beginning
SHOWN = 40  # columns told one by one

# Key of the mapping -> names of columns that mean it, in lower case and without what is before the last "/".
NAMES: dict[str, tuple[str, ...]] = {
    "observations": ("observations", "observation", "obs", "states", "state"),
    "next_observations": ("next_observations", "next_observation", "next_obs", "next_states", "next_state"),
    "actions": ("actions", "action", "act", "acts", "setpoint", "command", "control", "u"),
    "rewards": ("rewards", "reward", "rew"),
    "terminations": ("terminations", "termination", "terminated", "terminals", "terminal"),
    "truncations": ("truncations", "truncation", "truncated", "timeouts", "timeout"),
    "valids": ("valids", "valid"),
    "mdp": (
        "mdp",
        "mdp_id",
        "task",
        "task_id",
        "building",
        "building_id",
        "site",
        "house",
        "robot",
        "device",
        "unit_id",
    ),
    "episode": ("episode", "episode_id", "episodes", "ep", "trajectory", "trajectory_id", "traj", "run", "run_id"),
    "time": ("time", "timestamp", "timestamps", "datetime", "date_time", "date", "t", "step", "timestep", "zeit"),
}
DONES = ("done", "dones")
TIME_FORMATS = {
    r"\d{1,2}\.\d{1,2}\.\d{4} \d{1,2}:\d{2}": "%d.%m.%Y %H:%M",
    r"\d{1,2}\.\d{1,2}\.\d{4} \d{1,2}:\d{2}:\d{2}": "%d.%m.%Y %H:%M:%S",
}
ISO = re.compile(r"\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?( ?(Z|[+-]\d{2}:?\d{2}))?")
WORDS = {"true", "false", "t", "f", "yes", "no", "y", "n"}


@dataclass(frozen=True)
class Column:
    """What the beginning of a file tells of a column, or of an array.

    Attributes:
        name: in the file.
        kind: "number", "flag", "time" or "text".
        shape: of an array, () for a column.
        low: the least number.
        high: the greatest.
        whole: whether all numbers are whole.
        time_format: how times are written, if not in ISO 8601.
    """

    name: str
    kind: str
    shape: tuple[int, ...] = ()
    low: float = np.nan
    high: float = np.nan
    whole: bool = False
    time_format: str | None = None

    def told(self) -> str:
        """A line of the draft's list."""
        shape = f" {list(self.shape)}" if self.shape else ""
        values = f", {self.low:g} ... {self.high:g}" if np.isfinite(self.low) else ""
        return f"{self.name}{shape} ({self.kind}{values})"


def suggest(place: str) -> str:
    """The draft for a file, or for the first of a directory's or pattern's, as TOML.

    Raises ``BmrlError`` where there is no file that can be read.
    """
    source = find_sources([place])[0]
    said = _csv_format(source.path) if source.format == "csv" else {}
    if source.format == "hdf5" and (pattern := _episode_groups(source.path)):
        said["groups"] = pattern
    mapping = Mapping(Path("mapping.toml"), {}, said, (), (), "none", **said)
    with contextlib.closing(open_reader(source, mapping)) as reader:
        columns = _columns(reader, source, mapping)
    if not columns:
        raise BmrlError(f"{source.path} has no columns")
    return Draft(source, columns, said).text()


class Draft:
    """The lines of a draft, one key after the other."""

    def __init__(self, source: Source, columns: Sequence[Column], said: dict[str, Any]):
        self._source, self._said = source, said
        self._columns = {column.name: column for column in columns}
        self._lines: list[str] = []
        self._uses = self._guess()

    def text(self) -> str:
        """The whole draft."""
        self._head()
        for key, value in self._said.items():
            self._say(key, value)
        self._observations()
        self._actions()
        self._outcomes()
        self._places()
        return "\n".join(self._lines) + "\n"

    def _guess(self) -> dict[str, str]:
        """{key: the column whose name means it}."""
        names = {name.rpartition("/")[2].strip().lower(): name for name in reversed(self._columns)}
        uses = {key: names[word] for key, words in NAMES.items() for word in words[::-1] if word in names}
        if "masks" in names:  # OGBench: "masks" is 0 in a terminal state, "terminals" is 1 where an episode ends
            uses["truncations"] = uses.get("terminations", "")
            uses["terminations"] = f"not {names['masks']}"
        elif "valids" in uses and "terminations" in uses:
            uses["truncations"] = uses.pop("terminations")
        return {key: name for key, name in uses.items() if name}

    def _head(self) -> None:
        told = [column.told() for column in self._columns.values()]
        more = [f"and {len(told) - SHOWN} more"] if len(told) > SHOWN else []
        name = self._source.name if self._source.minari else self._source.path.name
        self._lines += [
            f"# Drafted from {one_line(name)} by 'bmrl data suggest'.",
            '# Look at every line; each "?" has to be decided.',
            "# What the file has (values: of its beginning):",
            *(f"#   {one_line(line)}" for line in told[:SHOWN] + more),
            "",
        ]

    def _say(self, key: str, value: Any, comment: str = "") -> None:
        self._lines.append(f"{key} = {_toml(value)}" + (f"  # {comment}" if comment else ""))

    def _observations(self) -> None:
        nested = [name for name in self._columns if name.split("/")[0] in ("observations", "obs") and "/" in name]
        if nested or "observations" in self._uses:
            self._say("observations", nested or [self._uses["observations"]])
        else:
            numbered = _numbered(self._columns, ("obs", "state", "s", "observation"))
            used = {name.removeprefix("not ") for name in self._uses.values()} | set(self._action_columns())
            used |= {name for name in self._columns if name.lower() in DONES}
            free = [c.name for c in self._columns.values() if c.kind == "number" and c.name not in used]
            names = numbered or free
            self._say("observations", names or "?", "what the policy will see: take out what it will not")
        if "next_observations" in self._uses:
            self._say("next_observations", [self._uses["next_observations"]])

    def _action_columns(self) -> list[str]:
        if "actions" in self._uses:
            return [self._uses["actions"]]
        return _numbered(self._columns, ("act", "action", "a", "u"))

    def _actions(self) -> None:
        names = self._action_columns()
        self._say("actions", names or "?", "" if names else "the columns of what was decided")
        space = minari_space(minari_metadata(self._source.path), "action_space") if self._source.minari else {}
        if space and space.get("type") != "Box":
            self._say(
                "low", "?", f"actions are {space.get('type')}: choices, and no learner of bmrl has discrete actions"
            )
        elif space:
            low, high = (np.asarray(space.get(key, []), float).ravel() for key in ("low", "high"))
            if np.isfinite(low).all() and np.isfinite(high).all() and ((low != -1).any() or (high != 1).any()):
                self._say("low", low.tolist())
                self._say("high", high.tolist())
            return
        else:
            known = [self._columns[name] for name in names]
            if all(column.low >= -1 and column.high <= 1 and not column.whole for column in known) and known:
                return
            least, most = ([getattr(column, key) for column in known] for key in ("low", "high"))
            told = f"; here {min(least):g} ... {max(most):g}" if known else ""
            self._say("low", "?", f"the least action that can be asked for, in its own unit{told}")
        self._say("high", "?", "the greatest")

    def _outcomes(self) -> None:
        uses = self._uses
        if "rewards" in uses:
            self._say("rewards", uses["rewards"])
        else:
            self._say("rewards", "?", "a column; or take the line out and give --reward path.py:function")
        episodic = self._said.get("groups") or self._stacked()
        if "next_observations" not in uses and not episodic:
            why = '"this action": reward and end came after the row\'s action; "last action": with its observation'
            self._say("outcome_of", "this action" if self._source.format in ("hdf5", "npz") else "?", why)
        done = next((name for name in self._columns if name.rpartition("/")[2].lower() in DONES), None)
        if "terminations" in uses:
            self._say("terminations", uses["terminations"])
        else:
            hint = f"{done!r}, if it is true in terminal states alone, not at time limits" if done else "a column"
            self._say("terminations", "?", f'{hint}; "none", if no state is terminal')
        if "truncations" in uses:
            self._say("truncations", uses["truncations"])
        if "valids" in uses:
            self._say("valids", uses["valids"])
        if "terminations" in uses and "next_observations" not in uses and not episodic and "valids" not in uses:
            why = 'terminal transitions have no next observation here: "repeat" their own, or "drop" them'
            self._say("terminal_observation", "repeat", why)
        infos = [name for name in self._columns if name.startswith("infos/")]
        if infos:
            self._lines.append(f"# infos = {_toml(infos)}")

    def _stacked(self) -> bool:
        """Whether the first axes of the arrays are not rows; says so."""
        shapes = {key: self._columns[name].shape for key, name in self._uses.items() if name in self._columns}
        rank = len(shapes.get("rewards", ())) or len(shapes.get("actions", ())) - 1
        axes = {2: "episode, time", 3: "mdp, episode, time"}.get(rank)
        if axes and not any(line.startswith("axes") for line in self._lines) and not self._said.get("groups"):
            self._say("axes", axes)
        return axes is not None

    def _places(self) -> None:
        if "mdp" in self._uses:
            self._say("mdp", self._uses["mdp"])
        else:
            self._lines.append('# mdp = "..."  # the column that names the MDP; without it, each file is one')
        if "episode" in self._uses:
            self._say("episode", self._uses["episode"])
        times = self._uses.get("time") or next((c.name for c in self._columns.values() if c.kind == "time"), None)
        if times is None:
            return
        self._say("time", times)
        if self._columns[times].time_format:
            self._say("time_format", self._columns[times].time_format)
        step, clock = self._step(times)
        self._say("step", step, "the most common one")
        if clock == "local":
            self._lines.append('# timezone = "Europe/Vienna"  # if this clock is changed in summer')
        self._lines += [
            '# gaps = "cut"  # end episodes where rows are not a step apart',
            '# missing = "cut"  # end episodes where a value is missing',
        ]

    def _step(self, name: str) -> tuple[Any, str]:
        """The most common difference of two times in the file's beginning, and their clock."""
        written = self._columns[name].time_format
        mapping = Mapping(Path("mapping.toml"), {}, {}, (), (), "none", time_format=written, **self._said)
        try:
            with contextlib.closing(open_reader(self._source, mapping)) as reader:
                times: Times = next(reader.chunks({name: "time"})).columns[name]
        except (BmrlError, StopIteration):
            return "?", "number"
        apart = np.diff(times.values)
        found, counts = np.unique(apart[apart > 0], return_counts=True)
        if not len(found):
            return "?", times.clock
        step = float(found[counts.argmax()])
        if times.clock == "number":
            return step, times.clock
        return (f"{step / 60:g} min" if step % 60 == 0 else f"{step:g} s"), times.clock


def _toml(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, str):
        text = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda sign: f"\\u{ord(sign[0]):04x}", text) + '"'
    return repr(value)


def _numbered(names: Iterable[str], stems: Sequence[str]) -> list[str]:
    """Columns named by a stem and a number, as "obs_0", "obs_1": as a range if there are many."""
    for stem in stems:
        found = [name for name in names if re.fullmatch(rf"{stem}[_.\[]?\d+\]?", name, re.IGNORECASE)]
        if found:
            return [f"{found[0]}:{found[-1]}"] if len(found) > 3 else found
    return []


# ---------------------------------------------------------------------- what a file has


def _csv_format(path: Path) -> dict[str, Any]:
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
    return said


def _beginning(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(SAMPLE_BYTES)
    except OSError as error:
        raise BmrlError(f"{path} cannot be read ({error.strerror})") from error


def _episode_groups(path: Path) -> str | None:
    """The pattern of the groups that hold an episode each, as Minari ("episode_*") and others ("data/demo_*") have."""
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


def _columns(reader: Reader, source: Source, mapping: Mapping) -> list[Column]:
    if source.format == "csv":
        return _csv_columns(reader, source, mapping)
    if source.format == "parquet":
        from bmrl.data.tables import kinds

        return [_summary(reader, name, kind) for name, kind in kinds(reader).items()]
    from bmrl.data.arrays import ArrayReader

    assert isinstance(reader, ArrayReader)
    return [_array_summary(reader, name) for name in reader.names]


def _csv_columns(reader: Reader, source: Source, mapping: Mapping) -> list[Column]:
    text = _beginning(source.path).decode(mapping.encoding.replace("utf-8", "utf-8-sig"), "ignore")
    lines = text.splitlines()[mapping.header : 1000]
    rows = list(csv.reader(lines[:-1] if len(lines) > 1 else lines, delimiter=mapping.separator))  # the last may be cut
    columns = []
    for place, name in enumerate(reader.names):
        cells = [row[place].strip() for row in rows if len(row) > place and row[place].strip()]
        columns.append(_from_text(name, cells, mapping.decimal))
    return columns


def _from_text(name: str, cells: list[str], decimal: str) -> Column:
    try:
        return _from_numbers(name, np.array([float(cell.replace(decimal, ".")) for cell in cells]), ())
    except ValueError:
        pass
    if {cell.lower() for cell in cells} <= WORDS:
        return Column(name, "flag")
    if all(ISO.fullmatch(cell) for cell in cells):
        return Column(name, "time")
    for pattern, written in TIME_FORMATS.items():
        if all(re.fullmatch(pattern, cell) for cell in cells):
            return Column(name, "time", time_format=written)
    return Column(name, "text")


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
    return Column(name, "number", shape, float(finite.min()), float(finite.max()), whole)
