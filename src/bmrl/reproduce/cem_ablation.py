"""The CEM ablation of section 5.2: without G_S and xi_S, the cross-entropy method picks what Q_S likes best."""

import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bmrl.batch_rl import TD3BC
from bmrl.config import to_json
from bmrl.distill.contexts import ContextConfig
from bmrl.distill.student import Student
from bmrl.evaluate.agents import RANDOM_SHOOTING, Agent, FixedAgent, StudentAgent, random_shooting
from bmrl.evaluate.cem import CEM
from bmrl.evaluate.evaluate import evaluate, rows_of
from bmrl.evaluate.overestimation import overestimation
from bmrl.experiments import get_experiment
from bmrl.experiments.experiment import Experiment, Scale
from bmrl.families import get_family
from bmrl.figures.cem_ablation import (
    ACTIONS,
    FAMILY,
    METHODS,
    OWN,
    PARAMETER,
    Means,
    Samples,
    plot_cem_ablation,
)
from bmrl.figures.style import number
from bmrl.learned import load_student
from bmrl.reproduce.markdown import table
from bmrl.reproduce.runs import run_directory, working_run
from bmrl.reproduce.study import Row, Study, Unit
from bmrl.statistics import ERRORS, Mean, mean, mean_of_means, verdict

PICTURE = "cem-ablation.png"


@dataclass(frozen=True)
class Ablation:
    """One student, how CEM searches, and how many of its own states its values are checked in."""

    experiment: Experiment
    directory: Path  # of the run, which figure 3 shares
    cem: CEM
    states: int  # of each test MDP
    steps: int  # of a Monte-Carlo return

    @property
    def config(self) -> object:
        """What the rows depend on."""
        sizes = {"cem": asdict(self.cem), "states": self.states, "steps": self.steps}
        return {"experiment": to_json(self.experiment), **sizes}


def units(scale: Scale, seeds: Sequence[int], runs: Path) -> list[Unit]:
    """For every seed: what each way to choose actions earns, and Q_S beside Monte-Carlo returns."""
    # .99^500 leaves less than a hundredth of the return
    sizes = (CEM(40, 4, 2), 2, 20) if scale == "smoke" else (CEM(), 100, 500)
    found = []
    for seed in seeds:
        ablation = Ablation(get_experiment(FAMILY, scale, seed), run_directory(FAMILY, seed, runs), *sizes)
        for name, work in (("returns", returns_of), ("values", values_of)):
            found.append(Unit(f"{FAMILY}/seed-{seed}/{name}", ablation.config, functools.partial(work, ablation)))
    return found


def trained(ablation: Ablation) -> tuple[Student, ContextConfig]:
    """The run directory's student, made first where it is not there."""
    with working_run(ablation.experiment, ablation.directory, students=("default",)) as run:
        student, config = load_student(run.directory / "students" / "default")
    return student, config.context


def returns_of(ablation: Ablation) -> list[Row]:
    """The same student zero-shot in the test MDPs, by three ways to choose an action under Q_S."""
    student, context = trained(ablation)
    experiment = ablation.experiment
    family, seed = get_family(experiment.family), experiment.seed
    agents = (
        StudentAgent(student, context),
        StudentAgent(student, context, select=ablation.cem),
        StudentAgent(student, context, select=random_shooting),
    )
    rows = []
    for method, agent in zip(METHODS, agents, strict=True):
        result = evaluate(family, family.test_mdps(), agent, experiment.episodes, seed)
        told = {"method": method, "variant": "default", "split": "test", "context": "episode"}
        rows += rows_of(family, family.test_mdps(), result, seed=seed, **told)
    return [{**row, "cem": asdict(ablation.cem)} for row in rows]


def values_of(ablation: Ablation) -> list[Row]:
    """Q_S beside Monte-Carlo returns from tiMe's own states, and how far the teachers' values had come."""
    student, context = trained(ablation)
    experiment = ablation.experiment
    family, teach = get_family(experiment.family), experiment.teach["default"]
    algorithm = teach.algorithm
    assert isinstance(algorithm, TD3BC)
    policy = StudentAgent(student, context)
    proposers: dict[str, Agent] = {
        OWN: policy,
        "CEM": StudentAgent(student, context, select=ablation.cem),
        "uniform": FixedAgent(family.action_dim, uniform=True),
    }
    found = overestimation(
        family, family.test_mdps(), policy, proposers, ablation.states, ablation.steps, experiment.seed
    )
    reach = teach.updates // algorithm.actor_delay * algorithm.target_rate
    more = {"cem": asdict(ablation.cem), "reach": reach, "converged": 1 - algorithm.discount**reach}
    return [{**row, **more} for row in found]


