"""A study: units of work whose rows are kept as soon as each is done, and a page that is drawn from all rows."""

import fnmatch
import logging
import math
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from bmrl import __version__
from bmrl.config import difference
from bmrl.errors import BmrlError
from bmrl.experiments.experiment import Scale
from bmrl.reproduce.markdown import table
from bmrl.runs.lock import lock_directory
from bmrl.runs.machine import machine_and_accelerators
from bmrl.runs.progress import Screen
from bmrl.runs.storage import read_json, write_file, write_json

PACKAGES = ("jax", "numpy", "mujoco", "gymnasium")  # whose versions are told with every unit, beside bmrl's own
DIGITS = 5  # significant digits of a row's numbers
PAGE_SECONDS = 60.0  # between two drawings of the page, which take some seconds
MAX_SEEDS = 10_000  # of one call: more are a slip of the fingers
REMEDY = "restore it from a copy, or remove this file alone: what the runs hold is found again"
MADE = "## How these rows were made"  # ends every page

Row = dict[str, Any]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Unit:
    """What is done in one sitting, resumes where it was stopped, and leaves rows."""

    name: str  # e.g. "halfcheetah-velocity/seed-0/scratch"
    config: Any  # everything that its rows depend on, as JSON values
    work: Callable[[], list[Row]]


@dataclass(frozen=True)
class Study:
    """One reproduction: which units there are, and the page made of their rows."""

    units: Callable[[Scale, Sequence[int], Path], list[Unit]]  # of a scale and seeds, with a directory for their runs
    page: Callable[[list[Row], Path], str]  # draws pictures of the rows into a directory; returns Markdown


def run_study(
    name: str, study: Study, scale: Scale, seeds: Sequence[int], out: Path, runs: Path | None, only: str
) -> None:
    """Do the units that ``out``/results.json lacks, and draw the page as they come, once a minute, and after them.

    Args:
        name: of the study, told on the page.
        study: its units and its page.
        scale: of the experiments.
        seeds: a unit or several for each.
        out: holds results.json, README.md and the pictures.
        runs: holds the big run directories, which studies can share; ``out``/runs if None.
        only: a pattern of units' names, as a shell's, e.g. "hopper*"; the others are left for another time.

    Raises:
        BmrlError: no unit fits ``only``; another study, scale or configuration in results.json; a README.md in ``out``
            that is no study's page.
    """
    units = study.units(scale, seeds, runs or out / "runs")
    chosen = [unit for unit in units if fnmatch.fnmatch(unit.name, only)]
    if not chosen:
        raise BmrlError(f"--only {only!r} fits none of the units: {', '.join(unit.name for unit in units)}")
    if (out / "config.json").exists():
        raise BmrlError(f"{out} is a run: choose another --out; --runs {out.parent} takes runs from there")
    with lock_directory(out):
        _check_page(out / "README.md")
        ledger = Ledger(out / "results.json", name, scale)
        todo = [unit for unit in chosen if not ledger.has(unit)]
        console, drawn = Screen(), -math.inf
        for count, unit in enumerate(todo, start=1):
            console.print(f"[bold]{unit.name}[/bold] ({count} of {len(todo)} to do)")
            with ledger.timed(unit):
                rows = unit.work()
            ledger.add(unit, rows)
            if time.monotonic() - drawn > PAGE_SECONDS and count < len(todo):
                _write_page(study, ledger, out)
                drawn = time.monotonic()
        _write_page(study, ledger, out)
        console.print(f"results: {ledger.path}\npage: {out / 'README.md'}")


def _check_page(path: Path) -> None:
    """Raises BmrlError for a file that no study wrote: the page must not replace it."""
    if path.exists() and MADE not in path.read_text(encoding="utf-8", errors="replace"):
        raise BmrlError(f"{path} is no study's page, and would be lost: choose another --out")


def _write_page(study: Study, ledger: "Ledger", out: Path) -> None:
    text = study.page(ledger.rows(), out)
    write_file(out / "README.md", f"{text.rstrip()}\n\n{ledger.provenance()}".encode())


