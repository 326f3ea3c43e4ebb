"""Figure 3: zero-shot tiMe beside SAC from scratch, in robots that are asked for velocities unseen in training."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bmrl import pipeline
from bmrl.config import to_json
from bmrl.evaluate.agents import Agent, FixedAgent
from bmrl.evaluate.evaluate import evaluate, oracle_agent, rows_of
from bmrl.experiments import get_experiment
from bmrl.experiments.experiment import Experiment, Scale
from bmrl.families import get_family
from bmrl.families.base import Parameters
from bmrl.figures.conditions import plot_conditions
from bmrl.figures.scratch import plot_figure3
from bmrl.figures.style import mdp_name, method_colour, method_names, number
from bmrl.learned import load_student
from bmrl.report import learned_agents
from bmrl.reproduce.configurations import BASELINES, Configuration, chosen
from bmrl.reproduce.learned_baselines import baseline_rows
from bmrl.reproduce.markdown import table
from bmrl.reproduce.runs import run_directory, working_run
from bmrl.reproduce.scratch import Scratch, from_scratch, scratch_of
from bmrl.reproduce.study import Row, Study, Unit
from bmrl.statistics import FEW, bootstrap_interval, iqm

FAMILIES = ("halfcheetah-velocity", "hopper-velocity")
REFERENCES, POOLED, NEAREST = ("standing still", "uniform actions"), ("pooled", "behaviour cloning"), ("nearest",)
STUDENT = "default"  # the variant of tiMe
LONGER = 5  # times the interactions, for the run that tests whether SAC would still improve


def units(scale: Scale, seeds: Sequence[int], runs: Path) -> list[Unit]:
    """For every seed and family: SAC from scratch, a whole pipeline, and the baselines that learn from its batches.

    One longer SAC run of HalfCheetah, seed 0.
    """
    found = []
    for seed in seeds:
        for name in FAMILIES:
            experiment, scratch = get_experiment(name, scale, seed), scratch_of(name, scale, seed, runs)
            unit = f"{name}/seed-{seed}"
            found.append(Unit(f"{unit}/scratch", scratch.config, functools.partial(from_scratch, scratch)))
            directory = run_directory(name, seed, runs)
            alone = replace(experiment, distill={STUDENT: experiment.distill[STUDENT]})
            found.append(Unit(f"{unit}/tiMe", to_json(alone), functools.partial(zero_shot, experiment, directory)))
            configurations = {method: chosen(experiment, method, scale) for method in BASELINES[name]}
            config = {
                "family": name,
                "seed": seed,
                "episodes": experiment.episodes,
                "collect": to_json(experiment.collect),
                "teach": to_json(experiment.teach["paper"]),
                "baselines": {method: to_json(x) for method, x in configurations.items()},
            }
            work = functools.partial(pooled_baselines, experiment, directory, configurations)
            found.append(Unit(f"{unit}/baselines", config, work))
            if seed == 0 and name == FAMILIES[0]:
                much = replace(scratch.collect, transitions=LONGER * scratch.collect.transitions)
                untaught = replace(experiment, teach={})
                longer = Scratch(untaught, scratch.mdps[1:2], much, 60, runs / f"{name}-longer-{seed}")
                found.append(Unit(f"{unit}/longer", longer.config, functools.partial(from_scratch, longer)))
    return found


# ---------------------------------------------------------------------- tiMe and what stands beside it


def zero_shot(experiment: Experiment, directory: Path) -> list[Row]:
    """A whole pipeline: its student, told the MDP and not, and single learners, on the family's test MDPs."""
    with working_run(experiment, directory, tuple(experiment.teach), (STUDENT,)) as run:
        return tested(run, (STUDENT,))


def tested(run: pipeline.Run, students: Sequence[str]) -> list[Row]:
    """The run's students of these variants, its learners, and what has learned nothing, on the family's test MDPs."""
    experiment = run.experiment
    family, seed, episodes = get_family(experiment.family), experiment.seed, experiment.episodes
    mdps = family.test_mdps()
    rows = []
    for (method, variant), agent in agents(run, students, mdps).items():
        result = evaluate(family, mdps, agent, episodes, seed)
        context = "episode" if method == "tiMe" else "none"
        rows += rows_of(family, mdps, result, method=method, variant=variant, split="test", seed=seed, context=context)
    return rows


def agents(run: pipeline.Run, students: Sequence[str], mdps: Sequence[Parameters]) -> dict[tuple[str, str], Agent]:
    """What `tested` tests, by (method, variant); nothing else that is in the run's directory."""
    family, episodes = get_family(run.experiment.family), run.experiment.episodes
    slots = [mdp for mdp in mdps for _ in range(episodes)]
    found = {
        (method, variant): agent
        for (method, variant), agent in learned_agents(run, family, mdps, episodes).items()
        if method.startswith(NEAREST) or (method == "tiMe" and variant in students)
    }
    student, config = load_student(run.directory / "students" / STUDENT)
    found["oracle", ""] = oracle_agent(student, config.context, family, family.train_mdps(), slots)
    found["standing still", ""] = FixedAgent(family.action_dim, uniform=False)
    found["uniform actions", ""] = FixedAgent(family.action_dim, uniform=True)
    return found


