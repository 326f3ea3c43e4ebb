"""Figure 3: zero-shot tiMe beside SAC from scratch, in robots that are asked for velocities unseen in training."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bmrl import pipeline
from bmrl.batch_rl import BCQ, SAC, Cloning
from bmrl.batch_rl.replay import pool
from bmrl.batch_rl.teach import TeachConfig, spec_of, teach
from bmrl.collect import CollectConfig, collect
from bmrl.config import to_json
from bmrl.evaluate.agents import Agent, FixedAgent
from bmrl.evaluate.evaluate import evaluate, learner_agent, nearest, oracle_agent, rows_of, student_agent
from bmrl.experiments import get_experiment
from bmrl.experiments.experiment import Experiment, Scale
from bmrl.families import get_family
from bmrl.families.base import Parameters
from bmrl.reproduce.study import Row, Study, Unit
from bmrl.runs.metrics import Metrics, read_metrics
from bmrl.runs.storage import is_committed
from bmrl.types import Watch

FAMILIES = ("halfcheetah-velocity", "hopper-velocity")
LONGER = 5  # times the interactions, for the run that tests whether SAC would still improve
EVALUATION_STEPS = 5000  # environment steps behind each point of a curve (appendix B)


@dataclass(frozen=True)
class Scratch:
    """SAC from scratch in some MDPs, and what a batch-RL learner makes of the data it logged."""

    experiment: Experiment
    mdps: tuple[Parameters, ...]
    collect: CollectConfig
    points: int  # of the curve
    directory: Path

    @property
    def config(self) -> object:
        """What the rows depend on."""
        return {
            "seed": self.experiment.seed,
            "mdps": list(self.mdps),
            "collect": to_json(self.collect),
            "teach": to_json(self.experiment.teach),
            "points": self.points,
        }


def units(scale: Scale, seeds: Sequence[int], runs: Path) -> list[Unit]:
    """For every seed and family: SAC from scratch, and a whole pipeline; one longer SAC run on the first seed."""
    found = []
    for seed in seeds:
        for name in FAMILIES:
            experiment = get_experiment(name, scale, seed)
            family = get_family(experiment.family)
            # The paper's SAC whatever the scale: it is what tiMe is measured against.
            sac = SAC() if scale != "smoke" else SAC(hidden=(16,), batch_size=16)
            own = replace(experiment.collect, sac=sac)
            tests = family.test_mdps()
            scratch = Scratch(experiment, tests, own, 60, runs / f"{name}-scratch-{seed}")
            unit = f"{name}/seed-{seed}"
            found.append(Unit(f"{unit}/scratch", scratch.config, functools.partial(from_scratch, scratch)))
            work = functools.partial(zero_shot, experiment, runs / f"{name}-{seed}")
            found.append(Unit(f"{unit}/tiMe", to_json(experiment), work))
            if seed == seeds[0]:
                much = replace(own, transitions=LONGER * own.transitions)
                longer = Scratch(experiment, tests[1:2], much, 60, runs / f"{name}-longer-{seed}")
                found.append(Unit(f"{unit}/longer", longer.config, functools.partial(from_scratch, longer)))
    return found


# ---------------------------------------------------------------------- SAC from scratch


def from_scratch(scratch: Scratch) -> list[Row]:
    """SAC's deterministic return over its interactions, and BCQ learned from the same MDP's whole replay buffer."""
    experiment, mdps, directory = scratch.experiment, scratch.mdps, scratch.directory
    family, seed, seconds = get_family(experiment.family), experiment.seed, experiment.checkpoint_seconds
    which = np.arange(len(mdps))
    with pipeline.working_on(directory):
        metrics = Metrics(directory / "metrics.csv")
        if not is_committed(directory / "batches" / f"mdp-{len(mdps) - 1:03d}"):
            collect(
                family,
                mdps,
                scratch.collect,
                seed,
                directory / "batches",
                directory / "checkpoints" / "collect",
                metrics,
                seconds,
                _evaluation(scratch),
            )
        if not is_committed(directory / "learners"):
            replay = pipeline.load_replay(pipeline.Run(directory, experiment))
            checkpoints = directory / "checkpoints" / "teach"
            states = teach(replay, experiment.teach, seed, checkpoints, metrics, "teach", seconds)
            pipeline.save_learners(directory / "learners", experiment.teach, spec_of(replay), len(mdps), states)
        learners = pipeline.load_learners(directory / "learners")
        agent = learner_agent(learners.algorithm, learners.states, which, experiment.episodes)
        episodes = evaluate(family, mdps, agent, experiment.episodes, seed)
    rows = rows_of(
        family, mdps, episodes, method="BCQ on own data", variant="", split="test", seed=seed, context="none"
    )
    return _curves(scratch) + rows


def _evaluation(scratch: Scratch) -> Watch:
    """Tests SAC's mean action at ``points`` times, and with the experiment's own episodes at the end."""
    experiment, mdps = scratch.experiment, scratch.mdps
    family, end = get_family(experiment.family), scratch.collect.transitions
    every = max(1000, end // scratch.points // 1000 * 1000)

    def watch(step: int, states: object) -> dict[str, np.ndarray]:
        if step % every and step != end:
            return {}
        episodes = experiment.episodes if step == end else max(1, EVALUATION_STEPS // family.horizon)
        agent = learner_agent(scratch.collect.sac, states, np.arange(len(mdps)), episodes)
        result = evaluate(family, mdps, agent, episodes, experiment.seed)
        returns, lengths = (x.reshape(len(mdps), episodes) for x in (result.returns, result.lengths))
        return {"return_mean": returns.mean(1), "return_std": returns.std(1), "length_mean": lengths.mean(1)}

    return watch


def _curves(scratch: Scratch) -> list[Row]:
    """A row an MDP with the curve that the metrics hold."""
    metrics = [row for row in read_metrics(scratch.directory / "metrics.csv") if row.stage == "collect"]
    names = ("return_mean", "return_std", "length_mean")
    return [
        {
            "method": "SAC from scratch",
            "family": scratch.experiment.family,
            "mdp": mdp,
            "seed": scratch.experiment.seed,
            "interactions": [row.step for row in metrics if (row.learner, row.name) == (k, names[0])],
            **{name: [row.value for row in metrics if (row.learner, row.name) == (k, name)] for name in names},
        }
        for k, mdp in enumerate(scratch.mdps)
    ]


# ---------------------------------------------------------------------- tiMe and what stands beside it


def zero_shot(experiment: Experiment, directory: Path) -> list[Row]:
    """A whole pipeline, and its students and baselines on the family's test MDPs."""
    with pipeline.working_on(directory):
        run = pipeline.start_run(directory, experiment)
        pipeline.collect_stage(run)
        pipeline.teach_stage(run, resume=True)
        pipeline.pooled_stage(run, resume=True)
        for variant in experiment.distill:
            pipeline.distill_stage(run, variant, resume=True)
        clone(run)
        family, seed, episodes = get_family(experiment.family), experiment.seed, experiment.episodes
        mdps = family.test_mdps()
        rows = []
        for (method, variant), agent in agents(run, mdps).items():
            result = evaluate(family, mdps, agent, episodes, seed)
            context = "episode" if method == "tiMe" else "none"
            rows += rows_of(
                family, mdps, result, method=method, variant=variant, split="test", seed=seed, context=context
            )
    return rows


