"""What is run: the whole pipeline, today's controllers, a tuned PI, MPC, and SAC that may try on the very house."""

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from bmrl import pipeline
from bmrl.config import to_json
from bmrl.controllers import KINDS, ControllerAgent, users_settings
from bmrl.evaluate.evaluate import TEST_SEED, evaluate, rows_of
from bmrl.evaluate.rollout import Episodes
from bmrl.experiments import get_experiment
from bmrl.experiments.experiment import Experiment, Scale
from bmrl.families import get_family
from bmrl.families.base import Parameters
from bmrl.families.thermostat import ThermostatFamily
from bmrl.figures.weeks import week_of
from bmrl.report import learned_agents
from bmrl.reproduce.runs import run_directory, working_run
from bmrl.reproduce.scratch import Scratch, from_scratch
from bmrl.reproduce.study import Row, Unit
from bmrl.reproduce.thermostat.mpc import run_mpc
from bmrl.reproduce.thermostat.tuned_pi import settings_of, tune

NAME = "thermostat"
SHOWN = 0  # the test house whose first week is drawn
TUNING_WEEKS = 4
POINTS = 10  # of SAC's curve


def units(scale: Scale, seeds: Sequence[int], runs: Path) -> list[Unit]:
    """For every seed what learns from logs, what is not learned, and SAC on the test houses themselves."""
    found = []
    for seed in seeds:
        experiment = get_experiment(NAME, scale, seed)
        scratch = online(experiment, runs)
        directory = run_directory(NAME, seed, runs)
        weeks = {"mdps": list(houses().test_mdps()), "episodes": experiment.episodes, "seed": seed}
        found += [
            Unit(f"seed-{seed}/controllers", weeks, functools.partial(controllers, experiment)),
            Unit(f"seed-{seed}/tiMe", to_json(experiment), functools.partial(learned, experiment, directory)),
            Unit(f"seed-{seed}/SAC", scratch.config, functools.partial(from_scratch, scratch)),
        ]
    return found


def online(experiment: Experiment, runs: Path) -> Scratch:
    """SAC trained by trying on each test house."""
    directory = runs / f"{NAME}-scratch-{experiment.seed}"
    return Scratch(replace(experiment, teach={}), houses().test_mdps(), experiment.collect, POINTS, directory)


def houses() -> ThermostatFamily:
    """The family."""
    return cast(ThermostatFamily, get_family(NAME))


def learned(experiment: Experiment, directory: Path) -> list[Row]:
    """TiMe, the learner of the nearest house, and one learner of all logs together."""
    family = houses()
    mdps, rows = family.test_mdps(), []
    with working_run(experiment, directory, students=tuple(experiment.distill)) as run:
        pipeline.pooled_stage(run, resume=True)
        for (method, variant), agent in learned_agents(run, family, mdps, experiment.episodes).items():
            result = evaluate(family, mdps, agent, experiment.episodes, experiment.seed)
            rows += rows_for(experiment, mdps, result, method, variant)
            if method == "tiMe":
                rows.append(drawn(experiment, mdps, result, method))
    return rows


def controllers(experiment: Experiment) -> list[Row]:
    """Each kind of thermostat as the house's occupants set it, PI tuned on the house, and MPC with two forecasts."""
    family, seed, episodes = houses(), experiment.seed, experiment.episodes
    mdps, rows = family.test_mdps(), []
    slots = [mdp for mdp in mdps for _ in range(episodes)]
    for kind in KINDS:
        agent = ControllerAgent(users_settings(mdps, [[kind] * episodes] * len(mdps), TEST_SEED + seed))
        rows += rows_for(experiment, mdps, evaluate(family, mdps, agent, episodes, seed), "logged", kind)
    best = tune(family, mdps, TUNING_WEEKS, seed)
    agent = ControllerAgent(settings_of(slots, np.repeat(best, episodes, axis=0)))
    result = evaluate(family, mdps, agent, episodes, seed)
    rows += [*rows_for(experiment, mdps, result, "tuned PI", ""), drawn(experiment, mdps, result, "tuned PI")]
    for name, perfect in (("perfect forecast", True), ("no forecast", False)):
        rows += rows_for(experiment, mdps, run_mpc(family, slots, TEST_SEED + seed, perfect), "MPC", name)
    return rows


def rows_for(
    experiment: Experiment, mdps: Sequence[Parameters], result: Episodes, method: str, variant: str
) -> list[Row]:
    """A row a house."""
    context = "episode" if method == "tiMe" else "none"
    return rows_of(
        houses(), mdps, result, method=method, variant=variant, split="test", seed=experiment.seed, context=context
    )


def drawn(experiment: Experiment, mdps: Sequence[Parameters], result: Episodes, method: str) -> Row:
    """The first week of the house that is shown, for the page's picture."""
    week = week_of(result, mdps[SHOWN], SHOWN * experiment.episodes)
    return {"method": "week", "of": method, "seed": experiment.seed, "mdp": mdps[SHOWN], "week": week._asdict()}
