"""Metrics over steps: an append-only table that survives a kill.

stage,step,learner,name,value
collect,2000,,reward,-3.5        learner is empty for a value that all learners share
teach,1000,0,critic_loss,0.25    a row a learner for values [K]
"""

import logging
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from bmrl.errors import CorruptError, NotSavedError
from bmrl.runs.storage import open_regular, write_file

MAX_BYTES = 1 << 28  # a table of ours is not a tenth of that

_TAIL = 1 << 14  # bytes, of which the last rows are
_HEADER = "stage,step,learner,name,value\n"
_WORD = re.compile(r"[A-Za-z0-9_./-]+")
_ROW = re.compile(rf"({_WORD.pattern}),([0-9]{{1,18}}),([0-9]{{0,9}}),({_WORD.pattern}),([^,]+)")

_log = logging.getLogger(__name__)


class Metric(NamedTuple):
    """One value of one metric. ``learner`` is None where all learners share it."""

    stage: str
    step: int
    learner: int | None
    name: str
    value: float


class Metrics:
    """The writer of ``metrics.csv``; there is one at a time. Values may be NaN: they are what happened."""

    def __init__(self, path: Path):
        """Opens the table to append; makes it if absent or empty, and cuts off a row that a kill left unfinished.

        Raises ``CorruptError`` where the file is something else.
        """
        self._path = path
        emptied = path.is_file() and path.stat().st_size == 0
        if emptied:
            _log.warning("%s was empty and is begun anew: what was logged before is lost", path)
        if emptied or not path.exists():
            write_file(path, _HEADER.encode())
        content = _read(path)
        if not content.endswith("\n"):
            write_file(path, content[: content.rfind("\n") + 1].encode())

    def log(self, stage: str, step: int, values: Mapping[str, ArrayLike]) -> None:
        """Appends {name: value or values [K]} at ``step``. On the disk when it returns: call it once a chunk.

        Raises ``BmrlError`` where the disk is full or the file cannot be written.
        """
        lines = []
        for name, value in values.items():
            array = np.asarray(value)
            if not (_WORD.fullmatch(stage) and _WORD.fullmatch(name)) or array.ndim > 1:
                raise ValueError(f"cannot log {stage!r} {name!r} of shape {array.shape}")
            rows = [("", array)] if array.ndim == 0 else list(enumerate(array))
            lines += [f"{stage},{step},{learner},{name},{number!s}\n" for learner, number in rows]
        try:
            with open(self._path, "a", encoding="utf-8") as file:
                file.write("".join(lines))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise NotSavedError(f"{self._path} could not be written ({error.strerror}); free space there") from error

    def truncate(self, stage: str, step: int) -> None:
        """Drops the rows of ``stage`` after ``step``, the checkpoint resumed from: they will come again."""
        rows = _rows(self._path)
        kept = [line for line, row in rows if row.stage != stage or row.step <= step]
        if len(kept) < len(rows):
            write_file(self._path, (_HEADER + "".join(kept)).encode())

    def take_over(self, stage: str, tables: Iterable[tuple[Path, int]]) -> None:
        """Replaces the rows of ``stage`` by those of other tables, each with the number of its first learner.

        Tables that would be too large together stay where they are, with a warning.
        """
        kept = [line for line, row in _rows(self._path) if row.stage != stage]
        found, size = [], sum(map(len, kept))
        for path, first in tables:
            size += path.stat().st_size
            if size > MAX_BYTES:
                _log.warning("%s: the metrics of %s stay where they are, beside %s: too many", self._path, stage, path)
                return
            for line, row in _rows(path):
                if row.stage == stage:
                    fields = line.split(",")
                    fields[2] = "" if row.learner is None else str(first + row.learner)
                    found.append(",".join(fields))
        write_file(self._path, (_HEADER + "".join(kept + found)).encode())


def last_step(path: Path, stage: str) -> int:
    """The step of the last row of a stage in a table that another process may be writing; 0 if there is none."""
    try:
        with open_regular(path) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            lines = file.read().decode(errors="replace").splitlines(keepends=True)
    except CorruptError:
        return 0
    found = (_ROW.fullmatch(line.rstrip("\n")) for line in reversed(lines) if line.endswith("\n"))
    return next((int(row[2]) for row in found if row and row[1] == stage), 0)


def read_metrics(path: Path) -> list[Metric]:
    """All rows of a table, in the order of their writing. A damaged row is left out with a warning.

    Raises ``CorruptError`` where the file is missing or something else.
    """
    return [row for _, row in _rows(path)]


def _rows(path: Path) -> list[tuple[str, Metric]]:
    """The lines, with their ends, and what they say."""
    rows = []
    for number, line in enumerate(_read(path).splitlines(keepends=True)[1:], start=2):
        try:
            if not (found := _ROW.fullmatch(line)):
                raise ValueError(line)
            stage, step, learner, name, value = found.groups()
            metric = Metric(stage, int(step), int(learner) if learner else None, name, float(value))
            rows.append((line, metric))
        except ValueError:
            _log.warning("%s: line %d is damaged and left out", path, number)
    return rows


def _read(path: Path) -> str:
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > MAX_BYTES:
            raise CorruptError(f"{path} is larger than {MAX_BYTES >> 20} MiB: no table of metrics is")
        content = file.read().decode(errors="replace")
    if not content.startswith(_HEADER):
        raise CorruptError(f"{path} is not a table of metrics: its first line is not {_HEADER.strip()!r}; remove it")
    return content
