"""The stages of a run: collect, teach, distill, evaluate; each reads and writes its part of one run directory.

DIR/
  config.json            the resolved Experiment
  machines.json          where it was worked on
  batches/mdp-000/ ...   what was logged in each train MDP
  shared/VARIANT/ ...    what each MDP's learner learns from instead, where learners share logs
  teachers/VARIANT/      phase 1's last iterates; pooled/VARIANT/ those of the pooled baseline
  students/VARIANT/      phase 2's last iterates
  checkpoints/STAGE/     of unfinished stages
  parts/                 where stages are done in groups of MDPs (`bmrl.engine.parts`)
  metrics.csv            stage, step, learner, name, value
  results.json           rows of the zero-shot test
  figures/               pictures and animations
  log.txt
"""

import functools
import json
import logging
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from bmrl.batch_rl.replay import Replay, best_episodes, pool, stack
from bmrl.batch_rl.teach import Training, spec_of, teach
from bmrl.collect import collect, log_controllers, provenance
from bmrl.config import check_config, from_json, to_json
from bmrl.data import read_batches, write_batch
from bmrl.data.batch import batch_names, read_batch
from bmrl.distill.distill import distill, teacher_targets
from bmrl.distill.shared import CONSIDERED, shared_episodes
from bmrl.distill.trials import check_trials, trials
from bmrl.errors import BmrlError, CorruptError
from bmrl.experiments import Experiment
from bmrl.families import get_family
from bmrl.families.own import load_family
from bmrl.learned import LEARNERS, STUDENT, diverged_in, load_learners, save_learners, save_student, verified
from bmrl.runs.lock import lock_directory
from bmrl.runs.machine import arithmetic
from bmrl.runs.metrics import Metrics
from bmrl.runs.stopping import stop_if_asked
from bmrl.runs.storage import (
    clean_leftovers,
    committed_names,
    has_result,
    is_committed,
    leftover_of,
    open_log,
    read_json,
    read_manifest,
    refuse_links,
    verify_directory,
    write_json,
)
from bmrl.runs.training import DivergedError
from bmrl.scaling import check_action_bounds
from bmrl.sources import batch_sources, check_seed, check_sources, learner_sources
from bmrl.types import Watch

SOURCES = "sources.json"  # beside a stage's checkpoints: what they are made from

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """A run directory and the experiment that it holds."""

    directory: Path
    experiment: Experiment

    @property
    def metrics(self) -> Metrics:
        """The run's table of metrics."""
        return Metrics(self.directory / "metrics.csv")


def _is_blank(directory: Path) -> bool:
    """Whether nothing was done in a run's directory yet: a mistake stopped it, which may be mended."""
    begun = ("config.json", "machines.json", "sources.json", ".lock", "log.txt", "metrics.csv")
    return all(x.is_dir() or x.name in begun for x in directory.rglob("*"))


def check_place(directory: Path, resume: bool) -> None:
    """Refuse, before anything is written, a directory that a new run cannot have."""
    if (directory / "config.json").exists():
        if not (resume or _is_blank(directory)):
            raise BmrlError(f"{directory} already holds a run: continue it with --resume, or choose another --out")
    elif directory.exists() and not directory.is_dir():
        raise BmrlError(f"{directory} is a file: choose another --out")
    elif directory.exists() and not all(
        # A kill may have come before the configuration had its name.
        x.name in (".lock", "log.txt", "batches") or leftover_of(x.name) == "config.json"
        for x in directory.iterdir()
    ):
        raise BmrlError(f"{directory} is not empty and holds no run (no config.json): choose another --out")


def with_family(experiment: Experiment, word: str | None) -> Experiment:
    """The experiment with the user's own family PATH.py:NAME, whose file is run here, if one is given.

    Raises BmrlError where the experiment has a family already.
    """
    if word is None:
        return experiment
    if not experiment.logs_alone:
        raise BmrlError(f"--family is for the experiment 'own': this one has the family {experiment.family}")
    own = load_family(word)
    return replace(experiment, family=own.name, family_sha256=own.sha256)


def check_family(experiment: Experiment, word: str | None) -> None:
    """Run the file of the user's own family, if one is given, for a run that exists.

    It may have changed since, e.g. to have other test MDPs: that is warned of. Raises BmrlError if it is not the run's.
    """
    if word is None:
        return
    own = load_family(word)
    if own.name != experiment.family:
        raise BmrlError(f"--family {word}: the run is of {experiment.family or 'logs alone'}")
    if own.sha256 != experiment.family_sha256:
        log.warning("--family %s: the file has changed since the run was started", word)