def pooled_baselines(experiment: Experiment, directory: Path, configurations: Mapping[str, Configuration]) -> list[Row]:
    """What learns from all of the pipeline's batches, on the family's test MDPs."""
    mdps, found = get_family(experiment.family).test_mdps(), list[Row]()
    with working_run(experiment, directory, ("paper",)) as run:
        for method, config in configurations.items():
            found += baseline_rows(run, method, config, "test", mdps, experiment.episodes)
    return found


# ---------------------------------------------------------------------- the page

CLAIM = """# Figure 3: zero-shot control of robots

**The paper's claim.** One policy, learned from the logs of other velocities alone, earns at a velocity that it never
saw, from the first step on, about what SAC earns after it was trained from scratch at that velocity; SAC would hardly
improve with more interactions.

**What was done.** Every seed is a whole pipeline: SAC logs its replay buffer in each train MDP, a batch-RL learner is
taught for each, tiMe distils them. SAC from scratch has the paper's sizes (2 x 256, batches of 256) and is tested
with its mean action; its curves are raw. Returns are means of {episodes} episodes, with the same starts for every
method.

The TD3+BC that tiMe distils sees the best episodes of all buffers, paid by a learned model of the rewards as its own
MDP would pay: HalfCheetah's beside its own buffer, as many transitions again; Hopper's instead of it, as many as hold
30 % of it. TD3+BC on own data sees the buffer of that MDP alone, or Hopper's the best 30 % of it.

- `oracle`: tiMe's student with the posterior set to the train velocities around v*, instead of inferred.
- `nearest teacher`: the learner of the nearest train velocity; TD3+BC is what tiMe distils, BCQ is the paper's.
- `pooled`: one learner of all batches as if they were one MDP's; `behaviour cloning`: the same with squared error to
  the logged actions; `tiMe (paper)`: BCQ, and the paper's contexts (one random transition of the same batch) and f (a
  mean). At `laptop` each has the best of eight [configurations](../baselines/README.md), which were tried with seed 0
  in the validation MDPs; they are listed below.
- `on own data`: has learned, as phase 1 does, from the buffer of the SAC run at v* itself.
"""


def page(rows: list[Row], out: Path) -> str:
    """Draw figure 3; the tables of returns and the verdicts."""
    parts = [CLAIM.format(episodes=max((row["episodes"] for row in rows if "episodes" in row), default=0))]
    tests = [row for row in rows if "/longer" not in row["unit"]]
    plot_figure3(tests, out / "figure3.png")
    parts.append("![SAC from scratch over its interactions, beside tiMe zero-shot](figure3.png)\n")
    for name in dict.fromkeys(row["family"] for row in tests):
        here = sorted((row for row in tests if row["family"] == name), key=lambda row: "configuration" in row)
        if points := end_points(here):
            shown = [{"panel": mdp_name(p["mdp"]), "condition": p["method"], "value": p["return"], **p} for p in points]
            plot_conditions(shown, out / f"{name}.png", "return", method_colour)
            parts += [f"## {name}", "", f"![Every method, every seed]({name}.png)", "", *returns(name, points), ""]
            parts += [*_verdict(points), *_configurations(here)]
    if longer := [row for row in rows if "/longer" in row["unit"] and "interactions" in row]:
        known = [row for row in tests if row.get("variant") == "default" and row["mdp"] in [x["mdp"] for x in longer]]
        plot_figure3([*longer, *known], out / "longer.png")
        parts += ["## Would SAC have gone on improving?", "", "![A longer run of SAC](longer.png)", ""]
        parts += [_longer(longer), ""]
    return "\n".join(parts)


def end_points(rows: Sequence[Row]) -> list[Row]:
    """One row a method, MDP and seed: its mean return and episode length; SAC's at the end of its curve.

    What has no return, since no episode was valid, has no row.
    """
    found = []
    for row, method in zip(rows, method_names([{"variant": "", **row} for row in rows]), strict=True):
        value, length, interactions = row["return_mean"], row["length_mean"], row.get("interactions")
        if interactions:
            value, length, interactions = value[-1], length[-1], interactions[-1]
        if value is not None:
            known = {"method": method, "mdp": row["mdp"], "seed": row["seed"]}
            found.append({**known, "return": value, "length": length, "interactions": interactions})
    return found


def by_seed(points: Sequence[Row], method: str, mdp: Parameters, what: str = "return") -> dict[int, float]:
    """A method's value in an MDP, by seed."""
    return {row["seed"]: row[what] for row in points if (row["method"], row["mdp"]) == (method, mdp)}


def _mdps(points: Sequence[Row]) -> list[Parameters]:
    return [dict(mdp) for mdp in sorted({tuple(row["mdp"].items()) for row in points})]