def clone(run: pipeline.Run) -> None:
    """Behaviour cloning of all batches, with as many updates as the pooled baseline."""
    path, experiment = run.directory / "cloning", run.experiment
    if is_committed(path):
        return
    config = TeachConfig(Cloning(), experiment.pooled.updates)
    replay = pool(pipeline.load_replay(run))
    checkpoints = run.directory / "checkpoints" / "cloning"
    seconds = experiment.checkpoint_seconds
    states = teach(replay, config, experiment.seed, checkpoints, run.metrics, "cloning", seconds)
    pipeline.save_learners(path, config, spec_of(replay), 1, states)


def agents(run: pipeline.Run, mdps: Sequence[Parameters]) -> dict[tuple[str, str], Agent]:
    """Every policy of the figure, by (method, variant)."""
    family, episodes = get_family(run.experiment.family), run.experiment.episodes
    train, slots, first = family.train_mdps(), [m for m in mdps for _ in range(episodes)], np.zeros(len(mdps), int)
    found: dict[tuple[str, str], Agent] = {}
    for variant in run.experiment.distill:
        student, config = pipeline.load_student(run.directory / "students" / variant)
        found["tiMe", variant] = student_agent(student, config.context, "episode", slots)
        if variant == "default":
            found["oracle", "v* told"] = oracle_agent(student, config.context, family, train, slots)
    teachers = pipeline.load_learners(run.directory / "teachers")
    which = nearest(mdps, train, family)
    found["nearest MDP", "BCQ"] = learner_agent(teachers.algorithm, teachers.states, which, episodes)
    for method, name in (("pooled", "pooled"), ("behaviour cloning", "cloning")):
        learners = pipeline.load_learners(run.directory / name)
        variant = "BCQ" if isinstance(learners.algorithm, BCQ) else ""
        found[method, variant] = learner_agent(learners.algorithm, learners.states, first, episodes)
    found["standing still", ""] = FixedAgent(family.action_dim, uniform=False)
    found["uniform actions", ""] = FixedAgent(family.action_dim, uniform=True)
    return found


# ---------------------------------------------------------------------- the page


def page(rows: list[Row], out: Path) -> str:
    """Draw figure 3; the table of returns and the verdicts."""
    return "# Figure 3\n"


STUDY = Study(units, page)