def start_run(directory: Path, experiment: Experiment) -> Run:
    """A new run, or the one in the directory, held by nobody; raises BmrlError if it has another configuration."""
    hold_config(directory, to_json(experiment))
    return Run(directory, experiment)


def note_machine(run: Run) -> None:
    """Note where the run is worked on; warn if it was begun elsewhere, for its stages are then not of one machine."""
    path = run.directory / "machines.json"
    known = from_json(read_json(path, "remove this file"), list[str], str(path)) if path.exists() else []
    if others := [machine for machine in known if machine != arithmetic()]:
        log.warning(
            "%s was worked on elsewhere (%s), this is %s: the results will differ from those of an undisturbed run as "
            "much as another seed's would",
            run.directory,
            "; ".join(others),
            arithmetic(),
        )
    if arithmetic() not in known:
        write_json(path, [*known, arithmetic()])


def hold_config(directory: Path, config: Any) -> None:
    """Note in a directory of what configuration its contents are; raises BmrlError if they are of another."""
    path = directory / "config.json"
    if not path.exists() or _is_blank(directory):
        directory.mkdir(parents=True, exist_ok=True)
        write_json(path, config)
    else:
        check_config(directory, read_json(path), config)


def open_run(directory: Path) -> Run:
    """The run in a directory. Raises BmrlError if there is none, or its configuration is damaged."""
    refuse_links(directory)
    path = directory / "config.json"
    if not path.is_file():
        raise BmrlError(f"{directory} holds no run (no config.json): make one with 'bmrl run' or 'bmrl collect'")
    return Run(directory, from_json(read_json(path), Experiment, str(path)))


@contextmanager
def working_on(directory: Path, config: Any = None, patience: float = 0.0) -> Iterator[None]:
    """Hold the directory (see `lock_directory`), rid of what killed writers left, and write its log to log.txt.

    Its contents are of the configuration ``config``, JSON values, if one is given (see `hold_config`). Raises
    BmrlError, and touches nothing, where they are of another.
    """
    refuse_links(directory)
    with lock_directory(directory, patience):
        if config is not None:
            hold_config(directory, config)
        for stage in ("", "teachers", "pooled", "students", "figures"):
            clean_leftovers(directory / stage)
        handler = _LogFile(open_log(directory / "log.txt"))
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logging.getLogger("bmrl").addHandler(handler)
        try:
            yield
        finally:
            logging.getLogger("bmrl").removeHandler(handler)
            handler.close()


class _LogFile(logging.StreamHandler[TextIO]):
    """log.txt. What a full disk does not take waits for the next line: it ends no run, and hides not why one ends."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Goes on."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        """Closes the file, too."""
        super().close()
        with suppress(OSError):
            self.stream.close()


@contextmanager
def working_on_run(directory: Path, experiment: Experiment) -> Iterator[Run]:
    """The experiment's run, new or begun, held as `working_on` does."""
    with working_on(directory, to_json(experiment)):
        yield Run(directory, experiment)


# ---------------------------------------------------------------------- stages


