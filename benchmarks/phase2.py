"""Phase 2 against K: what a step costs, from 4 train MDPs to 4096."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks import Rows, Target
from benchmarks.data import POINT_GOAL, random_replay
from benchmarks.fit import slope
from benchmarks.laps import Stage, steps_a_second
from bmrl import parallel
from bmrl.batch_rl.base import Targets
from bmrl.batch_rl.replay import Replay
from bmrl.distill.distill import DistillConfig, distill
from bmrl.experiments import get_experiment
from bmrl.figures.style import BLUE, ORANGE, panels
from bmrl.reproduce.markdown import table
from bmrl.runs.metrics import Metrics

TRANSITIONS = 200  # of each MDP
COLOURS = {"default": BLUE, "paper": ORANGE}


def configuration(variant: str) -> DistillConfig:
    """Point-goal's, with the queries of MDP j from its own batch: on every batch, targets alone would be K^2."""
    config = get_experiment("point-goal", "laptop", 0).distill[variant]
    model = replace(config.reward_model, updates=10)
    return replace(config, updates=10_000, queries_everywhere=False, reward_model=model)


def distilling(replay: Replay, config: DistillConfig) -> Stage:
    """Phase 2 of random values."""
    values = np.random.default_rng(0).standard_normal((len(replay), TRANSITIONS), np.float32)

    def stage(place: Path, metrics: Metrics) -> None:
        distill(replay, Targets(values), 0.0, config, 0, place / "checkpoints", metrics, "distill", 1e9)

    return stage


def measure(place: Path, short: bool) -> Rows:
    """A row for each variant and K."""
    del place
    parallel.set_up_jax()
    rows: Rows = []
    for learners in (4, 64) if short else (4, 16, 64, 256, 1024, 4096):
        replay = random_replay(learners, TRANSITIONS, POINT_GOAL, 20)
        for variant in COLOURS:
            rates = steps_a_second(distilling(replay, configuration(variant)), "distill", 3 if short else 20)
            rows.append({"variant": variant, "K": learners, "seconds_a_step": 1 / max(rates)})
            print(rows[-1], flush=True)
    return rows


def section(rows: Rows) -> str:
    """See `Benchmark`."""
    lines = [
        "## Phase 2 against K",
        "",
        "Seconds a step of phase 2 with point-goal's students (a value alone) and minibatches of laptop size, reading "
        "and logging counted, as a multiple of those at the smallest K. Only the queries are not those of point-goal's "
        "default, which asks every learner about every batch: that is for few MDPs, since it has K^2 sets of targets. "
        "The default's f has an output for each train MDP, so that "
        "its last layer grows with K; the paper's has none. Either reads as many different batches in a step as it has "
        "contexts, where there are so many. What the learners say of a transition is computed once, before the first "
        "step, and read as the transitions are: here it lies in memory.",
        "",
    ]
    found = {(row["variant"], row["K"]): row["seconds_a_step"] for row in rows}
    counts = list(dict.fromkeys(row["K"] for row in rows))
    cells = []
    for k in counts:
        pairs = [(f"{found[v, k] * 1e3:.2f}", f"{found[v, k] / found[v, counts[0]]:.2f}") for v in COLOURS]
        cells.append((f"{k:,}", *pairs[0], *pairs[1]))
    lines.append(table(("K", "default: ms a step", "multiple", "paper: ms a step", "multiple"), cells))
    told = ", ".join(f"{variant} {x:.2f}" for variant, x in _slopes(rows).items())
    return "\n".join([*lines, "", f"Slope of the logarithms (0: independent of K, 1: proportional): {told}."])


def _slopes(rows: Rows) -> dict[str, float]:
    """Of each variant's seconds a step against K."""
    own = {variant: [row for row in rows if row["variant"] == variant] for variant in COLOURS}
    return {v: slope([row["K"] for row in found], [row["seconds_a_step"] for row in found]) for v, found in own.items()}


def targets(rows: Rows) -> list[Target]:
    """See `Benchmark`."""
    slopes = _slopes(rows)
    told = ", ".join(f"{variant} {x:.2f}" for variant, x in slopes.items())
    return [Target("phase 2: slope of a step's cost against K", "0 (to .05)", told, max(slopes.values()) <= 0.05)]


def draw(rows: Rows) -> Figure:
    """See `Benchmark`."""
    figure, (axes,) = panels(1, (6.0, 3.6))
    for variant, colour in COLOURS.items():
        own = [row for row in rows if row["variant"] == variant]
        multiples = [row["seconds_a_step"] / own[0]["seconds_a_step"] for row in own]
        axes.plot([row["K"] for row in own], multiples, "o-", color=colour, label=variant)
    axes.set(
        xscale="log", yscale="log", xlabel="K train MDPs", ylabel="smallest K = 1", title="Cost of a step of phase 2"
    )
    axes.legend()
    return figure
