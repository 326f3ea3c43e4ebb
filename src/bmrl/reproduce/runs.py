"""The run directories that studies share: each is a whole pipeline of one family and seed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bmrl import pipeline
from bmrl.experiments.experiment import Experiment


def run_directory(name: str, seed: int, runs: Path) -> Path:
    """Where a family's pipeline of a seed lies."""
    return runs / f"{name}-{seed}"


@contextmanager
def working_run(
    experiment: Experiment, directory: Path, learners: Sequence[str] = (), students: Sequence[str] = ()
) -> Iterator[pipeline.Run]:
    """The experiment's run, held for this process.

    What it lacks is made first: batches, the learners of these variants, and the students with their learners.
    """
    with pipeline.working_on_run(directory, experiment) as run:
        pipeline.note_machine(run)
        pipeline.collect_stage(run)
        for name in dict.fromkeys((*learners, *map(experiment.learners, students))):
            pipeline.teach_stage(run, name, resume=True)
        for variant in students:
            pipeline.distill_stage(run, variant, resume=True)
        yield run