class Ledger:
    """results.json: for every unit its configuration, its rows, and where and how fast they were made.

    Raises BmrlError where the file is something else.
    """

    def __init__(self, path: Path, name: str, scale: Scale):
        self.path = path
        head = {"study": name, "scale": scale}
        self._data: dict[str, Any] = read_json(path, REMEDY) if path.exists() else {**head, "units": {}}
        if not _is_ledger(self._data):
            raise BmrlError(f"{path} is no study's results: restore it from a copy, or choose another --out")
        if lines := difference({key: self._data.get(key) for key in head}, head):
            raise BmrlError(f"{path} holds something else: {'; '.join(lines)}; choose another --out")

    @property
    def _units(self) -> dict[str, Any]:
        return self._data["units"]

    def has(self, unit: Unit) -> bool:
        """Whether the unit's rows are there. Raises BmrlError if they are of another configuration."""
        entry = self._units.get(unit.name)
        if entry is None:
            return False
        if lines := difference(entry["config"], plain(unit.config)):
            raise BmrlError(
                f"{self.path} holds {unit.name} of another configuration: {'; '.join(lines)}; choose another --out"
            )
        return "rows" in entry

    @contextmanager
    def timed(self, unit: Unit) -> Iterator[None]:
        """Count the time of a sitting, also of one that is broken off."""
        began = time.monotonic()
        try:
            yield
        finally:
            entry = self._units.setdefault(unit.name, {"config": plain(unit.config), "seconds": 0})
            entry["seconds"] += round(time.monotonic() - began)
            write_json(self.path, self._data)

    def add(self, unit: Unit, rows: Sequence[Row]) -> None:
        """Keep a finished unit's rows."""
        self._units[unit.name] |= {
            "command": _command(),
            "machine": machine_and_accelerators(),
            # Not asked of the environment: run from a source tree, bmrl is not installed there
            "versions": {"bmrl": __version__} | {package: version(package) for package in PACKAGES},
            "rows": plain(rows),
        }
        write_json(self.path, self._data)

    def rows(self) -> list[Row]:
        """The rows of all finished units, sorted by unit."""
        done = sorted((name, entry) for name, entry in self._units.items() if "rows" in entry)
        return [{"unit": name, **row} for name, entry in done for row in entry["rows"]]

    def provenance(self) -> str:
        """Markdown: every unit with its command, machine and time."""
        done = sorted((name, entry) for name, entry in self._units.items() if "rows" in entry)
        lines = []
        for name, entry in done:
            clock = f"{entry['seconds'] // 60}:{entry['seconds'] % 60:02d}"
            lines.append([name, clock, entry["machine"], f"`{entry['command']}`"])
        versions = sorted({f"{p} {v}" for _, entry in done for p, v in entry["versions"].items()})
        units = table(("unit", "wall-clock", "machine", "command"), lines)
        return "\n".join([MADE, "", units, "", f"Versions: {', '.join(versions)}.", ""])


def _is_ledger(data: Any) -> bool:
    """Whether every unit has what its sittings leave and, if it is done, what ``add`` leaves."""

    def has(entry: Any, kinds: Mapping[str, type]) -> bool:
        return isinstance(entry, dict) and all(isinstance(entry.get(key), kind) for key, kind in kinds.items())

    def is_unit(entry: Any) -> bool:
        if not has(entry, {"seconds": int}) or "config" not in entry:
            return False
        if "rows" not in entry:
            return True
        done = {"command": str, "machine": str, "versions": dict, "rows": list}
        return has(entry, done) and all(isinstance(row, dict) for row in entry["rows"])

    return has(data, {"units": dict}) and all(map(is_unit, data["units"].values()))


def _command() -> str:
    """What was typed: bmrl, or python with the module that called the study."""
    module = sys.modules["__main__"].__spec__
    program = ["python", "-m", module.name.removesuffix(".__main__")] if module else ["bmrl"]
    return shlex.join([*program, *sys.argv[1:]])


def plain(value: Any) -> Any:
    """JSON values with short numbers; NaN, which JSON has not, is null."""
    match value:
        case Mapping():
            return {str(key): plain(x) for key, x in value.items()}
        case np.ndarray() | list() | tuple():
            return [plain(x) for x in value]
        case float() | np.floating():
            return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None
        case np.integer() | np.bool_():
            return value.item()
        case _:
            return value


def parse_seeds(text: str) -> list[int]:
    """ "0-4" or "0,2,7-9" as a list. Raises BmrlError where it is neither."""
    seeds: list[int] = []
    for part in text.split(","):
        if not (found := re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())):
            raise BmrlError(f"--seeds {text!r}: write them as 0-4 or 0,2,7-9")
        first, last = int(found[1]), int(found[2] or found[1])
        if not first <= last < 2**31:
            raise BmrlError(f"--seeds {text!r}: {part.strip()!r} is no range of seeds")
        if len(seeds) + last - first >= MAX_SEEDS:
            raise BmrlError(f"--seeds {text!r}: {MAX_SEEDS:,} seeds are the most in one call")
        seeds += range(first, last + 1)
    return sorted(set(seeds))
