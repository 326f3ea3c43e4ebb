"""Judging without a plant: what fitted Q evaluation says of a policy, beside what the same policy really earns."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import spearmanr

from bmrl import pipeline
from bmrl.batch_rl.fqe import FQE
from bmrl.batch_rl.replay import stack
from bmrl.collect import ControllerLogs, log_controllers
from bmrl.config import to_json
from bmrl.data import Batch, read_batches
from bmrl.distill.contexts import ContextConfig
from bmrl.distill.student import Student
from bmrl.evaluate.evaluate import TEST_SEED, evidence_of_log
from bmrl.evaluate.judging import judged_agent
from bmrl.evaluate.overestimation import Snapshot, monte_carlo
from bmrl.experiments import get_experiment
from bmrl.experiments.experiment import Experiment, Scale
from bmrl.families import get_family
from bmrl.families.base import Family
from bmrl.figures.judging import plot_judged
from bmrl.figures.style import mdp_name, number
from bmrl.judge import JudgeConfig, judged
from bmrl.learned import load_student
from bmrl.reproduce.markdown import table
from bmrl.reproduce.runs import run_directory, working_run
from bmrl.reproduce.study import Row, Study, Unit
from bmrl.runs.storage import committed_names, verify_directory
from bmrl.statistics import verdict

FAMILIES = ("halfcheetah-velocity", "halfcheetah-velocity-dynamics", "thermostat")
VARIANT = "default"
SIZES: dict[Scale, tuple[int, int, int, int]] = {  # updates, members, tried, steps; paper has the command's own
    "smoke": (20, 2, 2, 20),
    "laptop": (8000, 3, 8, 500),
    "paper": (20_000, 5, 25, 500),
}
SURE, HELD = 0.9, 0.9  # shares of the MDPs that the verdicts ask for
HELD_OUT = 6  # validation MDPs that are judged: critics are trained for each
LOG_SEED = 2_000_003  # held-out logs are of other weeks than those of training and of the test


@dataclass(frozen=True)
class Setting:
    """How the policy of a run is judged, and how often it is really tried."""

    experiment: Experiment
    judge: JudgeConfig
    members: int
    tried: int  # true episodes in each MDP
    steps: int  # of a true episode


def units(scale: Scale, seeds: Sequence[int], runs: Path) -> list[Unit]:
    """The policy of each family and seed."""
    updates, members, tried, steps = SIZES[scale]
    found = []
    for seed in seeds:
        for name in FAMILIES:
            algorithm = FQE(discount=get_family(name).discount)
            experiment = get_experiment(name, scale, seed)
            setting = Setting(experiment, JudgeConfig(algorithm, updates), members, tried, steps)
            work = functools.partial(compared, setting, runs)
            found.append(Unit(f"{name}/seed-{seed}", to_json(setting), work))
    return found


def compared(setting: Setting, runs: Path) -> list[Row]:
    """A row for each train MDP, and each validation MDP that can be logged: see `judged`, with the "truth"."""
    experiment = setting.experiment
    family, seed = get_family(experiment.family), experiment.seed
    with working_run(experiment, run_directory(family.name, seed, runs), students=(VARIANT,)) as run:
        path = run.directory / "students" / VARIANT
        student, distilled = load_student(path)
        sources = {f"students/{VARIANT}": verify_directory(path, hashes=False)["manifest_sha256"]}
        batches = read_batches(run.directory / "batches")
    place = replace(run, directory=runs / f"judging-{family.name}-{seed}")
    with pipeline.working_on(place.directory, to_json(setting)):
        splits = ["train"] * len(batches)
        if experiment.controllers:
            others = held_out(family, experiment.controllers, seed, place.directory / "batches")
            batches, splits = batches + others, splits + ["held-out"] * len(others)
        rows = judged(place, student, distilled.context, batches, setting.judge, setting.members, sources)
    truths = true_returns(setting, family, student, distilled.context, batches)
    return [
        {"family": family.name, "seed": seed, "split": split, **row, "truths": truth, "truth": np.mean(truth)}
        for split, row, truth in zip(splits, rows, truths, strict=True)
    ]


def held_out(family: Family, logs: ControllerLogs, seed: int, path: Path) -> list[Batch]:
    """Logs of the first validation MDPs, which no policy learned from."""
    mdps = family.validation_mdps()[:HELD_OUT]
    if len(committed_names(path)) < len(mdps):
        log_controllers(family, mdps, logs, LOG_SEED + seed, path)
    return [replace(batch, name=f"held-out/{batch.name}") for batch in read_batches(path)]


def true_returns(
    setting: Setting, family: Family, student: Student, context: ContextConfig, batches: Sequence[Batch]
) -> list[list[float]]:
    """Discounted returns of the very policy that is judged, from the MDPs' first states: those of valid episodes."""
    tried, seed = setting.tried, setting.experiment.seed
    known = [evidence_of_log(student, log) for log in stack(batches).logs]
    evidence = jax.tree.map(lambda *x: jnp.repeat(jnp.stack(x), tried, axis=0), *known)
    agent = judged_agent(student, context, evidence)
    simulator = family.simulator([batch.manifest["mdp"] for batch in batches for _ in range(tried)], TEST_SEED + seed)
    now, memory, key = simulator.reset(), agent.start(simulator.n), jax.random.PRNGKey(seed)
    start = Snapshot(simulator.state(), memory, now, np.ones(simulator.n, bool))
    returns, valid = monte_carlo(simulator, agent, start, agent.act(memory, now, key), setting.steps, key)
    slots = np.split(np.arange(simulator.n), len(batches))
    return [returns[here[valid[here]]].tolist() for here in slots]


