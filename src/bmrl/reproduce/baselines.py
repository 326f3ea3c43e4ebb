"""The baselines of figures 2 and 3 in other configurations, as many of each, tried in validation MDPs."""

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bmrl.config import to_json
from bmrl.evaluate.agents import Agent, FixedAgent
from bmrl.evaluate.evaluate import evaluate, rows_of, student_agent
from bmrl.experiments import get_experiment
from bmrl.experiments.experiment import Experiment, Scale
from bmrl.families import get_family
from bmrl.families.base import Parameters
from bmrl.figures.conditions import plot_conditions
from bmrl.figures.style import mdp_name, method_colour, number
from bmrl.learned import load_student
from bmrl.reproduce.configurations import BASELINES, PAPER, Configuration, tries
from bmrl.reproduce.learned_baselines import baseline_rows, slug
from bmrl.reproduce.markdown import table
from bmrl.reproduce.runs import run_directory, working_run
from bmrl.reproduce.study import Row, Study, Unit, plain

TRIES = 8  # of each baseline: its preset, and random ones
EPISODES = 10  # in each MDP
PICTURE = "baselines.png"
TIME, FIXED = "tiMe", ("standing still", "uniform actions")


def units(scale: Scale, seeds: Sequence[int], runs: Path) -> list[Unit]:
    """For every seed and family: each configuration, and what stands beside them."""
    count = 2 if scale == "smoke" else TRIES
    found = []
    for seed in seeds:
        for name, methods in BASELINES.items():
            experiment, directory = get_experiment(name, scale, seed), run_directory(name, seed, runs)
            whole = {"experiment": to_json(experiment), "episodes": EPISODES}
            work = functools.partial(references, experiment, directory)
            found.append(Unit(f"{name}/seed-{seed}/references", whole, work))
            data = {"family": name, "seed": seed, "collect": to_json(experiment.collect), "episodes": EPISODES}
            for method in methods:
                learners = {"teach": to_json(experiment.teach["paper"])} if method == PAPER else {}
                for which, config in enumerate(tries(experiment, method, count)):
                    work = functools.partial(tried, experiment, directory, method, config)
                    told = {**data, **learners, "tried": to_json(config)}
                    found.append(Unit(f"{name}/seed-{seed}/{slug(method)}/{which}", told, work))
    return found


def split_of(name: str) -> str:
    """Where a family's configurations are tried: validation MDPs, but train MDPs where the test is in these, too."""
    family = get_family(name)
    return "train" if family.test_mdps() == family.train_mdps() else "validation"


def mdps_of(name: str) -> Sequence[Parameters]:
    """The MDPs of that split."""
    family = get_family(name)
    return family.train_mdps() if split_of(name) == "train" else family.validation_mdps()


# ---------------------------------------------------------------------- trials


def references(experiment: Experiment, directory: Path) -> list[Row]:
    """tiMe, and acting without having learned anything."""
    family, seed, mdps = get_family(experiment.family), experiment.seed, mdps_of(experiment.family)
    with working_run(experiment, directory, students=("default",)) as run:
        student, config = load_student(run.directory / "students" / "default")
    agents: dict[str, Agent] = {
        TIME: student_agent(student, config.context, "episode", [mdp for mdp in mdps for _ in range(EPISODES)]),
        **{name: FixedAgent(family.action_dim, uniform=name == FIXED[1]) for name in FIXED},
    }
    rows = []
    for method, agent in agents.items():
        told = {"method": method, "variant": "", "split": split_of(family.name)}
        context = "episode" if method == TIME else "none"
        rows += rows_of(family, mdps, evaluate(family, mdps, agent, EPISODES, seed), seed=seed, context=context, **told)
    return rows


def tried(experiment: Experiment, directory: Path, method: str, config: Configuration) -> list[Row]:
    """What a configuration of a baseline earns."""
    name = experiment.family
    with working_run(experiment, directory, ("paper",) if method == PAPER else ()) as run:
        return baseline_rows(run, method, config, split_of(name), mdps_of(name), EPISODES)


# ---------------------------------------------------------------------- the page

