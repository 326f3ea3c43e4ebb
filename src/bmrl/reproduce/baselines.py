"""Configurations of figure 3's baselines: as many of each, tried on validation MDPs."""

import functools
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from bmrl import pipeline
from bmrl.batch_rl import Cloning
from bmrl.batch_rl.replay import Replay, best_episodes, pool
from bmrl.batch_rl.teach import TeachConfig
from bmrl.config import to_json
from bmrl.distill.distill import DistillConfig
from bmrl.evaluate.agents import Agent, FixedAgent
from bmrl.evaluate.evaluate import evaluate, learner_agent, rows_of, student_agent
from bmrl.experiments import get_experiment
from bmrl.experiments.experiment import Experiment, Scale
from bmrl.families import get_family
from bmrl.families.base import Parameters
from bmrl.figures.conditions import plot_conditions
from bmrl.figures.style import mdp_name, method_colour, number
from bmrl.learned import load_student, load_taught
from bmrl.reproduce.lesson import lesson_of, student_of
from bmrl.reproduce.runs import run_directory, working_run
from bmrl.reproduce.study import Row, Study, Unit
from bmrl.sources import batch_sources

FAMILIES = ("halfcheetah-velocity", "hopper-velocity")
PAPER, REFERENCES = "tiMe (paper)", "references"
PICTURE = "baselines.png"
TRIES = 12  # of each baseline: its preset, and random ones
EPISODES = 10  # in each validation MDP

Choices: TypeAlias = Mapping[str, tuple[Any, ...]]
"""Of each field that is tried, the values; ``updates`` are in multiples of the preset's."""

POOLED: Choices = {
    "updates": (0.5, 1, 2),
    "best": (0.1, 0.3, 1.0),
    "batch_size": (64, 256),
    "learning_rate": (1e-4, 3e-4, 1e-3),
}
BASELINES: dict[str, Choices] = {
    "pooled (TD3BC)": {**POOLED, "hidden": ((128, 128), (256, 256)), "greed": (1.0, 2.5, 10.0)},
    "pooled (BCQ)": {
        **POOLED,
        "critic_hidden": ((128, 128), (256, 256)),
        "generator_hidden": ((128, 128), (256, 256)),
        "candidates": (1, 10, 100),
    },
    "behaviour cloning": {**POOLED, "hidden": ((128, 128), (256, 256), (512, 512))},
    PAPER: {
        "updates": (0.5, 1),
        "learning_rate": (1e-4, 3e-4, 1e-3),
        "decay": (False, True),
        "contexts": (16, 32, 64),
        "queries": (1, 4),
    },
}

ORDER = ("tiMe", *BASELINES, "standing still", "uniform actions")  # on the page


def preset(experiment: Experiment, method: str) -> TeachConfig | DistillConfig:
    """A baseline untried: of phase 1's sizes, or of the paper's variant; learners see logs as they were logged."""
    default = replace(experiment.teach["default"], logs="own")
    presets: dict[str, TeachConfig | DistillConfig] = {
        "pooled (TD3BC)": default,
        "pooled (BCQ)": experiment.teach["paper"],
        "behaviour cloning": replace(default, algorithm=Cloning()),
        PAPER: experiment.distill["paper"],
    }
    return presets[method]


def configured(base: TeachConfig | DistillConfig, chosen: Mapping[str, Any]) -> TeachConfig | DistillConfig:
    """The configuration with the chosen values in it or, where it has no such field, in its algorithm."""
    values = {**chosen, "updates": round(chosen["updates"] * base.updates)}
    if isinstance(base, DistillConfig):
        return replace(base, **values)
    own = {name: values.pop(name) for name in ("updates", "best")}
    algorithm: Any = base.algorithm
    return replace(base, **own, algorithm=replace(algorithm, **values))


def value(config: TeachConfig | DistillConfig, name: str) -> Any:
    """What `configured` sets: a field of the configuration or, where it has none of that name, of its algorithm."""
    return getattr(config.algorithm if isinstance(config, TeachConfig) and not hasattr(config, name) else config, name)