# ---------------------------------------------------------------------- what the rows say


def samples_of(rows: Sequence[Row], name: str, column: str) -> Samples:
    """A column of the rows that have ``name``, "method" or "actions"; rows without samples are left out."""
    rows = [row for row in rows if name in row and row[column]]
    return {(row[name], row["mdp"][PARAMETER], row["seed"]): np.array(row[column]) for row in rows}


def losses(earned: Samples) -> Means:
    """How much less than tiMe each other method earns."""
    found = {}
    for (method, mdp, seed), sample in earned.items():
        if method != "tiMe" and ("tiMe", mdp, seed) in earned:
            a, b = mean(earned["tiMe", mdp, seed]), mean(sample)
            found[method, mdp, seed] = Mean(a.value - b.value, float(np.hypot(a.error, b.error)))
    return found


def excesses(estimates: Samples, monte_carlo: Samples) -> Means:
    """How much more each other action is over-estimated than G_S and xi_S's in the same state."""
    over = {key: estimates[key] - monte_carlo[key] for key in estimates}
    return {
        (kind, mdp, seed): mean(sample - over[OWN, mdp, seed])
        for (kind, mdp, seed), sample in over.items()
        if kind != OWN
    }


class Statement(NamedTuple):
    """A part of the paper's claim, as differences that are positive where it is so."""

    text: str
    cells: list[Mean]  # one an MDP and seed
    seeds: list[Mean]  # the mean over the MDPs of each seed

    @property
    def verdict(self) -> str:
        """Whether it is clearly so in every seed, over its MDPs."""
        return verdict([x.clear for x in self.seeds], len(self.seeds))


def statements(lost: Means, excess: Means) -> list[Statement]:
    """The three parts of the claim."""

    def statement(text: str, means: Means, name: str) -> Statement:
        own = {key: x for key, x in means.items() if key[0] == name}
        seeds = sorted({seed for _, _, seed in own})
        by_seed = [mean_of_means([x for key, x in own.items() if key[2] == seed]) for seed in seeds]
        return Statement(text, list(own.values()), by_seed)

    return [
        statement("CEM on Q_S earns less than tiMe", lost, "CEM on Q_S"),
        statement("Q_S over-estimates CEM's actions more than those of G_S and xi_S", excess, "CEM"),
        statement("Q_S over-estimates uniform actions more than those of G_S and xi_S", excess, "uniform"),
    ]


# ---------------------------------------------------------------------- the page

INTRODUCTION = """# CEM in the place of G_S and xi_S

tiMe acts in three steps: G_S proposes actions that resemble the batch, xi_S corrects them a little, and Q_S chooses
among them. The paper (section 5.2) reports on leaving the first two out: "We tried removing G_S, xi_S from the
architecture [...] and picked action with Cross Entropy Method, but that lead to poor performance because Q_S
over-estimates the values of actions not generated by G_S, xi_S."

Here one student of HalfCheetah-velocity a seed acts zero-shot in unseen MDPs, in three ways. *tiMe* proposes with G_S,
once for each of the two most probable train MDPs; its learners are TD3+BC, which leave xi_S nothing to correct.
*CEM on Q_S* searches the whole box of actions for the highest Q_S: {iterations} iterations of {population} actions,
of which the best {elites} shape the next. *Random shooting on Q_S* takes the best of {shooting} uniform actions.
Networks and inferred identity are the same: the student keeps a G_S that goes unused, which shares nothing with Q_S
but the embeddings of the train MDPs."""

RETURNS = """Zero-shot returns of whole episodes: the mean over seeds and, in brackets, the seeds' lowest and highest.
Standing still is known by formula."""

VALUES = """In states of tiMe's own episodes, at random times, an action is taken by each of three ways, and tiMe goes
on. Its discounted Monte-Carlo return, from exactly the same state of the simulator and with the same random draws, is
what Q_S(s, a, m) should be; *over-estimation* is Q_S minus that return. The last column is what the claim is about: how
much more an action is over-estimated than the one of G_S and xi_S in the same state, with its standard error over the
states."""