CLAIM = """# Configurations of the baselines

Each baseline of figures [2](../figure2/README.md) and [3](../figure3/README.md) in {tries} configurations: its preset,
number 0 of the units below, and others, drawn at random from a few values of each field before any was tried. They are
tried in the family's validation MDPs, {episodes} episodes in each; those of point-goal, whose test is in its three
train MDPs, in these, with batches of another seed than figure 2's. The figures have the best; but figure 2's pooled SAC
is that of its control. tiMe's own configurations, of which there were more, were sought step by step in validation
MDPs, too ([how](../README.md#how-choices-were-made)).

`updates`: gradient steps. `best`: the share of each log that is seen, its episodes of highest return. `greed`: TD3+BC's
alpha. `candidates`: of BCQ. `latent_dim`: of PEARL's z. `decay`: whether the learning rate falls to zero. `contexts`,
and `queries` of each: a minibatch, contextual SAC's of each MDP. −inf: it diverged.
"""


class Outcome(NamedTuple):
    """A configuration, and what it earned in each MDP, on average over the seeds; -inf where it diverged."""

    values: dict[str, Any]  # of the fields that are tried; none where there is nothing to try
    returns: list[float]

    @property
    def mean(self) -> float:
        """By which it is chosen."""
        return float(np.mean(self.returns))


def best_first(rows: Sequence[Row]) -> dict[tuple[str, str], list[Outcome]]:
    """The configurations of every family and method; of equals the one that was tried first comes first.

    Of several seeds those count in which every configuration of the method has been tried.
    """
    found: dict[tuple[str, str], dict[str, list[Row]]] = {}
    for row in rows:
        place = row["unit"].split("/")[-1]  # the configuration's number
        found.setdefault((row["family"], row["method"]), {}).setdefault(place, []).append(row)
    order = (TIME, *(method for methods in BASELINES.values() for method in methods), *FIXED)
    best = {}
    for family, method in sorted(found, key=lambda key: (list(BASELINES).index(key[0]), order.index(key[1]))):
        its = [group for _, group in sorted(found[family, method].items())]
        seeds = set.intersection(*({row["seed"] for row in group} for group in its))
        outcomes = [_outcome(family, [row for row in group if row["seed"] in seeds]) for group in its]
        best[family, method] = sorted(outcomes, key=lambda outcome: outcome.mean, reverse=True)
    return best


def _outcome(family: str, rows: Sequence[Mapping[str, Any]]) -> Outcome:
    returns = []
    for mdp in plain(mdps_of(family)):
        known = [row["return_mean"] for row in rows if plain(row["mdp"]) == mdp]
        returns.append(float(np.mean(known)) if known and None not in known else -math.inf)
    return Outcome(rows[0].get("configuration", {}) if rows else {}, returns)


def page(rows: list[Row], out: Path) -> str:
    """Draw all configurations' returns; a table of each method, the best first."""
    found = best_first(rows)
    points = [
        {"panel": family, "condition": method, "value": outcome.mean}
        for (family, method), outcomes in found.items()
        for outcome in outcomes
        if math.isfinite(outcome.mean)
    ]
    plot_conditions(points, out / PICTURE, "mean return", method_colour, dot="a configuration")
    parts = [CLAIM.format(tries=TRIES, episodes=EPISODES), f"![Every configuration]({PICTURE})", ""]
    for name in dict.fromkeys(family for family, _ in found):
        seeds = sorted({row["seed"] for row in rows if row["family"] == name})
        tested = ["return", *map(mdp_name, mdps_of(name))]
        own = {method: outcomes for (family, method), outcomes in found.items() if family == name}
        beside = [([method], its[0]) for method, its in own.items() if method in (TIME, *FIXED)]
        parts += [f"## {name}, seed {', '.join(map(str, seeds))}", ""]
        parts += [_table(["method", *tested], beside), ""] if beside else []
        for method, its in own.items():
            if method not in (TIME, *FIXED):
                lines = [(list(map(str, outcome.values.values())), outcome) for outcome in its]
                parts += [f"### {method}", "", _table([*its[0].values, *tested], lines), ""]
    return "\n".join(parts)


def _table(columns: Sequence[str], lines: Sequence[tuple[Sequence[str], Outcome]]) -> str:
    """Markdown: cells, then the mean return and that in each MDP."""
    return table(
        columns, ([*cells, *(number(x, 4) for x in (outcome.mean, *outcome.returns))] for cells, outcome in lines)
    )


STUDY = Study(units, page)
