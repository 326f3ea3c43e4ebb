"""Drafts a mapping from a file: what names and values tell is filled in, what they do not is left as "?"."""

import contextlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bmrl.data.mapping import Mapping, one_line
from bmrl.data.readers import Source, Times
from bmrl.data.sources import discrete_arrays, find_sources, minari_metadata, minari_space, open_reader
from bmrl.data.survey import LEAST, Column, columns_of, csv_format, episode_groups
from bmrl.errors import BmrlError

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
    "mdp": ("mdp", "mdp_id", "task", "task_id", "building", "building_id", "site", "house", "robot", "device"),
    "episode": ("episode", "episode_id", "episodes", "ep", "trajectory", "trajectory_id", "traj", "run_id"),
    "time": ("time", "timestamp", "timestamps", "datetime", "date_time", "date", "t", "step", "timestep", "zeit"),
}
DONES = ("done", "dones")
_COMMENTS = {
    "groups": "each is an episode; if each is an MDP, write each into a file of its own",
    "skip": "below the names there are units",
    "missing_as": "marks of missing values; else mend the file",
}


def suggest(place: str) -> str:
    """The draft for a file, or for the first of a directory's or pattern's, as TOML.

    Raises ``BmrlError`` where there is no file that can be read.
    """
    source = find_sources([place])[0]
    said = csv_format(source.path) if source.format == "csv" else {}
    if source.format == "hdf5" and (pattern := episode_groups(source.path)):
        said["groups"] = pattern
    mapping = Mapping(Path("mapping.toml"), {}, said, (), (), "none", **said)
    with contextlib.closing(open_reader(source, mapping)) as reader:
        columns = columns_of(reader, source, mapping)
    if not columns:
        raise BmrlError(f"{source.path} has no columns")
    marks = sorted({mark for column in columns for mark in column.marks()})
    if marks:
        said["missing_as"] = marks
    return Draft(source, columns, said).text()