# ---------------------------------------------------------------------- the page


class Agreement(NamedTuple):
    """How far estimates agree with true returns, over the MDPs of one family, split and seed."""

    rank: float  # Spearman's correlation of estimates and true returns
    rank_logged: float  # the same of what was logged, where somebody takes this for the policy's value
    error: float  # root mean square, in the unit of the rewards
    error_logged: float
    bias: float  # the mean of estimate minus truth
    held: float  # share of MDPs whose interval has the truth in it
    sign: float  # share where estimate and truth are on the same side of what was logged
    better: float  # share where the policy is in truth better than what was logged
    far: float  # mean share of far actions
    noise: float  # mean standard error of the true returns, which tried episodes leave


def agreement(rows: Sequence[Row]) -> Agreement:
    """The agreement of rows of different MDPs; correlations are NaN where there are less than three."""
    truth, value, logged, low, high = (
        np.array([row[name] for row in rows], float) for name in ("truth", "value", "logged_value", "low", "high")
    )

    def rank(x: np.ndarray) -> float:
        return float(spearmanr(x, truth).statistic) if len(x) > 2 else float("nan")

    def error(x: np.ndarray) -> float:
        return float(np.sqrt(np.mean((x - truth) ** 2)))

    return Agreement(
        rank(value),
        rank(logged),
        error(value),
        error(logged),
        float(np.mean(value - truth)),
        float(np.mean((low <= truth) & (truth <= high))),
        float(np.mean((value > logged) == (truth > logged))),
        float(np.mean(truth > logged)),
        float(np.mean([row["far"] for row in rows if row["far"] is not None])),
        float(np.mean([np.std(row["truths"]) / np.sqrt(len(row["truths"])) for row in rows])),
    )


def page(rows: list[Row], out: Path) -> str:
    """Draw estimates over true returns; a table and verdicts."""
    groups = grouped(rows)
    if not groups:
        return INTRODUCTION
    plot_judged(groups, out / "judging.png")
    found = {title: by_seed(own) for title, own in groups.items()}
    picture = "![estimates and logged returns over true returns](judging.png)"
    return "\n\n".join([INTRODUCTION, verdicts(found), agreements(groups, found), COLUMNS, picture, LIMITS])


