"""A smoke run as what is killed: its commands, what it is to leave, and how far it has come.

The smoke presets save a checkpoint at every opportunity (``checkpoint_seconds`` is 0).
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bmrl.runs.metrics import read_metrics

BMRL = (sys.executable, "-c", "from bmrl.cli import main; main()")
VARIANTS = ("default", "paper")

_DIRECTORY = "DIRECTORY"  # stands for the run directory in the words of a command
_NOT_COMPARED = (".lock", "log.txt", "machines.json")  # they tell of processes, times and places


@dataclass(frozen=True)
class Smoke:
    """The smoke run of an experiment with all its students, and the place where its undisturbed twin lies."""

    experiment: str
    place: Path

    @property
    def whole(self) -> tuple[str, ...]:
        """The words of the command that does everything."""
        return ("run", self.experiment, "--scale", "smoke", "--variants", *VARIANTS, "--out", _DIRECTORY)

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """The words of the commands that do it one after the other."""
        return {
            "collect": ("collect", self.experiment, "--scale", "smoke", "--out", _DIRECTORY),
            "teach": ("teach", _DIRECTORY, "--variants", *VARIANTS),
            **{f"distill-{variant}": ("distill", _DIRECTORY, "--variants", variant) for variant in VARIANTS},
            "evaluate": ("evaluate", _DIRECTORY),
        }

    @property
    def last_stage(self) -> str:
        """The stage after which the run is complete."""
        return list(self.stages)[-1]

    def command(self, words: Sequence[str], directory: Path, resume: bool = False) -> list[str]:
        """A command on a run directory, to be run in `environment`."""
        resumed = ("--resume",) if resume and words[0] != "evaluate" else ()  # evaluation begins anew
        return [*BMRL, *(str(directory) if word == _DIRECTORY else word for word in words), *resumed]

    @property
    def environment(self) -> dict[str, str]:
        """All commands share the programs that JAX has compiled: else compilation would be most of the time."""
        return {**os.environ, "XDG_CACHE_HOME": str(self.place / "cache")}

    def finish(self, words: Sequence[str], directory: Path, resume: bool = False) -> str | None:
        """Run a command to its end; None if it succeeds, else what it said last."""
        command = self.command(words, directory, resume)
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        return None if done.returncode == 0 else f"exit code {done.returncode}: {done.stderr.strip()[-500:]}"

    def after(self, stage: str) -> Path:
        """The directory of an undisturbed run after a stage; made if need be, with those of the stages before."""
        path, names = self.place / "undisturbed" / stage, list(self.stages)
        if not path.exists():
            making = path.with_name("making")
            shutil.rmtree(making, ignore_errors=True)
            making.parent.mkdir(parents=True, exist_ok=True)
            self.put_before(stage, making)
            if failure := self.finish(self.stages[stage], making):
                raise RuntimeError(f"the undisturbed run failed in {stage}: {failure}")
            making.rename(path)
            print(f"{self.experiment}: {names.index(stage) + 1}/{len(names)} stages of the undisturbed run", flush=True)
        return path

    def put_before(self, stage: str, directory: Path) -> None:
        """Make ``directory`` what the undisturbed run's was before a stage: for the first one there is none."""
        names = list(self.stages)
        if names.index(stage) > 0:
            shutil.copytree(self.after(names[names.index(stage) - 1]), directory)


def contents(directory: Path) -> dict[str, str]:
    """The SHA-256 of every file of a run, by its path; nothing for a directory. Rows of metrics.csv may be reordered.

    (Phase 2 fits its reward model anew when it is resumed: its row then stands behind those of earlier steps.)
    """

    def content(path: Path) -> bytes:
        data = path.read_bytes()
        return b"\n".join(sorted(data.splitlines())) if path.name == "metrics.csv" else data

    paths = sorted(path for path in directory.rglob("*") if path.name not in _NOT_COMPARED)
    return {
        str(path.relative_to(directory)): "" if path.is_dir() else hashlib.sha256(content(path)).hexdigest()
        for path in paths
    }


def differences(directory: Path, twin: Path) -> str | None:
    """Which files and directories differ from those of the twin; None where all are equal, byte for byte."""
    here, there = contents(directory), contents(twin)
    names = sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))
    return f"not as undisturbed: {', '.join(names)}" if names else None


def log_of(directory: Path) -> str:
    """The run's log so far."""
    path = directory / "log.txt"
    return path.read_text() if path.exists() else ""


def reached(directory: Path) -> tuple[str, int] | None:
    """The stage under way in a run that was killed, and the last of its steps that are known to be done."""
    marks = re.findall(r"INFO (\S+): (started|finished)", log_of(directory))
    if not marks or marks[-1][1] == "finished":
        return None
    stage = marks[-1][0]
    steps = [int(path.name[5:]) for path in (directory / "checkpoints" / stage).glob("step-*")]
    if (directory / "metrics.csv").exists():
        steps += [row.step for row in read_metrics(directory / "metrics.csv") if row.stage == stage]
    return stage, max(steps, default=0)


def lost(before: tuple[str, int] | None, log: str) -> int:
    """Steps of the stage and step that were `reached` which a run does again, by its own log.

    0 where it does not begin the stage again: it was killed before, or the stage's result was there.
    """
    stage, step = before or ("", 0)
    if not (begun := re.search(rf"INFO {stage}: started\n", log)):
        return 0
    # Warnings may come between.
    own = re.split(r"INFO \S+: (?:started|finished)", log[begun.end() :], maxsplit=1)[0]
    found = re.search(r"going on from .*/step-(\d+)", own)
    return step - int(found[1] if found else 0)


def interval(stage: str) -> int:
    """Steps between two checkpoints of a stage: what a kill may cost."""
    return 50 if stage == "collect" else 10