class Draft:
    """The lines of a draft, one key after the other."""

    def __init__(self, source: Source, columns: Sequence[Column], said: dict[str, Any]):
        self._source, self._said = source, said
        self._all = columns
        self._columns = {column.name: column for column in columns if column.name}  # pandas' index may have none
        self._lines: list[str] = []
        self._uses = self._guess()

    def text(self) -> str:
        """The whole draft."""
        self._head()
        for key, value in self._said.items():
            self._say(key, value, _COMMENTS.get(key, ""))
        least = sorted({int(column.low) for column in self._columns.values() if column.low in LEAST})
        if least:
            self._lines.append(
                f"# missing_as = {_toml([*self._said.get('missing_as', []), *least])}  # if numbers mark it, too"
            )
        self._observations()
        self._actions()
        self._outcomes()
        self._places()
        return "\n".join(self._lines) + "\n"

    def _guess(self) -> dict[str, str]:
        """{key: the column whose name means it}."""
        last = {name: name.rpartition("/")[2].strip().lower() for name in reversed(self._columns)}
        names = {re.sub(r"[ _-](id|name)$", "", word): name for name, word in last.items()}
        names |= {word: name for name, word in last.items()}
        uses = {key: names[word] for key, words in NAMES.items() for word in words[::-1] if word in names}
        if "masks" in names:  # OGBench: "masks" is 0 in a terminal state, "terminals" is 1 where an episode ends
            uses["truncations"] = uses.get("terminations", "")
            uses["terminations"] = f"not {names['masks']}"
        elif "valids" in uses and "terminations" in uses:
            uses["truncations"] = uses.pop("terminations")
        uses["time"] = self._guess_time(names)
        return {key: name for key, name in uses.items() if name}

    def _guess_time(self, names: dict[str, str]) -> str:
        """The column of times: one whose values look so comes before one whose name means it; "" for none."""
        named = [self._columns[names[word]] for word in NAMES["time"] if word in names]
        # A "T" that is no count and does not rise is a temperature.
        named = [c for c in named if c.name.lower() != "t" or c.kind != "number" or c.whole or c.rising]
        written = [c for c in named if c.kind in ("time", "date", "clock")]
        times, dates = ([c for c in self._columns.values() if c.kind == kind] for kind in ("time", "date"))
        return next((c.name for c in (*written, *times, *named, *dates)), "")

    def _head(self) -> None:
        told = [column.told() for column in self._all]
        more = [f"and {len(told) - SHOWN} more"] if len(told) > SHOWN else []
        name = self._source.name if self._source.minari else self._source.path.name
        self._lines += [
            f"# Drafted from {_plain(one_line(name))} by 'bmrl data suggest'.",
            '# Look at every line; each "?" has to be decided.',
            "# What the file has (values: of its beginning):",
            *(f"#   {_plain(one_line(line))}" for line in told[:SHOWN] + more),
            "",
        ]

    def _say(self, key: str, value: Any, comment: str = "") -> None:
        self._lines.append(f"{key} = {_toml(value)}" + (f"  # {_plain(comment)}" if comment else ""))

    def _observations(self) -> None:
        discrete = discrete_arrays(self._source, "observations")
        if "observations" in discrete:
            self._say("observations", "?", "these are Discrete: choices, which are no amounts; one number each, as Box")
            return
        nested = [name for name in self._nested("observations") if name not in discrete]
        if nested or "observations" in self._uses:
            self._say("observations", nested or [self._uses["observations"]])
        else:
            numbered = _numbered(self._columns, ("obs", "state", "s", "observation"))
            used = {name.removeprefix("not ") for name in self._uses.values()} | set(self._action_columns())
            used |= {name for name in self._columns if name.lower() in DONES}
            free = [c.name for c in self._columns.values() if c.kind == "number" and c.name not in used]
            names = self._in_short(numbered) or free
            self._say("observations", names or "?", "what the policy will see: take out what it will not")
        if self._next_observations:
            self._say("next_observations", self._next_observations)

    @property
    def _next_observations(self) -> list[str]:
        """The columns of next observations, if there are any."""
        named = [self._uses["next_observations"]] if "next_observations" in self._uses else []
        return self._nested("next_observations") or named

    def _nested(self, key: str) -> list[str]:
        """Columns within a group whose name means ``key``."""
        return [name for name in self._columns if "/" in name and name.split("/")[0].lower() in NAMES[key]]

    def _action_columns(self) -> list[str]:
        if "actions" in self._uses:
            return [self._uses["actions"]]
        return _numbered(self._columns, ("act", "action", "a", "u"))

    def _in_short(self, names: list[str]) -> list[str]:
        """Columns as a range, where they are many and side by side."""
        known = list(self._columns)
        start = known.index(names[0]) if names else 0
        side_by_side = known[start : start + len(names)] == names
        return [f"{names[0]}:{names[-1]}"] if side_by_side and len(names) > 3 else names

    def _actions(self) -> None:
        names = self._action_columns()
        self._say("actions", self._in_short(names) or "?", "" if names else "the columns of what was decided")
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
        if not self._next_observations and not episodic:
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
        if episodic and not self._said.get("groups") and "mask" in self._columns:
            self._say("padding", "not mask", "where steps are none, but fill an episode up")
        if "terminations" in uses and not self._next_observations and not episodic and "valids" not in uses:
            why = 'terminal transitions have no next observation here: "repeat" their own, or "drop" them'
            self._say("terminal_observation", "repeat", why)
        infos = [name for name in self._columns if name.startswith("infos/")]
        if infos:
            self._lines.append(f"# infos = {_toml(infos)}")

    def _stacked(self) -> bool:
        """Whether the first axes of the arrays are not rows; says so."""
        shapes = {key: self._columns[name].shape for key, name in self._uses.items() if name in self._columns}
        rewards = shapes.get("rewards", ())
        rank = len(rewards) - (len(rewards) > 1 and rewards[-1] == 1) or len(shapes.get("actions", ())) - 1
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
        times, written = self._times()
        if not times:
            if any(column.kind in ("time", "date") for column in self._all):
                self._say("time", "?", "the column of times has no name: give it one in the file")
            return
        self._say("time", times if len(times) > 1 else times[0])
        if written:
            self._say("time_format", written, 'how it is written, as "%m/%d/%Y %I:%M %p"' if written == "?" else "")
        step, clock = self._step(times, written)
        self._say("step", step, "the most common one")
        if clock == "local":
            self._lines.append('# timezone = "Europe/Vienna"  # if this clock is changed in summer')
        self._lines += [
            '# gaps = "cut"  # end episodes where rows are not a step apart',
            '# missing = "cut"  # end episodes where a value is missing',
        ]

    def _times(self) -> tuple[list[str], str | None]:
        """The column of times, or those of dates and of times of the day; and how they are written."""
        first = {c.kind: c for c in reversed(self._columns.values())}
        date, clock = first.get("date"), first.get("clock")
        if "time" not in self._uses:
            return [], None
        column = self._columns[self._uses["time"]]
        if date and clock and column in (date, clock):
            written = clock.time_format and f"{date.time_format or '%Y-%m-%d'} {clock.time_format}"
            return [date.name, clock.name], "?" if date.time_format == "?" else written
        return [column.name], "?" if column.kind in ("text", "clock") else column.time_format

    def _step(self, names: list[str], written: str | None) -> tuple[Any, str]:
        """The most common difference of two times in the file's beginning, and their clock."""
        mapping = Mapping(Path("mapping.toml"), {}, {}, (), (), "none", time_format=written, **self._said)
        try:
            with contextlib.closing(open_reader(self._source, mapping)) as reader:
                times: Times = next(reader.chunks(dict.fromkeys(names, "time"))).columns[names[0]]
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
        return '"' + _plain(text) + '"'
    return repr(value)


def _plain(text: str) -> str:
    """A text without control characters, which TOML has only as escapes."""
    return re.sub(r"[\x00-\x1f\x7f]", lambda sign: f"\\u{ord(sign[0]):04x}", text)


def _numbered(names: Iterable[str], stems: Sequence[str]) -> list[str]:
    """Columns named by a stem and a number, as "obs_0", "obs_1"."""
    for stem in stems:
        found = [name for name in names if re.fullmatch(rf"{stem}[_.\[]?\d+\]?", name, re.IGNORECASE)]
        if found:
            return found
    return []
