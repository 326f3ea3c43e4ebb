"""SAC from scratch in a family's test MDPs: what zero-shot tiMe is measured against, and logs of these MDPs."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bmrl import pipeline
from bmrl.batch_rl import SAC
from bmrl.collect import CollectConfig, collect
from bmrl.config import to_json
from bmrl.evaluate.evaluate import evaluate, learner_agent, rows_of
from bmrl.experiments import get_experiment
from bmrl.experiments.experiment import Experiment, Scale
from bmrl.families import get_family
from bmrl.families.base import Parameters
from bmrl.learned import load_learners
from bmrl.reproduce.study import Row
from bmrl.runs.metrics import read_metrics
from bmrl.runs.storage import is_committed
from bmrl.types import Watch

EVALUATION_STEPS = 5000  # environment steps behind each point of a curve (appendix B)
CURVES = ("return_mean", "return_std", "length_mean")  # over the interactions


@dataclass(frozen=True)
class Scratch:
    """SAC from scratch in some MDPs, and what a batch-RL learner makes of the data it logged."""

    experiment: Experiment  # its phase 1 learns from the logged data afterwards
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
            "episodes": self.experiment.episodes,
        }


def scratch_of(name: str, scale: Scale, seed: int, runs: Path) -> Scratch:
    """SAC from scratch in a family's test MDPs, with as many interactions as each train MDP was logged for.

    What learns from its logs afterwards sees those of its own MDP alone.
    """
    experiment = get_experiment(name, scale, seed)
    alone = {variant: replace(config, logs="own") for variant, config in experiment.teach.items()}
    experiment = replace(experiment, teach=alone)
    # The paper's SAC whatever the scale: it is what tiMe is measured against.
    sac = SAC() if scale != "smoke" else SAC(hidden=(16,), batch_size=16)
    tests = get_family(experiment.family).test_mdps()
    online = replace(experiment.collect, sac=sac)
    return Scratch(experiment, tests, online, 60, runs / f"{name}-scratch-{seed}")


def from_scratch(scratch: Scratch) -> list[Row]:
    """SAC's deterministic return over its interactions, and learners of the same MDP's whole replay buffer."""
    experiment, mdps, directory = scratch.experiment, scratch.mdps, scratch.directory
    family, seed = get_family(experiment.family), experiment.seed
    with pipeline.working_on(directory, scratch.config):
        collect_scratch(scratch)
        rows, run = _curves(scratch), pipeline.Run(directory, experiment)
        for name, config in experiment.teach.items():
            pipeline.teach_stage(run, name, resume=True)
            algorithm, states, _ = load_learners(directory / "teachers" / name, config)
            agent = learner_agent(algorithm, states, np.arange(len(mdps)), experiment.episodes)
            episodes = evaluate(family, mdps, agent, experiment.episodes, seed)
            method, variant = "on own data", type(algorithm).__name__
            rows += rows_of(
                family, mdps, episodes, method=method, variant=variant, split="test", seed=seed, context="none"
            )
    return rows


def collect_scratch(scratch: Scratch) -> None:
    """Fill its batches/ with SAC's replay buffers, unless they are there; its metrics hold the curves."""
    directory, experiment = scratch.directory, scratch.experiment
    if is_committed(directory / "batches" / f"mdp-{len(scratch.mdps) - 1:03d}"):
        return
    run = pipeline.Run(directory, experiment)
    with pipeline.working_stage(run, "collect", True, {}, scratch.collect) as checkpoints:
        collect(
            get_family(experiment.family),
            scratch.mdps,
            scratch.collect,
            experiment.seed,
            directory / "batches",
            checkpoints,
            run.metrics,
            experiment.checkpoint_seconds,
            _evaluation(scratch),
        )


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
        rows = rows_of(
            family, mdps, result, method="SAC", variant="", split="test", seed=experiment.seed, context="none"
        )
        return {name: np.array([row[name] for row in rows], float) for name in CURVES}

    return watch


def _curves(scratch: Scratch) -> list[Row]:
    """A row an MDP with the curve that the metrics hold."""
    metrics = [row for row in read_metrics(scratch.directory / "metrics.csv") if row.stage == "collect"]
    return [
        {
            "method": "SAC from scratch",
            "family": scratch.experiment.family,
            "mdp": mdp,
            "seed": scratch.experiment.seed,
            "interactions": [row.step for row in metrics if (row.learner, row.name) == (k, CURVES[0])],
            **{name: [row.value for row in metrics if (row.learner, row.name) == (k, name)] for name in CURVES},
        }
        for k, mdp in enumerate(scratch.mdps)
    ]