def page(rows: list[Row], out: Path) -> str:
    """Draw the ablation; the verdict, and tables of returns and of over-estimation."""
    earned = samples_of(rows, "method", "returns")
    estimates, monte_carlo = (samples_of(rows, "actions", column) for column in ("estimates", "returns"))
    lost, excess = losses(earned), excesses(estimates, monte_carlo)
    plot_cem_ablation(earned, estimates, monte_carlo, excess, out / PICTURE)
    introduction = INTRODUCTION.format(**rows[0]["cem"], shooting=RANDOM_SHOOTING)
    parts = [introduction, f"![returns and values]({PICTURE})", verdicts(statements(lost, excess))]
    if earned:
        parts += ["## Returns", RETURNS, returns_table(earned)]
    if estimates:
        parts += ["## Values", VALUES, values_table(estimates, monte_carlo, excess), convergence(rows)]
    return "\n\n".join(part for part in parts if part)


def verdicts(claims: Sequence[Statement]) -> str:
    """Markdown: whether the paper's claim holds, and each part of it."""
    parts = ["## Verdict", f"A difference counts where it exceeds {ERRORS:g} standard errors."]
    lines = []
    for claim in claims:
        if claim.seeds:
            average = number(float(np.mean([x.value for x in claim.seeds])))
            counts = [f"{sum(x.clear for x in means)} of {len(means)}" for means in (claim.seeds, claim.cells)]
            lines.append([claim.text, average, *counts, claim.verdict])
        else:
            lines.append([claim.text, "", "", "", "not measured yet"])
    parts.append(table(("part of the claim", "mean difference", "counts in seeds", "in MDPs of seeds", ""), lines))
    if all(claim.seeds for claim in claims):
        found = [claim.verdict for claim in claims]
        whole = found[0] if len(set(found)) == 1 or found[0] == "does not hold" else "holds in part"
        parts.append(f"The paper's claim: **{whole}**.")
    return "\n\n".join(parts)


def returns_table(earned: Samples) -> str:
    """Markdown: an MDP a row, a method a column."""
    family = get_family(FAMILY)
    lines = []
    for mdp in sorted({mdp for _, mdp, _ in earned}):
        shown = [_spread([x.mean() for x in _seeds(earned, method, mdp)]) for method in METHODS]
        standing = family.reference_returns({PARAMETER: mdp})["standing"]
        lines.append([f"{mdp:g} m/s", *shown, number(standing)])
    return table(("target velocity", *METHODS, "standing still"), lines)


def values_table(estimates: Samples, monte_carlo: Samples, excess: Means) -> str:
    """Markdown: an MDP and kind of action a row."""
    head = ("target velocity", "action of", "states", "Q_S", "return", "over-estimation", "more than G_S, xi_S")
    lines = []
    for mdp in sorted({mdp for _, mdp, _ in estimates}):
        for kind in ACTIONS:
            promised, earned = (np.concatenate(_seeds(x, kind, mdp)) for x in (estimates, monte_carlo))
            over = (
                mean_of_means([x for (k, m, _), x in excess.items() if (k, m) == (kind, mdp)]) if kind != OWN else None
            )
            more = f"{number(over.value, 2)} ± {number(over.error, 2)}" if over else ""
            numbers = [promised.mean(), earned.mean(), (promised - earned).mean()]
            lines.append([f"{mdp:g} m/s", kind, str(len(earned)), *map(number, numbers), more])
    return table(head, lines)


def convergence(rows: Sequence[Row]) -> str:
    """Markdown: what a Q short of its fixed point adds to the over-estimation; empty where it is close."""
    row = next(row for row in rows if "actions" in row)
    if row["converged"] > 0.99:
        return ""
    return f"""**A caution.** A teacher's values start near 0, and each of its targets is renewed about {row["reach"]:g}
times in all. They then hold the rewards of about so many steps, {row["converged"]:.0%} of what the infinite horizon
pays. No reward here is positive, so this alone makes every estimate too high, whatever the action. The last column is
free of what is common to the actions of a state."""


def _seeds(samples: Samples, name: str, mdp: float) -> list[np.ndarray]:
    return [sample for (one, at, _), sample in samples.items() if (one, at) == (name, mdp)]


def _spread(means: Sequence[float]) -> str:
    if not means:
        return ""
    spread = f" [{number(min(means))}, {number(max(means))}]" if len(means) > 1 else ""
    return number(float(np.mean(means))) + spread


STUDY = Study(units, page)
