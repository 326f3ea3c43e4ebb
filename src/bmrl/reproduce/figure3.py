"""Figure 3: zero-shot tiMe beside SAC from scratch, in robots that are asked for velocities unseen in training."""

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bmrl import pipeline
from bmrl.batch_rl import Cloning
from bmrl.batch_rl.teach import TeachConfig
from bmrl.config import to_json
from bmrl.evaluate.agents import Agent, FixedAgent
from bmrl.evaluate.evaluate import evaluate, learner_agent, oracle_agent, rows_of
from bmrl.experiments import get_experiment
from bmrl.experiments.experiment import Experiment, Scale
from bmrl.families import get_family
from bmrl.families.base import Parameters
from bmrl.figures.conditions import plot_conditions
from bmrl.figures.scratch import plot_figure3
from bmrl.figures.style import mdp_name, method_colour, method_names, number
from bmrl.learned import load_learners, load_student
from bmrl.report import learned_agents
from bmrl.reproduce.runs import run_directory, working_run
from bmrl.reproduce.scratch import Scratch, from_scratch, scratch_of
from bmrl.reproduce.study import Row, Study, Unit
from bmrl.runs.storage import is_committed
from bmrl.statistics import FEW, bootstrap_interval, iqm

FAMILIES = ("halfcheetah-velocity", "hopper-velocity")
REFERENCES, BASELINES, NEAREST = ("standing still", "uniform actions"), ("pooled", "behaviour cloning"), ("nearest",)
LONGER = 5  # times the interactions, for the run that tests whether SAC would still improve


def units(scale: Scale, seeds: Sequence[int], runs: Path) -> list[Unit]:
    """For every seed and family: SAC from scratch, and a whole pipeline; one longer SAC run of HalfCheetah, seed 0."""
    found = []
    for seed in seeds:
        for name in FAMILIES:
            experiment, scratch = get_experiment(name, scale, seed), scratch_of(name, scale, seed, runs)
            unit = f"{name}/seed-{seed}"
            found.append(Unit(f"{unit}/scratch", scratch.config, functools.partial(from_scratch, scratch)))
            work = functools.partial(zero_shot, experiment, run_directory(name, seed, runs))
            found.append(Unit(f"{unit}/tiMe", to_json(experiment), work))
            if seed == 0 and name == FAMILIES[0]:
                much = replace(scratch.collect, transitions=LONGER * scratch.collect.transitions)
                untaught = replace(experiment, teach={})
                longer = Scratch(untaught, scratch.mdps[1:2], much, 60, runs / f"{name}-longer-{seed}")
                found.append(Unit(f"{unit}/longer", longer.config, functools.partial(from_scratch, longer)))
    return found


# ---------------------------------------------------------------------- tiMe and what stands beside it


def zero_shot(experiment: Experiment, directory: Path) -> list[Row]:
    """A whole pipeline, and its students and baselines on the family's test MDPs."""
    with working_run(experiment, directory, tuple(experiment.teach), tuple(experiment.distill)) as run:
        for name in experiment.teach:
            pipeline.pooled_stage(run, name, resume=True)
        clone(run)
        return tested(run)


def tested(run: pipeline.Run) -> list[Row]:
    """Every policy of the figure that the run has, on the family's test MDPs."""
    experiment = run.experiment
    family, seed, episodes = get_family(experiment.family), experiment.seed, experiment.episodes
    mdps = family.test_mdps()
    rows = []
    for (method, variant), agent in agents(run, mdps).items():
        result = evaluate(family, mdps, agent, episodes, seed)
        context = "episode" if method == "tiMe" else "none"
        rows += rows_of(family, mdps, result, method=method, variant=variant, split="test", seed=seed, context=context)
    return rows


def clone(run: pipeline.Run) -> None:
    """Behaviour cloning of what the pooled baseline learns from, with as many updates."""
    path, sources = run.directory / "cloning", pipeline.pooled_sources(run, "default")
    pipeline.learn(run, "cloning", path, _cloning(run), sources, lambda: pipeline.pooled_replay(run, "default"))


def _cloning(run: pipeline.Run) -> TeachConfig:
    return replace(run.experiment.teach["default"], algorithm=Cloning(), logs="own")


def agents(run: pipeline.Run, mdps: Sequence[Parameters]) -> dict[tuple[str, str], Agent]:
    """Every policy of the figure that the run has, by (method, variant)."""
    family, episodes = get_family(run.experiment.family), run.experiment.episodes
    found = learned_agents(run, family, mdps, episodes)
    slots = [mdp for mdp in mdps for _ in range(episodes)]
    student, config = load_student(run.directory / "students" / "default")
    found["oracle", ""] = oracle_agent(student, config.context, family, family.train_mdps(), slots)
    if is_committed(run.directory / "cloning"):
        algorithm, states, _ = load_learners(run.directory / "cloning", _cloning(run))
        found["behaviour cloning", ""] = learner_agent(algorithm, states, np.zeros(len(mdps), int), episodes)
    found["standing still", ""] = FixedAgent(family.action_dim, uniform=False)
    found["uniform actions", ""] = FixedAgent(family.action_dim, uniform=True)
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
30 % of it. Pooled TD3+BC and behaviour cloning see the buffers as logged, Hopper's the best 30 % of each, and TD3+BC on
own data the buffer of that MDP alone, or the best 30 % of it.

- `oracle`: tiMe's student with the posterior set to the train velocities around v*, instead of inferred.
- `nearest teacher`: the learner of the nearest train velocity; TD3+BC is what tiMe distils, BCQ is the paper's.
- `pooled`: one learner of all batches, with as many updates as each of the learners that tiMe distils (at `laptop` 1.5
  passes over HalfCheetah's data for TD3+BC and .7 for BCQ, 3.6 and .5 over Hopper's); `behaviour cloning`: the same
  with squared error to the logged actions.