def grouped(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows with a truth, of each family and split that there is, by their title."""
    found: dict[str, list[Row]] = {}
    for name in FAMILIES:
        for split in ("train", "held-out"):
            own = [r for r in rows if (r["family"], r["split"]) == (name, split) and r["truth"] is not None]
            if own:
                found[f"{name}, {split} MDPs"] = own
    return found


def by_seed(rows: Sequence[Row]) -> list[Agreement]:
    """The agreement of each seed."""
    return [agreement([row for row in rows if row["seed"] == seed]) for seed in sorted({row["seed"] for row in rows})]


def verdicts(found: Mapping[str, Sequence[Agreement]]) -> str:
    """Markdown: what is claimed, which holds if it does in every group and seed."""
    every, seeds = [one for group in found.values() for one in group], min(map(len, found.values()))
    claims = {
        "Estimates are nearer to true returns than what was logged is": [x.error < x.error_logged for x in every],
        "They rank the MDPs better than what was logged does": [x.rank > x.rank_logged for x in every],
        f"They tell in {SURE:.0%} of MDPs whether the policy beats the log": [x.sign >= SURE for x in every],
        f"Their intervals have the truth in {HELD:.0%} of MDPs": [x.held >= HELD for x in every],
    }
    return "\n".join(
        f"- **{claim}: {verdict(held, seeds)}** ({sum(held)} of {len(held)} families, splits and seeds)."
        for claim, held in claims.items()
    )


def agreements(groups: Mapping[str, Sequence[Row]], found: Mapping[str, Sequence[Agreement]]) -> str:
    """Markdown: the agreement of each group, the mean over its seeds."""
    head = ("", "MDPs", "rank correlation", "error", "bias", "interval holds", "sign", "truly better", "far", "noise")
    lines = []
    for title, group in found.items():
        mean = Agreement(*np.mean(group, axis=0))
        cells = [
            str(len({mdp_name(row["mdp"]) for row in groups[title]})),
            f"{mean.rank:.2f} ({mean.rank_logged:.2f})",
            f"{number(mean.error)} ({number(mean.error_logged)})",
            number(mean.bias),
            *(f"{share:.0%}" for share in (mean.held, mean.sign, mean.better, mean.far)),
            number(mean.noise),
        ]
        lines.append([title, *(cell.replace("-", "−") for cell in cells)])
    return table(head, lines, right=True)


INTRODUCTION = """# Judging without a plant

What [`bmrl judge`](../../judging.md) says of a policy, beside what this policy really earns. The policy is the
default student of a run; it infers each MDP from 64 transitions of the MDP's log and keeps that identity.
Fitted Q evaluation estimates its discounted return (discount .99) from the same log alone: at laptop scale three
members of 8,000 updates each, where the command has five of 20,000. Then the same policy is tried: 8 episodes of 500
steps in every MDP, for thermostats in weather that is in no log.

Train MDPs are judged by the logs that the policy was learned from, held-out ones, the validation houses, by logs of
their ordinary thermostats that nothing was learned from. HalfCheetah's validation MDPs have no logs."""

COLUMNS = """Over the MDPs of a row, the mean of its seeds. In brackets: the same of what was logged, if it is taken for
the policy's value. *Rank correlation*: Spearman's. *Error*: root mean square; thermostats' in EUR. *Bias*: the mean of
estimate minus truth. *Interval holds*: MDPs with the true return between the 5 % and the 95 % quantile of the members.
*Sign*: MDPs where the estimate is on the side of the logged return where the truth is; *truly better*: where the
policy is above it. *Far*: actions far from all that the log has there. *Noise*: standard error of a true return."""

LIMITS = """Estimates are blue, with the range of their members; orange is what was logged. On the diagonal they are
right. Three members are few: their interval is of the fit's and the data's chance, and knows nothing of bias. What is
slowest to converge in the fit has not settled after 8,000 updates. Six held-out houses say little of a rank
correlation. One seed is one policy."""


STUDY = Study(units, page)