def returns(name: str, points: Sequence[Row]) -> list[str]:
    """Interquartile means over seeds of return, and of episode length where episodes can end early."""
    mdps = _mdps(points)
    falls = any(row["length"] < get_family(name).horizon for row in points)
    lines = []
    for method in dict.fromkeys(row["method"] for row in points):
        cells = []
        for mdp in mdps:
            returns = list(by_seed(points, method, mdp).values())
            text = number(float(iqm(returns)), 4) if returns else ""
            if falls and returns:
                text += f" ({iqm(list(by_seed(points, method, mdp, 'length').values())):.0f})"
            cells.append(text)
        seeds = sorted({row["seed"] for row in points if row["method"] == method})
        lines.append([method, ", ".join(map(str, seeds)), *cells])
    lengths = ", and of the episode's length in brackets" if falls else ""
    told = f"Interquartile means over seeds of the return{lengths}."
    return [told, "", table(("method", "seeds", *map(mdp_name, mdps)), lines)]


def _verdict(points: Sequence[Row]) -> list[str]:
    """tiMe against SAC from scratch at each velocity, and against the baselines."""
    told = (
        "tiMe against SAC from scratch after as many interactions as were logged in each train MDP. R is the return, "
        "R_ref that of standing still or of uniform actions, whichever is better. The verdict is of the interval: at "
        "least as good, if it lies above 0; on par, if above what is allowed; below, if beneath that; else undecided. "
        "Such intervals are too narrow: of five normal samples 91 % hold the truth, of three, where they are the "
        "range, 75 %. "
        "A seed in which a baseline diverged or has no valid episode is left out of that baseline."
    )
    head = (
        "MDP",
        "interactions",
        "seeds",
        "tiMe - SAC: IQM [95 % bootstrap]",
        "allowed, -10 % of SAC - R_ref",
        "(tiMe - R_ref) / (SAC - R_ref)",
        "above pooled, cloning and R_ref",
        "tiMe - best nearest teacher",
        "verdict",
    )
    lines = []
    for mdp in _mdps(points):
        time, sac = by_seed(points, "tiMe", mdp), by_seed(points, "SAC from scratch", mdp)
        seeds = sorted(time.keys() & sac.keys())
        if not seeds:
            continue
        reference, pooled, nearest = (_best(points, kind, mdp, seeds) for kind in (REFERENCES, POOLED, NEAREST))
        if reference is None:
            continue
        d = [time[s] - sac[s] for s in seeds]
        low, high = bootstrap_interval(d)
        mine, its = float(iqm([time[s] for s in seeds])), float(iqm([sac[s] for s in seeds]))
        allowed = -0.1 * (its - reference)
        interactions = max(int(x) for x in by_seed(points, "SAC from scratch", mdp, "interactions").values())
        if low >= allowed:
            verdict = "at least as good" if low >= 0 else "on par"
        else:
            verdict = "below" if high < allowed else "undecided"
        cells = [
            mdp_name(mdp),
            f"{interactions:,}",
            str(len(seeds)),
            f"{number(float(iqm(d)))} [{number(low)}, {number(high)}]",
            number(allowed),
            f"{(mine - reference) / (its - reference):.2f}",
            "" if pooled is None else "yes" if mine > max(reference, pooled) else "no",
            "" if nearest is None else number(mine - nearest),
            verdict if len(seeds) >= FEW else "too few seeds",
        ]
        lines.append(cells)
    return [told, "", table(head, lines), ""] if lines else []


def _best(points: Sequence[Row], kind: tuple[str, ...], mdp: Parameters, seeds: Sequence[int]) -> float | None:
    """The highest return of a kind of methods, each over such of the seeds as it has, unless there is none."""
    methods = dict.fromkeys(row["method"] for row in points if row["method"].startswith(kind))
    found = (by_seed(points, method, mdp) for method in methods)
    known = ([returns[seed] for seed in seeds if seed in returns] for returns in found)
    return max((float(iqm(returns)) for returns in known if returns), default=None)


def _configurations(rows: Sequence[Row]) -> list[str]:
    """Each baseline's configuration."""
    chosen = {row["method"]: row["configuration"] for row in rows if "configuration" in row}
    told = {method: ", ".join(f"{name} {x}" for name, x in its.items()) for method, its in chosen.items()}
    return [*(f"- `{method}`: {text}" for method, text in told.items()), ""] if told else []


def _longer(rows: Sequence[Row]) -> str:
    """What SAC has after its usual number of interactions, and at the end of the longer run."""
    lines = []
    for row in rows:
        steps = np.array(row["interactions"])
        early = row["return_mean"][int(np.argmin(abs(steps - steps[-1] / LONGER)))]
        returns = number(early), number(row["return_mean"][-1])
        lines.append([row["family"], mdp_name(row["mdp"]), str(row["seed"]), *returns, f"{steps[-1]:,}"])
    return table(("family", "MDP", "seed", "after a fifth", "at the end", "interactions"), lines)


STUDY = Study(units, page)