def tries(experiment: Experiment, method: str, count: int) -> list[TeachConfig | DistillConfig]:
    """The preset and random configurations, all different; fewer of them are the first of more, for every seed."""
    rng = np.random.default_rng(zlib.crc32(f"{experiment.family} {method}".encode()))
    base = preset(experiment, method)
    found = [base]
    while len(found) < count:
        chosen = {name: values[rng.integers(len(values))] for name, values in BASELINES[method].items()}
        if (config := configured(base, chosen)) not in found:
            found.append(config)
    return found


def units(scale: Scale, seeds: Sequence[int], runs: Path) -> list[Unit]:
    """For every seed and family: each configuration, and what stands beside them."""
    count = 2 if scale == "smoke" else TRIES
    found = []
    for seed in seeds:
        for name in FAMILIES:
            experiment, directory = get_experiment(name, scale, seed), run_directory(name, seed, runs)
            whole = {"experiment": to_json(experiment), "episodes": EPISODES}
            beside = functools.partial(references, experiment, directory)
            found.append(Unit(f"{name}/seed-{seed}/{REFERENCES}", whole, beside))
            data = {"family": name, "seed": seed, "collect": to_json(experiment.collect), "episodes": EPISODES}
            for method in BASELINES:
                learners = {"teach": to_json(experiment.teach["paper"])} if method == PAPER else {}
                slug = re.sub(r"\W+", "-", method).strip("-")
                for place, config in enumerate(tries(experiment, method, count)):
                    unit = f"{name}/seed-{seed}/{slug}/{place:02d}"
                    work = functools.partial(tried, experiment, directory, method, config, unit)
                    found.append(Unit(unit, {**data, **learners, "tried": to_json(config)}, work))
    return found


# ---------------------------------------------------------------------- trials


def references(experiment: Experiment, directory: Path) -> list[Row]:
    """tiMe, and acting without having learned anything, in the validation MDPs."""
    family = get_family(experiment.family)
    with working_run(experiment, directory, students=("default",)) as run:
        student, config = load_student(run.directory / "students" / "default")
    slots = [mdp for mdp in family.validation_mdps() for _ in range(EPISODES)]
    agents: dict[str, Agent] = {
        "tiMe": student_agent(student, config.context, "episode", slots),
        "standing still": FixedAgent(family.action_dim, uniform=False),
        "uniform actions": FixedAgent(family.action_dim, uniform=True),
    }
    return [row for method, agent in agents.items() for row in _rows(experiment, method, agent)]


def tried(
    experiment: Experiment, directory: Path, method: str, config: TeachConfig | DistillConfig, unit: str
) -> list[Row]:
    """What a configuration of a baseline earns in the validation MDPs; where it diverged, up to then."""
    _, _, baseline, place = unit.split("/")
    mdps = get_family(experiment.family).validation_mdps()
    with working_run(experiment, directory, ("paper",) if method == PAPER else ()) as run:
        own = pipeline.Run(run.directory / "baselines" / baseline / place, experiment)
        agent: Agent
        if isinstance(config, TeachConfig):
            agent = learned(run, own, config, mdps, EPISODES)
        else:
            student = student_of(own, lesson_of(run, "paper"), config)
            agent = student_agent(student, config.context, "episode", [mdp for mdp in mdps for _ in range(EPISODES)])
    values = {name: value(config, name) for name in BASELINES[method]}
    return [{**row, "configuration": values} for row in _rows(experiment, method, agent, place)]


def learned(
    run: pipeline.Run, own: pipeline.Run, config: TeachConfig, mdps: Sequence[Parameters], episodes: int
) -> Agent:
    """One learner of all the run's batches, as if they were one MDP's, for these MDPs; in ``own``, unless it is there.

    A baseline that diverges ends nothing: it acts as it did shortly before.
    """
    path = own.directory / "learner"

    def load() -> Replay:
        return pool(best_episodes(pipeline.load_replay(run), config.best))

    pipeline.learn(own, "teach", path, config, batch_sources(run.directory), load, may_diverge=True)
    _, taught = load_taught(path, config)
    return learner_agent(config.algorithm, taught.states, np.zeros(len(mdps), int), episodes)