def collect_stage(run: Run, collect_missing: Callable[[Run], None] | None = None) -> None:
    """Fill batches/ with one batch for each train MDP. Batches that were made elsewhere are taken as they are.

    By SAC, ``collect_missing`` fills it: here and all at once, if it is not given. Raises BmrlError for batches that do
    not fit the family or its environments, and where there are none and no family to collect them in.
    """
    experiment, batches = run.experiment, run.directory / "batches"
    present = read_batches(batches) if committed_names(batches) else []
    if experiment.logs_alone:
        if not present:
            raise BmrlError(
                f"{batches} holds no logs: import some ('bmrl data import'), or name a family of your own to collect "
                "them in (--family PATH.py:NAME)"
            )
        return
    family, seed, logs = get_family(experiment.family), experiment.seed, experiment.controllers
    mdps = family.train_mdps()
    for batch in present:
        if batch.manifest["family"] not in (None, family.name):
            raise BmrlError(f"{batches / batch.name} is of family {batch.manifest['family']!r}, not {family.name!r}")
        if (batch.observation_dim, batch.action_dim) != (family.observation_dim, family.action_dim):
            raise BmrlError(
                f"{batches / batch.name} has {batch.observation_dim} observations and {batch.action_dim} actions, "
                f"{family.name} has {family.observation_dim} and {family.action_dim}"
            )
        if batch.manifest["mdp"] is not None:
            family.validate(batch.manifest["mdp"])
    check_action_bounds(family, family.test_mdps(), present, batches)  # before anything is trained in vain
    made_here = provenance(logs or experiment.collect, seed)
    bounds = "action_bounds"  # which the family says
    made = [{key: x for key, x in batch.manifest["provenance"].items() if key != bounds} for batch in present]
    if any(each != made_here for each in made):
        log.info("collect: taking the %d batches that are there", len(present))
        if len(present) < len(mdps):
            few = "%s has batches of %d MDPs, %s has %d train MDPs: training is on those alone"
            log.warning(few, batches, len(present), family.name, len(mdps))
    elif len(present) < len(mdps):
        if logs:
            with working_stage(run, "collect", True, {}, logs):
                log_controllers(family, mdps, logs, seed, batches)
        else:
            (collect_missing or (lambda run: collect_batches(run, 0, len(mdps))))(run)
    else:
        drop_checkpoints(run, "collect")


def collect_batches(run: Run, first: int, last: int) -> None:
    """Collect batches of the train MDPs ``first`` ... ``last`` - 1 by SAC."""
    experiment, family = run.experiment, get_family(run.experiment.family)
    config, seed, seconds = experiment.collect, experiment.seed, experiment.checkpoint_seconds
    with working_stage(run, "collect", True, {}, config) as checkpoints:
        mdps, out = family.train_mdps()[first:last], run.directory / "batches"
        collect(family, mdps, config, seed, out, checkpoints, run.metrics, seconds, first=first)


def teach_stage(run: Run, name: str = "default", resume: bool = False) -> None:
    """Phase 1: a learner for each batch, of the variant ``name``."""
    path, sources = run.directory / "teachers" / name, batch_sources(run.directory)
    learn(run, f"teach-{name}", path, run.experiment.teach[name], sources, lambda: lessons(run, name), resume)


def pooled_stage(
    run: Run, name: str = "default", resume: bool = False, watch: Watch | None = None, may_diverge: bool = False
) -> None:
    """The baseline: one learner from all batches, as if they were one MDP's, trained as each of phase 1's is.

    Those whose own learners diverged are left out, as they are where a student is distilled. Where it ``may_diverge``,
    that is noted and ends no run, since nothing is made from a baseline; else BmrlError is raised.
    """
    path, config, sources = run.directory / "pooled" / name, run.experiment.teach[name], pooled_sources(run, name)
    learn(run, f"pooled-{name}", path, config, sources, lambda: pooled_replay(run, name), resume, watch, may_diverge)


def pooled_replay(run: Run, name: str) -> Replay:
    """What the pooled baseline learns from: what the variant's learners do, but nothing that is paid for two MDPs."""
    replay, left_out = best_episodes(load_replay(run), run.experiment.teach[name].best), diverged_learners(run, name)
    return pool(replay.of(k for k in range(len(replay)) if k not in left_out))


def pooled_sources(run: Run, name: str) -> dict[str, str]:
    """What the pooled baseline is made from: the batches whose own learners of the variant did not diverge."""
    left_out = [f"batches/mdp-{k:03d}" for k in diverged_learners(run, name)]
    return {batch: found for batch, found in batch_sources(run.directory).items() if batch not in left_out}


def learn(
    run: Run,
    stage: str,
    path: Path,
    config: Training,
    sources: Mapping[str, str],
    load: Callable[[], Replay],
    resume: bool = True,
    watch: Watch | None = None,
    may_diverge: bool = False,
    first: int = 0,
) -> None:
    """Learners of the batches that ``load`` reads from ``sources``, at ``path``, unless they are there; see `teach`.

    Raises BmrlError if those that are there have another configuration or other sources, or if all have diverged,
    unless they may.
    """
    if has_result(path):
        manifest = verified(path, LEARNERS, "teach")
        check_config(path, manifest.get("config"), to_json(config))
        check_sources(path, manifest, sources, run.experiment.seed)
        drop_checkpoints(run, stage)
        return
    replay = load()
    with working_stage(run, stage, resume, sources, config) as checkpoints:
        experiment = run.experiment
        seed, seconds = experiment.seed, experiment.checkpoint_seconds
        try:
            taught = teach(replay, config, seed, checkpoints, run.metrics, stage, seconds, watch, first)
        except DivergedError as error:
            if not may_diverge:
                raise
            log.warning("%s", error)
            taught = error.state
        save_learners(path, config, spec_of(replay), taught, sources, seed)


