"""What some MDPs have to teach, and students of it beside those of a run's own variants."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np

from bmrl import pipeline
from bmrl.batch_rl.base import Targets
from bmrl.batch_rl.replay import Replay
from bmrl.batch_rl.teach import spec_of
from bmrl.config import check_config, to_json
from bmrl.distill.distill import DistillConfig, distill, teacher_targets
from bmrl.distill.student import Student
from bmrl.families import get_family
from bmrl.families.base import Parameters
from bmrl.learned import Learners, load_learners, load_student, save_student
from bmrl.runs.storage import has_result, verify_directory
from bmrl.sources import check_sources, learner_sources


def evenly(total: int, count: int) -> np.ndarray:
    """``count`` of 0 ... total - 1, evenly spread, with the first and the last."""
    return np.round(np.linspace(0, total - 1, count)).astype(int)


@dataclass(frozen=True)
class Lesson:
    """Some train MDPs with their batches and learners, K of each."""

    mdps: tuple[Parameters, ...]  # the first of the K; those that follow are virtual
    logs: Replay  # of each MDP
    replay: Replay  # what each MDP's learner learned from
    learners: Learners
    seed: int
    directory: Path  # where what the learners say is kept
    sources: Mapping[str, str]  # the hashes of the learners that all of it comes from

    @functools.cached_property
    def targets(self) -> Targets:
        """What the learners say of their own batches."""
        return teacher_targets(self.learners.algorithm, self.learners.states, self.replay, self.seed, self.directory)

    def some(self, count: int) -> "Lesson":
        """The same of ``count`` evenly spread train MDPs; of shared logs, what learners saw of the others stays."""
        if count == len(self.mdps):
            return self
        k = evenly(len(self.mdps), count)
        states = jax.tree.map(lambda x: x[k], self.learners.states)
        return replace(
            self,
            mdps=tuple(self.mdps[i] for i in k),
            logs=self.logs.of(k),
            replay=self.replay.of(k),
            learners=self.learners._replace(states=states),
        )


def lesson_of(run: pipeline.Run, learners: str = "default") -> Lesson:
    """Everything that the run's batches and the learners of a variant have to teach."""
    found = load_learners(run.directory / "teachers" / learners, run.experiment.teach[learners])
    mdps = get_family(run.experiment.family).train_mdps()
    sources = learner_sources(run.directory, learners)
    logs, replay = pipeline.load_replay(run), pipeline.lessons(run, learners)
    return Lesson(mdps, logs, replay, found, run.experiment.seed, run.directory, sources)


def student_of(run: pipeline.Run, lesson: Lesson, config: DistillConfig) -> Student:
    """The student in ``run.directory``/student, found where it is there, else distilled from the lesson.

    All of one seed have the same random numbers, so that they differ in nothing but their configurations and lessons.
    Raises BmrlError where one of another configuration or lesson is there.
    """
    path, seed = run.directory / "student", run.experiment.seed
    if has_result(path):
        pipeline.drop_checkpoints(run, "distill")
    else:
        bound = getattr(lesson.learners.algorithm, "max_perturbation", 0.0)
        with pipeline.working_stage(run, "distill", True, lesson.sources, config) as checkpoints:
            seconds = run.experiment.checkpoint_seconds
            made = distill(
                lesson.replay, lesson.targets, bound, config, seed, checkpoints, run.metrics, "distill", seconds
            )
            save_student(path, config, spec_of(lesson.replay), lesson.targets, bound, made, lesson.sources, seed)
    student, found = load_student(path)
    check_config(path, to_json(found), to_json(config))
    check_sources(path, verify_directory(path, hashes=False), lesson.sources, seed)
    return student