def _rows(experiment: Experiment, method: str, agent: Agent, variant: str = "") -> list[Row]:
    family, seed = get_family(experiment.family), experiment.seed
    result = evaluate(family, family.validation_mdps(), agent, EPISODES, seed)
    told = {"method": method, "variant": variant, "split": "validation", "context": "episode"}
    return rows_of(family, family.validation_mdps(), result, seed=seed, **told)


# ---------------------------------------------------------------------- the page

CLAIM = f"""# Configurations of the baselines

Each baseline of [figure 3](../figure3/README.md) in {TRIES} configurations: its preset, which has the sizes of tiMe's
phase 1 or of the paper's variant, and others drawn at random from a few values of each field. They are tried in
the validation MDPs, {EPISODES} episodes in each; the test MDPs have no part in it.

`updates`: gradient steps. `best`: the share of each log that is seen, its episodes of highest return. `greed`: TD3+BC's
alpha. `candidates`: of BCQ. `decay`: whether the learning rate falls to zero. `contexts`, and `queries` of each:
a minibatch of phase 2.
"""


class Tried(NamedTuple):
    """A configuration, and what it earned in each validation MDP, on average over the seeds."""

    values: dict[str, Any]  # of the fields that are tried; none where there is nothing to try
    returns: list[float]

    @property
    def mean(self) -> float:
        """By which it is chosen."""
        return float(np.mean(self.returns))


def best_first(rows: Sequence[Row]) -> dict[tuple[str, str], list[Tried]]:
    """The configurations of every family and method; of equals the one that was tried first comes first."""
    found: dict[tuple[str, str], dict[str, list[Row]]] = {}
    for row in rows:
        found.setdefault((row["family"], row["method"]), {}).setdefault(row["variant"], []).append(row)
    return {
        (family, method): sorted(
            (_tried(family, its[variant]) for variant in sorted(its)), key=lambda tried: tried.mean, reverse=True
        )
        for (family, method), its in sorted(found.items(), key=lambda item: (item[0][0], ORDER.index(item[0][1])))
    }


def _tried(family: str, rows: Sequence[Row]) -> Tried:
    returns = []
    for mdp in get_family(family).validation_mdps():
        known = [row["return_mean"] for row in rows if row["mdp"] == mdp and row["return_mean"] is not None]
        returns.append(float(np.mean(known)) if known else -math.inf)
    return Tried(rows[0].get("configuration", {}), returns)


def page(rows: list[Row], out: Path) -> str:
    """Draw all configurations' returns; a table of each method, the best first."""
    found = best_first(rows)
    points = [
        {"panel": family, "condition": method, "value": tried.mean}
        for (family, method), tries in found.items()
        for tried in tries
        if math.isfinite(tried.mean)
    ]
    plot_conditions(points, out / PICTURE, "return in the validation MDPs", method_colour, dot="a configuration")
    parts = [CLAIM, f"![Every configuration]({PICTURE})", ""]
    for name in dict.fromkeys(family for family, _ in found):
        tested = ["return", *map(mdp_name, get_family(name).validation_mdps())]
        beside = [([m], tries[0]) for (family, m), tries in found.items() if family == name and m not in BASELINES]
        parts += [f"## {name}", "", *_table(["method", *tested], beside)]
        for (family, method), tries in found.items():
            if family == name and method in BASELINES:
                lines = [(list(map(str, tried.values.values())), tried) for tried in tries]
                parts += [f"### {method}", "", *_table([*BASELINES[method], *tested], lines)]
    return "\n".join(parts)


def _table(columns: Sequence[str], lines: Sequence[tuple[Sequence[str], Tried]]) -> list[str]:
    """Markdown: cells, then the mean return and that in each MDP."""
    table = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for cells, tried in lines:
        table.append(f"| {' | '.join([*cells, *(number(x, 4) for x in (tried.mean, *tried.returns))])} |")
    return [*table, ""]


STUDY = Study(units, page)
