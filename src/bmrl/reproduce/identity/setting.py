"""What every part of the study shares: the run directory, short students, and how they are tested."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TypeAlias

import jax
import numpy as np

from bmrl import pipeline
from bmrl.batch_rl.replay import Replay, best_episodes, stack
from bmrl.batch_rl.teach import TeachConfig
from bmrl.config import to_json
from bmrl.data import read_batches
from bmrl.distill.distill import DistillConfig
from bmrl.distill.reward_model import RewardModelConfig
from bmrl.distill.shared import shared_episodes
from bmrl.distill.student import Student, StudentConfig
from bmrl.distill.virtual import virtual_replay
from bmrl.evaluate.agents import Agent
from bmrl.evaluate.evaluate import evaluate, rows_of, student_agent
from bmrl.evaluate.rollout import Episodes
from bmrl.experiments import get_experiment
from bmrl.experiments.experiment import Experiment, Scale
from bmrl.families import get_family
from bmrl.families.base import Family, Parameters
from bmrl.learned import load_learners
from bmrl.reproduce.identity.decoding import decoder
from bmrl.reproduce.lesson import Lesson, student_of
from bmrl.reproduce.runs import run_directory, working_run
from bmrl.reproduce.scratch import Scratch, collect_scratch, scratch_of
from bmrl.reproduce.study import Row

FAMILY = "halfcheetah-velocity"
BEYOND = (-1.0, 3.0)  # m/s, in which the sweep's velocities lie
SETTLED = 16  # steps after which the identity of an episode is scored

# A short student: a minute on one core for 8,000 updates of 256 elements.
SHORT_STUDENT = StudentConfig(
    identity_dim=32,
    pooling="posterior",
    encoder_hidden=(128, 128),
    auxiliary_hidden=(128,),
    auxiliary_dim=64,
    prediction_hidden=(32,),
    value_hidden=(192, 192, 192),
    candidate_hidden=(256, 256, 256),
    correction_hidden=(64, 64),
)
SMOKE_STUDENT = StudentConfig(4, "posterior", (8,), (8,), 8, (8,), (8,), (8,), (8,))


@dataclass(frozen=True)
class Setting:
    """The study at one scale and seed."""

    experiment: Experiment
    directory: Path  # of the experiment's run
    scratch: Scratch  # what SAC logged in the test MDPs
    short: DistillConfig  # of the students of the sweeps and ablations
    longer: DistillConfig  # of those of ``few`` train MDPs, whose networks are the experiment's
    few: int
    teach: TeachConfig  # of learners that are taught anew
    episodes: int  # in each MDP, where many are tested
    sizes: tuple[int, ...]  # of contexts
    counts: tuple[int, ...]  # of train MDPs
    filled: int  # train MDPs that virtual ones fill up to
    batch_mdps: int  # train MDPs of the part on batch quality
    velocities: tuple[float, ...]  # of the sweep
    conditions: int | None  # how many of a part's conditions are done; None: all

    @property
    def family(self) -> Family:
        """The family of the experiment; it may be asked for velocities beyond its interval."""
        return replace(get_family(self.experiment.family), bounds={"target_velocity": BEYOND})

    @property
    def config(self) -> dict[str, object]:
        """What all rows depend on."""
        names = [field.name for field in fields(self) if field.name not in ("directory", "scratch")]
        return {name: to_json(getattr(self, name)) for name in names} | {"scratch": self.scratch.config}


def setting_of(scale: Scale, seed: int, runs: Path) -> Setting:
    """The study's sizes."""
    experiment, smoke = get_experiment(FAMILY, scale, seed), scale == "smoke"
    default = experiment.distill["default"]
    student = {"smoke": SMOKE_STUDENT, "laptop": SHORT_STUDENT, "paper": default.student}[scale]
    updates = {"smoke": 4, "laptop": 8000, "paper": 60_000}[scale]
    short = replace(
        default,
        student=student,
        contexts=16,
        queries=16,
        updates=updates,
        reward_model=RewardModelConfig(hidden=(8,), updates=4) if smoke else RewardModelConfig(updates=updates // 4),
    )
    return Setting(
        experiment,
        run_directory(FAMILY, seed, runs),
        scratch_of(FAMILY, scale, seed, runs),
        short=short,
        longer={"smoke": short, "laptop": replace(default, updates=20_000), "paper": default}[scale],
        few=2 if smoke else 4,
        teach=experiment.teach["default"],
        episodes=1 if smoke else 10,
        sizes=(1, 4) if smoke else (1, 4, 16, 64, 256),
        counts=(2,) if smoke else (2, 4, 8, 16, 29),
        filled=3 if smoke else 16,
        batch_mdps=2 if smoke else 8,
        # halfway between train velocities, so none is one; the test velocities are among them
        velocities=(-0.225, 0.375, 0.475, 1.875) if smoke else tuple(round(0.1 * k - 0.225, 3) for k in range(22)),
        conditions=1 if smoke else None,
    )


def working_on(
    setting: Setting, students: Sequence[str] = (), learners: str = "default"
) -> AbstractContextManager[pipeline.Run]:
    """The experiment's run with batches, and the learners and students of the given variants, held for this process."""
    return working_run(setting.experiment, setting.directory, (learners,), students)


def logs_of_tests(setting: Setting) -> Replay:
    """What SAC from scratch logged in each of the family's test MDPs."""
    with pipeline.working_on(setting.scratch.directory, setting.scratch.config):
        collect_scratch(setting.scratch)
        return stack(read_batches(setting.scratch.directory / "batches"))


Groups: TypeAlias = Mapping[str, Sequence[Parameters]]
"""MDPs that no batch is of, by what they are for."""


def splits(family: Family) -> Groups:
    """The test and the validation MDPs."""
    return {"test": family.test_mdps(), "validation": family.validation_mdps()}


def held_out(setting: Setting) -> Sequence[Parameters]:
    """The sweep's velocities between the train velocities that are neither test nor validation velocities."""
    train = velocities(setting.family.train_mdps())
    mdps = [{"target_velocity": v} for v in setting.velocities if train.min() < v < train.max()]
    return [mdp for mdp in mdps if not any(mdp in known for known in splits(setting.family).values())]


# ---------------------------------------------------------------------- what a student is taught


def short_student(setting: Setting, name: str, lesson: Lesson, config: DistillConfig) -> Student:
    """A student of the given name, distilled in a short time; found where it is there, else made."""
    return student_of(pipeline.Run(setting.directory / "identity" / name, setting.experiment), lesson, config)


def taught_anew(setting: Setting, name: str, lesson: Lesson, logs: Replay) -> Lesson:
    """The lesson with other logs, shared if learners share theirs, and learners of these; found if there, else made."""
    teach, reward_model = setting.teach, setting.experiment.distill["default"].reward_model
    if teach.logs == "own":
        replay = best_episodes(logs, teach.best)
    else:
        replay = Replay(tuple(shared_episodes(logs, teach, reward_model, lesson.seed)))
    run = pipeline.Run(setting.directory / "identity" / name, setting.experiment)
    path = run.directory / "learners"
    pipeline.learn(run, "teach", path, teach, lesson.sources, lambda: replay)
    return replace(lesson, logs=logs, replay=replay, learners=load_learners(path, teach))


def by_themselves(setting: Setting, lesson: Lesson, count: int) -> Lesson:
    """The lesson of ``count`` evenly spread train MDPs, as if there were no others."""
    some = lesson.some(count)
    if count == len(lesson.mdps) or setting.teach.logs == "own":
        return some
    return taught_anew(setting, f"{count}-by-themselves", some, some.logs)


def with_virtual(setting: Setting, name: str, lesson: Lesson) -> Lesson:
    """The lesson with as many virtual MDPs and their learners as fill it up."""
    count, reward_model = setting.filled - len(lesson.mdps), setting.experiment.distill["default"].reward_model
    made = taught_anew(setting, name, lesson, virtual_replay(lesson.logs, count, reward_model, lesson.seed))
    states = jax.tree.map(lambda *x: np.concatenate(x), lesson.learners.states, made.learners.states)
    logs, replay = (Replay(x.logs + y.logs) for x, y in ((lesson.logs, made.logs), (lesson.replay, made.replay)))
    return replace(lesson, logs=logs, replay=replay, learners=made.learners._replace(states=states))


# ---------------------------------------------------------------------- tests


def tested(
    setting: Setting, part: str, condition: str, method: str, agent: Agent, split: str, mdps: Sequence[Parameters]
) -> tuple[list[Row], Episodes]:
    """Rows of an agent in each of the MDPs, and its episodes."""
    family, seed = setting.family, setting.experiment.seed
    episodes = evaluate(family, mdps, agent, setting.episodes, seed)
    rows = rows_of(family, mdps, episodes, method=method, variant=condition, split=split, seed=seed, context="")
    return [{"part": part, "condition": condition, **row} for row in rows], episodes


def short_rows(
    setting: Setting, part: str, condition: str, lesson: Lesson, config: DistillConfig, name: str, groups: Groups
) -> list[Row]:
    """Rows of a short student in all MDPs of the groups, with contexts of its own episodes.

    ``decoding`` is the mean error, in m/s, of the velocity that is decoded from the identity after ``SETTLED`` steps.
    """
    student = short_student(setting, name, lesson, config)
    decode = decoder(student, config.context.size, lesson.logs, velocities(lesson.mdps), setting.experiment.seed)
    rows = []
    for split, mdps in groups.items():
        slots = [mdp for mdp in mdps for _ in range(setting.episodes)]
        agent = student_agent(student, config.context, "episode", slots)
        found, episodes = tested(setting, part, condition, "tiMe", agent, split, mdps)
        assert episodes.identities is not None
        errors = np.abs(decode(episodes.identities) - velocities(slots)[:, None])[:, SETTLED:].mean(1)
        kept = np.where(episodes.valid, errors, np.nan).reshape(len(mdps), -1)
        by_mdp = np.nanmean(kept, axis=1)
        trained = {"updates": config.updates, "elements": config.contexts * config.queries}
        rows += [{**row, **trained, "decoding": error} for row, error in zip(found, by_mdp, strict=True)]
    return rows


def velocities(mdps: Sequence[Parameters]) -> np.ndarray:
    """The target velocities of MDPs, m/s."""
    return np.array([mdp["target_velocity"] for mdp in mdps])
