"""Collection and phase 1 by groups of MDPs: each part of a stage can be done by any process, and be done again.

    DIR/parts/
      config.json    how many MDPs a part has
      mdp-000-007/   a part, laid out as a run: .lock, log.txt, metrics.csv, checkpoints/STAGE/,
                     and until the others are done, its batches/, teachers/VARIANT/, pooled/VARIANT/

The files are the truth: a part whose result is there is not done again, and one that was broken off goes on from its
newest checkpoint, whoever does it. Once all parts of a stage are done, their results become the run's.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import final

import jax
import numpy as np

from bmrl import pipeline
from bmrl.batch_rl.replay import Replay
from bmrl.batch_rl.teach import Taught, TeachConfig
from bmrl.config import from_json
from bmrl.engine import LOCAL, Engine
from bmrl.errors import BmrlError, CorruptError
from bmrl.families import get_family
from bmrl.learned import load_taught, save_learners
from bmrl.pipeline import Run
from bmrl.runs.metrics import last_step
from bmrl.runs.storage import (
    committed_names,
    has_result,
    is_committed,
    move_directory,
    read_json,
    remove_directory,
    verify_directory,
    write_json,
)
from bmrl.sources import batch_sources, check_sources
from bmrl.types import Spec

PARTS = "parts"
PATIENCE = 150.0  # s to wait for a part's lock: a file server gives up a holder that is gone after about 90


@dataclass(frozen=True)
class Part(ABC):
    """One stage of the MDPs ``first`` ... ``last`` - 1 of a run, and the directory where it is done."""

    run: Run
    stage: str
    first: int
    last: int

    @property
    def name(self) -> str:
        """By its MDPs."""
        return f"mdp-{self.first:03d}-{self.last - 1:03d}"

    @property
    def own(self) -> Run:
        """The part, laid out as a run."""
        return Run(self.run.directory / PARTS / self.name, self.run.experiment)

    @final
    def perform(self, patience: float = 0.0) -> None:
        """Do what is not done yet; for ``patience`` see `lock_directory`."""
        with pipeline.working_on(self.own.directory, patience=patience):
            if not self.finished():
                pipeline.note_machine(self.own)
                self.work()

    @final
    def newest_checkpoint(self) -> str:
        """The name of the newest checkpoint, later ones being greater; empty if there is none."""
        return max(committed_names(self.own.directory / "checkpoints" / self.stage), default="")

    @final
    def done(self) -> int:
        """How many of the part's `steps` are done, as its files say."""
        return self.steps if self.finished() else last_step(self.own.directory / "metrics.csv", self.stage)

    @property
    @abstractmethod
    def steps(self) -> int:
        """Of each of its learners."""

    @abstractmethod
    def finished(self) -> bool:
        """Whether its result is there."""

    @abstractmethod
    def work(self) -> None:
        """Make its result, from the newest checkpoint on."""


@final
class Collecting(Part):
    """Collection by SAC in some MDPs."""

    @property
    def steps(self) -> int:
        """See `Part`."""
        return self.run.experiment.collect.transitions

    def finished(self) -> bool:
        """See `Part`. The last batch is written last, and the first is made the run's first."""
        return any(is_committed(run.directory / "batches" / f"mdp-{self.last - 1:03d}") for run in (self.own, self.run))

    def work(self) -> None:
        """See `Part`."""
        pipeline.collect_batches(self.own, self.first, self.last)


@final
@dataclass(frozen=True)
class Learning(Part):
    """Phase 1 on some batches: a learner for each, or one for all of them as if they were one MDP's."""

    kind: str  # "teachers" or "pooled"
    variant: str

    @property
    def config(self) -> TeachConfig:
        """What learns, and for how long."""
        return self.run.experiment.teach[self.variant]

    @property
    def steps(self) -> int:
        """See `Part`."""
        return self.config.updates

    @property
    def path(self) -> Path:
        """Of the part's learners."""
        return self.own.directory / self.kind / self.variant

    def finished(self) -> bool:
        """See `Part`."""
        return has_result(self.path)

    def work(self) -> None:
        """See `Part`."""
        stage, path, config, first = self.stage, self.path, self.config, self.first
        pipeline.learn(self.own, stage, path, config, self.sources(), self.load, may_diverge=True, first=first)

    def sources(self) -> dict[str, str]:
        """Of what its learners are made."""
        if self.kind == "pooled":
            return pipeline.pooled_sources(self.run, self.variant)
        seen = slice(self.first, self.last) if self.config.logs == "own" else slice(None)
        return batch_sources(self.run.directory, seen)

    def taught(self) -> tuple[Spec, Taught]:
        """Its learners. Raises BmrlError if they are damaged, of other batches, another seed or configuration."""
        check_sources(self.path, verify_directory(self.path, hashes=False), self.sources(), self.run.experiment.seed)
        return load_taught(self.path, self.config)

    def load(self) -> Replay:
        """The batches that it learns from."""
        if self.kind == "pooled":
            return pipeline.pooled_replay(self.run, self.variant)
        return pipeline.lessons(self.run, self.variant, slice(self.first, self.last))


# ---------------------------------------------------------------------- stages


