"""A whole run in one call, and the policy that it leaves: what `bmrl run` does, for Python."""

import os
from collections.abc import Sequence
from pathlib import Path

from bmrl import parallel, pipeline, report
from bmrl.engine import LOCAL, Engine, parts
from bmrl.evaluate.agents import StudentAgent
from bmrl.experiments import Experiment
from bmrl.learned import load_student
from bmrl.runs.progress import Screen
from bmrl.runs.storage import refuse_links


def run(
    experiment: Experiment,
    directory: str | os.PathLike[str],
    *,
    variants: Sequence[str] = ("default",),
    resume: bool = False,
    leave_out_diverged: bool = False,
    family: str | None = None,
    engine: Engine = LOCAL,
) -> pipeline.Run:
    """All stages: batches, a learner on each, one student of them all, the zero-shot test and its pictures.

    As `bmrl run` does, with the same bits: every core becomes a device of JAX's if JAX is not in use yet, and
    compiled programs are kept in the user's cache. Stages whose results are in ``directory`` are not done again, and
    batches that lie in ``directory/batches`` are taken as they are.

    Args:
        experiment: every number of the run.
        directory: the run directory to make, or to go on with.
        variants: the students to distil, of those in ``experiment.distill``.
        resume: go on with the run in ``directory``.
        leave_out_diverged: distil without the MDPs whose learners diverged, if any did.
        family: with the experiment "own", a family of your own, "PATH.py:NAME": this file is run. Without one it
            learns from the logs in ``directory/batches``, and tests nothing.
        engine: where collection and phase 1 run, and on how many MDPs at a time.

    Returns:
        The run: its ``directory`` and its ``experiment``.

    Raises:
        BmrlError: a directory that holds another run, or one that is not to be resumed; batches that do not fit; an
            algorithm that is none; a learner that diverged; a family of your own that is none.
    """
    directory = Path(directory)
    parallel.set_up_jax()
    experiment = pipeline.with_family(experiment, family)
    pipeline.check_place(directory, resume)
    pipeline.check_variants(experiment, variants)
    parts.check_engine(directory, engine)
    with pipeline.working_on_run(directory, experiment) as begun:
        pipeline.note_machine(begun)
        all_stages(begun, variants, resume, leave_out_diverged, engine, family)
    return begun


def all_stages(
    run: pipeline.Run,
    variants: Sequence[str],
    resume: bool,
    leave_out_diverged: bool,
    engine: Engine,
    family: str | None,
) -> None:
    """The stages of a run whose directory is held by this process, one after the other."""
    parts.collect_stage(run, engine, family)
    parts.phase_1_stages(run, variants, resume, engine)
    for variant in variants:
        pipeline.distill_stage(run, variant, resume, leave_out_diverged)
    if run.experiment.logs_alone:
        Screen().print(
            f"trained on the logs in {run.directory / 'batches'}; judge the policy from logs, or take it away:\n"
            f"bmrl judge {run.directory} --out ...\nbmrl policy export {run.directory} --out ...",
            soft_wrap=True,
        )
    else:
        report.evaluate_stage(run)


def load_agent(directory: str | os.PathLike[str], variant: str = "default") -> StudentAgent:
    """The policy that was distilled in a run directory, to act in a family's simulators (`run_episodes`).

    Raises BmrlError where there is none, or where it is damaged.
    """
    refuse_links(Path(directory))
    student, config = load_student(Path(directory) / "students" / variant)
    return StudentAgent(student, config.context)