- `on own data`: has learned, as phase 1 does, from the buffer of the SAC run at v* itself.
- `tiMe (paper)`: BCQ, and the paper's contexts (one random transition of the same batch), f (a mean) and optimiser,
  with networks of `laptop`'s size.
"""


def page(rows: list[Row], out: Path) -> str:
    """Draw figure 3; the tables of returns and the verdicts."""
    parts = [CLAIM.format(episodes=max((row["episodes"] for row in rows if "episodes" in row), default=0))]
    tests = [row for row in rows if "/longer" not in row["unit"]]
    plot_figure3(tests, out / "figure3.png")
    parts.append("![SAC from scratch over its interactions, beside tiMe zero-shot](figure3.png)\n")
    for name in dict.fromkeys(row["family"] for row in tests):
        here = [row for row in tests if row["family"] == name]
        if points := end_points(here):
            shown = [{"panel": mdp_name(p["mdp"]), "condition": p["method"], "value": p["return"], **p} for p in points]
            plot_conditions(shown, out / f"{name}.png", "return", method_colour)
            parts += [f"## {name}", "", f"![Every method, every seed]({name}.png)", "", *table(name, points), ""]
            parts += _verdict(points)
    if longer := [row for row in rows if "/longer" in row["unit"] and "interactions" in row]:
        known = [row for row in tests if row.get("variant") == "default" and row["mdp"] in [x["mdp"] for x in longer]]
        plot_figure3([*longer, *known], out / "longer.png")
        parts += ["## Would SAC have gone on improving?", "", "![A longer run of SAC](longer.png)", ""]
        parts += [*_longer(longer), ""]
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


def table(name: str, points: Sequence[Row]) -> list[str]:
    """Interquartile means over seeds of return, and of episode length where episodes can end early."""
    mdps = _mdps(points)
    falls = any(row["length"] < get_family(name).horizon for row in points)
    lines = [
        "Interquartile means over seeds of the return"
        + (", and of the episode's length in brackets." if falls else ".")
    ]
    lines += ["", "| method | seeds | " + " | ".join(map(mdp_name, mdps)) + " |", "|---" * (2 + len(mdps)) + "|"]
    for method in dict.fromkeys(row["method"] for row in points):
        cells = []
        for mdp in mdps:
            returns = list(by_seed(points, method, mdp).values())
            text = number(float(iqm(returns)), 4) if returns else ""
            if falls and returns:
                text += f" ({iqm(list(by_seed(points, method, mdp, 'length').values())):.0f})"
            cells.append(text)
        seeds = sorted({row["seed"] for row in points if row["method"] == method})
        lines.append(f"| {method} | {', '.join(map(str, seeds))} | {' | '.join(cells)} |")
    return lines


def _verdict(points: Sequence[Row]) -> list[str]:
    """tiMe against SAC from scratch at each velocity, and against the baselines."""
    lines = [
        "tiMe against SAC from scratch after as many interactions as were logged in each train MDP. R is the return, "
        "R_ref that of standing still or of uniform actions, whichever is better. The verdict is of the interval: at "
        "least as good, if it lies above 0; on par, if above what is allowed; below, if beneath that; else undecided.",
        "",
        "| MDP | interactions | seeds | tiMe - SAC: IQM [95 % bootstrap] | allowed, -10 % of SAC - R_ref "
        "| (tiMe - R_ref) / (SAC - R_ref) | above pooled, cloning and R_ref | tiMe - best nearest teacher | verdict |",
        "|---" * 9 + "|",
    ]
    others = [
        name for name in dict.fromkeys(p["method"] for p in points) if name.startswith(REFERENCES + BASELINES + NEAREST)
    ]
    for mdp in _mdps(points):
        time, sac = by_seed(points, "tiMe", mdp), by_seed(points, "SAC from scratch", mdp)
        beside = {name: x for name in others if (x := by_seed(points, name, mdp))}
        seeds = sorted(set.intersection(*map(set, (time, sac, *beside.values()))))
        if not seeds:
            continue
        middle = {name: float(iqm([x[seed] for seed in seeds])) for name, x in beside.items()}
        reference, baseline, nearest = (
            max(middle[name] for name in middle if name.startswith(kind)) for kind in (REFERENCES, BASELINES, NEAREST)
        )
        d = [time[s] - sac[s] for s in seeds]
        low, high = bootstrap_interval(d)
        mine, its = float(iqm([time[s] for s in seeds])), float(iqm([sac[s] for s in seeds]))
        allowed = -0.1 * (its - reference)
        above = mine > max(reference, baseline)
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
            "yes" if above else "no",
            number(mine - nearest),
            verdict if len(seeds) >= FEW else "too few seeds",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""] if len(lines) > 4 else []


def _longer(rows: Sequence[Row]) -> list[str]:
    """What SAC has after its usual number of interactions, and at the end of the longer run."""
    lines = ["| family | MDP | seed | after a fifth | at the end | interactions |", "|---" * 6 + "|"]
    for row in rows:
        steps = np.array(row["interactions"])
        early = row["return_mean"][int(np.argmin(abs(steps - steps[-1] / LONGER)))]
        lines.append(
            f"| {row['family']} | {mdp_name(row['mdp'])} | {row['seed']} | {number(early)} "
            f"| {number(row['return_mean'][-1])} | {steps[-1]:,} |"
        )
    return lines


STUDY = Study(units, page)