def check_engine(directory: Path, engine: Engine) -> int:
    """How many MDPs the parts of a run have that is or will be in ``directory``; 0 where its stages have no parts.

    Raises BmrlError where it cannot be done so.
    """
    if engine.group < 0 or engine.worker_cpus < 1 or engine.worker_gpus < 0:
        raise BmrlError("--group and --worker-gpus must be 0 or more, --worker-cpus 1 or more")
    if engine.engine == "local" and (engine.worker_cpus, engine.worker_gpus) != (LOCAL.worker_cpus, LOCAL.worker_gpus):
        raise BmrlError("--worker-cpus and --worker-gpus are for --engine ray: this process has all that JAX sees")
    if engine.engine == "ray" and find_spec("ray") is None:
        raise BmrlError("--engine ray needs Ray: install bmrl with its extra 'ray'")
    noted = directory / PARTS / "config.json"
    begun = from_json(read_json(noted), dict[str, int], str(noted)).get("group", 0) if noted.exists() else 0
    if noted.exists() and begun < 1:
        raise CorruptError(f"{noted} says no number of MDPs: restore it from a copy, or remove {noted.parent}")
    if engine.group and begun and engine.group != begun:
        raise BmrlError(f"{noted.parent} has parts of {begun} MDPs: go on with --group {begun}")
    if engine.engine == "ray" and not (engine.group or begun):
        raise BmrlError("--engine ray: say with --group how many MDPs a task is to have")
    return engine.group or begun


def collect_stage(run: Run, engine: Engine, family: str | None) -> None:
    """`pipeline.collect_stage`, in parts if there are to be any. ``family`` is the user's own PATH.py:NAME, if any."""
    group = check_engine(run.directory, engine)

    def in_parts(run: Run) -> None:
        count = len(get_family(run.experiment.family).train_mdps())
        parts = [Collecting(run, "collect", *span) for span in _begin(run, "collect", count, group, engine)]
        perform(parts, engine, family)
        _keep_metrics(parts)  # before the batches, for with the last of them nobody looks at the parts again
        for part in parts:  # in this order, so that the run never has a batch without those before it
            for name in committed_names(part.own.directory / "batches"):
                move_directory(part.own.directory / "batches" / name, run.directory / "batches" / name)

    pipeline.collect_stage(run, in_parts if group else None)


def phase_1_stages(run: Run, variants: Sequence[str], resume: bool, engine: Engine) -> None:
    """`pipeline.phase_1_stages`, in parts if there are to be any."""
    group = check_engine(run.directory, engine)
    if not group:
        return pipeline.phase_1_stages(run, variants, resume)
    batches = len(pipeline.load_replay(run))  # all of them are looked at before anything is trained
    for name in dict.fromkeys(run.experiment.learners(variant) for variant in variants):
        alone = _begin(run, f"teach-{name}", batches, group, engine)
        _learn(run, f"teach-{name}", alone, "teachers", name, resume, engine)
        together = _begin(run, f"pooled-{name}", batches, batches, engine)
        _learn(run, f"pooled-{name}", together, "pooled", name, resume, engine)


def _learn(
    run: Run, stage: str, spans: Sequence[tuple[int, int]], kind: str, name: str, resume: bool, engine: Engine
) -> None:
    path, config = run.directory / kind / name, run.experiment.teach[name]
    sources = pipeline.pooled_sources(run, name) if kind == "pooled" else batch_sources(run.directory)
    parts = [Learning(run, stage, *span, kind, name) for span in spans]
    if has_result(path):
        pipeline.learn(run, stage, path, config, sources, lambda: pipeline.lessons(run, name))  # looks whether it fits
    else:
        if not resume and any(part.finished() or part.newest_checkpoint() for part in parts):
            raise BmrlError(f"{run.directory} has an unfinished stage {stage!r}: continue it with --resume")
        if kind == "teachers" and config.logs != "own":
            pipeline.share_logs(run, name)  # here, for all parts
        perform(parts, engine)
        specs, taught = zip(*(part.taught() for part in parts), strict=True)
        states = jax.tree.map(lambda *x: np.concatenate(x), *(some.states for some in taught))
        diverged = np.concatenate([some.diverged for some in taught])
        if kind == "teachers" and (diverged >= 0).all():
            raise BmrlError(f"{stage}: every learner diverged (a loss or a weight is not finite)")
        _keep_metrics(parts)
        save_learners(path, config, specs[0], Taught(states, diverged), sources, run.experiment.seed)
    for part in parts:
        if part.finished():
            remove_directory(part.path)


def perform(parts: Sequence[Part], engine: Engine, family: str | None = None) -> None:
    """Do the parts of a stage that are not done yet: here one after the other, or on the cluster. This is the seam.

    Raises BmrlError, as the part does, if one fails.
    """
    if engine.engine == "local":
        for part in parts:
            part.perform()
    else:
        _ray().perform_on_ray(parts, engine, family)
    for part in parts:
        pipeline.drop_checkpoints(part.own, part.stage)


def _ray() -> ModuleType:
    """The module that knows Ray."""
    from bmrl.engine import on_ray

    return on_ray


def _begin(run: Run, stage: str, learners: int, group: int, engine: Engine) -> list[tuple[int, int]]:
    """The parts of a stage: the first MDP of each, and one past its last."""
    if committed_names(run.directory / "checkpoints" / stage):
        raise BmrlError(f"{run.directory} has a stage {stage!r} begun in one piece: finish it without --group")
    note = run.directory / PARTS / "config.json"
    if not note.exists():
        if engine.engine == "ray":
            _ray().connect()  # before a number of MDPs is held to
        write_json(note, {"group": group})
    return [(first, min(first + group, learners)) for first in range(0, learners, group)]


def _keep_metrics(parts: Sequence[Part]) -> None:
    tables = [(part.own.directory / "metrics.csv", part.first) for part in parts]
    there = [(path, first) for path, first in tables if path.exists() and path.stat().st_size]
    parts[0].run.metrics.take_over(parts[0].stage, there)
