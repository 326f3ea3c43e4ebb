"""Resumption at every checkpoint of every stage, and SIGTERM at random moments: the end is the same.

The former happens in one process, which is fast since JAX compiles each program once: a stage runs undisturbed
while the run directory is copied after every save, then it is resumed on each of the copies.
"""

import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from bmrl import parallel, pipeline
from bmrl.baselines.contextual_sac import ContextualSAC
from bmrl.experiments import get_experiment
from bmrl.reproduce.configurations import CONTEXTUAL_SAC, preset
from bmrl.reproduce.learned_baselines import learn_contextual
from bmrl.runs.checkpoint import save_checkpoint
from torture import Section
from torture.kills import interrupt, signals_section
from torture.smoke import VARIANTS, differences

Stage = Callable[[pipeline.Run], Any]  # goes on from the newest checkpoint, and leaves its result in the run directory

SAVERS = ("bmrl.collect.sac.save_checkpoint", "bmrl.runs.training.save_checkpoint")  # who saves, under which name


def resume_everywhere(
    place: Path, seconds: float, experiments: Sequence[str] = ("point-goal", "hopper-velocity")
) -> Section:
    """The campaign: a few minutes, done anew each time and as a whole."""
    parallel.set_up_jax()
    lines = [
        "## Resumption at every checkpoint",
        "",
        "Each stage of a smoke run is resumed at each of its checkpoints: the SHA-256 of every file that it leaves is",
        "that of the undisturbed stage.",
        "",
        "| experiment | stage | checkpoints | failed |",
        "|---|---|---|---|",
    ]
    failed = []
    for experiment in experiments:
        shutil.rmtree(place / experiment, ignore_errors=True)
        directory = place / experiment / "undisturbed"
        run = pipeline.start_run(directory, get_experiment(experiment, "smoke", 0))
        for name, stage in stages(run.experiment.family).items():
            outcomes = resume_stage(stage, run, place / experiment / name)
            wrong = [f"- {experiment}, {name}, {step}: {failure}" for step, failure in outcomes.items() if failure]
            lines.append(f"| {experiment} | {name} | {len(outcomes)} | {len(wrong)} |")
            print(lines[-1], flush=True)
            failed += wrong
    return Section("\n".join([*lines, "", *failed]), len(failed))


def stages(family: str) -> dict[str, Stage]:
    """The stages that train, in their order; contextual SAC, too, where it is a baseline."""
    found: dict[str, Stage] = {"collect": pipeline.collect_stage}
    for name in VARIANTS if family != "point-goal" else VARIANTS[:1]:
        found[f"teach-{name}"] = partial(pipeline.teach_stage, name=name, resume=True)
        found[f"pooled-{name}"] = partial(pipeline.pooled_stage, name=name, resume=True)
    for variant in VARIANTS:
        found[f"distill-{variant}"] = partial(pipeline.distill_stage, variant=variant, resume=True)
    if family == "point-goal":
        found["contextual-default"] = contextual
    return found


def contextual(run: pipeline.Run) -> None:
    """Contextual SAC as figure 2 trains it."""
    config = preset(run.experiment, CONTEXTUAL_SAC["default"])
    assert isinstance(config, ContextualSAC)
    learn_contextual(run, config, "default")


def resume_stage(stage: Stage, run: pipeline.Run, place: Path) -> dict[str, str | None]:
    """Do a stage of a run, then resume it at each of its checkpoints on copies in ``place``.

    What is wrong with each, by the checkpoint's step; None where the end is the same.
    """
    steps: list[int] = []

    def copy(step: int) -> None:
        steps.append(step)
        shutil.copytree(run.directory, place / f"step-{step}")

    with after_every_save(copy):
        stage(run)
    outcomes: dict[str, str | None] = {}
    for number, step in enumerate(steps, start=1):
        directory, saved_again = place / f"step-{step}", list[int]()
        with after_every_save(saved_again.append):
            stage(pipeline.Run(directory, run.experiment))
        outcomes[f"step {step}"] = (
            differences(directory, run.directory) if saved_again == steps[number:] else "it did not go on from there"
        )
        shutil.rmtree(directory)
    return outcomes


@contextmanager
def after_every_save(look: Callable[[int], None]) -> Iterator[None]:
    """Within, ``look`` gets the step of each checkpoint once it is on the disk."""

    def save(root: Path, step: int, tree: Any) -> None:
        save_checkpoint(root, step, tree)
        look(step)

    with mock.patch(SAVERS[0], save), mock.patch(SAVERS[1], save):
        yield


def terminate_at_random(place: Path, seconds: float, signals: int = 100) -> Section:
    """The campaign: SIGTERM at random moments of smoke runs. Each ends within 30 s, with exit code 75, and resumes."""
    outcomes = interrupt(place, seconds, signals, signal.SIGTERM)
    return signals_section("Terminations at random moments", signal.SIGTERM, outcomes)