def distill_stage(
    run: Run,
    variant: str = "default",
    resume: bool = False,
    leave_out_diverged: bool = False,
    watch: Watch | None = None,
) -> None:
    """Phase 2: one student of the given variant; of fewer MDPs where learners have diverged and may be left out."""
    check_variants(run.experiment, [variant])
    path, config, seed = run.directory / "students" / variant, run.experiment.distill[variant], run.experiment.seed
    stage, seconds = f"distill-{variant}", run.experiment.checkpoint_seconds
    learners = run.experiment.learners(variant)
    if has_result(path):
        manifest = verified(path, STUDENT, "distill")
        check_config(path, manifest.get("config"), to_json(config))
        check_sources(path, manifest, learner_sources(run.directory, learners), seed)
        drop_checkpoints(run, stage)
        return
    batches, learned = len(batch_names(run.directory / "batches")), run.directory / "teachers" / learners
    teachers = load_learners(learned, run.experiment.teach[learners], leave_out_diverged)
    check_sources(learned, verify_directory(learned, hashes=False), batch_sources(run.directory), seed)
    if batches != teachers.batches:
        raise BmrlError(
            f"{run.directory / 'batches'} has {batches} batches, but {learned} has {teachers.batches} learners: "
            "put back the batches that they learned from, or teach in another directory"
        )
    sources = learner_sources(run.directory, learners)
    kept = [k for k in range(batches) if k not in teachers.left_out]
    replay = lessons(run, learners).of(kept)
    if config.student.trials:
        check_trials(replay, [f"mdp-{k:03d}" for k in kept])
    with working_stage(run, stage, resume, sources, config) as checkpoints:
        everywhere = config.queries_everywhere
        targets = teacher_targets(teachers.algorithm, teachers.states, replay, seed, run.directory, everywhere)
        bound = getattr(teachers.algorithm, "max_perturbation", 0.0)
        tried = functools.partial(trials, teachers.algorithm, teachers.states, replay=replay, seed=seed)
        student = distill(replay, targets, bound, config, seed, checkpoints, run.metrics, stage, seconds, watch, tried)
        save_student(path, config, spec_of(replay), targets, bound, student, sources, seed)


def phase_1_stages(run: Run, variants: Sequence[str], resume: bool = False) -> None:
    """The learners that the variants are distilled from, and the pooled baseline of each kind."""
    for name in dict.fromkeys(run.experiment.learners(variant) for variant in variants):
        teach_stage(run, name, resume)
        pooled_stage(run, name, resume, may_diverge=True)


def check_variants(experiment: Experiment, variants: Sequence[str]) -> None:
    """Raises BmrlError for a variant of phase 2 that the experiment does not have."""
    if not variants:
        raise BmrlError(f"--variants: name at least one of {', '.join(experiment.distill)}")
    for variant in variants:
        if variant not in experiment.distill:
            raise BmrlError(f"unknown variant {variant!r}; choose from {', '.join(experiment.distill)}")


def drop_checkpoints(run: Run, stage: str) -> None:
    """Remove a stage's checkpoints: its result is on the disk, they have served. A kill may have left them behind."""
    shutil.rmtree(run.directory / "checkpoints" / stage, ignore_errors=True)


@contextmanager
def working_stage(run: Run, stage: str, resume: bool, sources: Mapping[str, str], config: Any) -> Iterator[Path]:
    """The checkpoints of a stage while it runs; once its result is on the disk they have served, and go.

    Raises BmrlError if there are some and the stage is not to be resumed, or if they were made from other sources, with
    another ``config`` of the stage or another seed, or nothing says from which.
    """
    checkpoints, seed = run.directory / "checkpoints" / stage, run.experiment.seed
    begun, note = bool(committed_names(checkpoints)), checkpoints / SOURCES
    if begun and not resume:
        raise BmrlError(f"{run.directory} has an unfinished stage {stage!r}: continue it with --resume")
    if begun:
        noted = from_json(read_json(note), dict[str, Any], str(note))
        if noted.keys() != {"seed", "config", "sources"}:
            raise CorruptError(
                f"{note} does not say what the checkpoints were made from: restore it from a copy, or remove "
                f"{checkpoints}, and the stage begins anew"
            )
        check_config(checkpoints, noted["config"], to_json(config))
        check_sources(checkpoints, noted, sources, seed)
    else:
        write_json(note, {"seed": seed, "config": to_json(config), "sources": dict(sources)})
    began = time.monotonic()
    log.info("%s: started", stage)
    yield checkpoints
    drop_checkpoints(run, stage)
    log.info("%s: finished after %.0f s", stage, time.monotonic() - began)
    stop_if_asked()


def check_all_sources(run: Run) -> None:
    """Raises BmrlError if learners or a student are of other batches, other learners or another seed than the run."""
    batches, seed = batch_sources(run.directory), run.experiment.seed
    for kind in ("teachers", "pooled", "students"):
        for name in committed_names(run.directory / kind):
            path, sources = run.directory / kind / name, pooled_sources(run, name) if kind == "pooled" else batches
            manifest = verify_directory(path, hashes=False)
            check_seed(path, manifest, seed)
            if kind == "students":
                learners = run.experiment.learners(name)
                if not is_committed(run.directory / "teachers" / learners):
                    continue  # a student acts without them
                sources = learner_sources(run.directory, learners)
            check_sources(path, manifest, sources, seed)


def load_replay(run: Run, mdps: slice | None = None, place: str = "batches") -> Replay:
    """The run's batches, verified, as stacked arrays; or those of some MDPs, without a look at the others."""
    root = run.directory / place
    return stack(read_batches(root) if mdps is None else [read_batch(root / name) for name in batch_names(root)[mdps]])


def lessons(run: Run, name: str, mdps: slice | None = None) -> Replay:
    """What the learners of a variant, of all MDPs or of some, learn from, and then their students."""
    config = run.experiment.teach[name]
    if config.logs != "own":
        share_logs(run, name)
        return load_replay(run, mdps, f"shared/{name}")
    return best_episodes(load_replay(run, mdps), config.best)


def share_logs(run: Run, name: str) -> None:
    """Make shared/NAME, what the learners of a variant learn from if they share logs, unless it is there.

    It is kept, so that a student sees what its learners saw, wherever it is distilled: a reward model that is fitted
    again, on another machine, can choose other episodes.

    Raises BmrlError where there is no student of that name, whose reward model pays for what is shared.
    """
    experiment, root, place = run.experiment, run.directory / "batches", run.directory / "shared" / name
    if name not in experiment.distill:
        raise BmrlError(f"teach.{name}: logs are shared by the reward model of distill.{name}, which is not there")
    config, reward_model, seed = experiment.teach[name], experiment.distill[name].reward_model, experiment.seed
    made = {
        "best": config.best,
        "logs": config.logs,
        "considered": CONSIDERED,
        "reward_model": to_json(reward_model),
        "seed": seed,
        "sources": batch_sources(run.directory),
    }
    made = json.loads(json.dumps({"shared": made}))
    names = batch_names(root)
    if committed_names(place) == names and read_manifest(place / names[-1])["provenance"] == made:
        return
    batches = read_batches(root)
    for batch, log in zip(batches, shared_episodes(stack(batches), config, reward_model, seed), strict=True):
        arrays = log._asdict()
        last = arrays.pop("ends") - 1
        truncations = np.zeros(log.size, bool)
        truncations[last] = ~log.terminations[last]
        about = {"mdp": batch.manifest["mdp"], "family": batch.manifest["family"], "provenance": made}
        write_batch(place / batch.name, **arrays, truncations=truncations, **about)


def diverged_learners(run: Run, name: str) -> dict[int, int]:
    """The batches whose learners of a variant diverged: after how many updates. None where there are no learners."""
    path = run.directory / "teachers" / name
    return diverged_in(path) if is_committed(path) else {}


def taught_variants(run: Run, kind: str) -> list[str]:
    """The variants whose learners are there; ``kind`` is "teachers" or "pooled"."""
    return [name for name in run.experiment.teach if is_committed(run.directory / kind / name)]
