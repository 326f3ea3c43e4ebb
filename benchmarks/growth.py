"""How time and memory grow with the number of MDPs, and with the transitions of each.

    python -m benchmarks.growth K UPDATES BATCHES

is one measurement, in a process of its own: phase 1 with point-goal's learners, statistics and first programs included,
on batches that another process has made.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks import Rows, Target
from benchmarks.data import POINT_GOAL, random_replay
from benchmarks.fit import slope
from bmrl import parallel
from bmrl.batch_rl.replay import stack
from bmrl.batch_rl.teach import TeachConfig, teach
from bmrl.data import read_batches, write_batch
from bmrl.experiments import get_experiment
from bmrl.figures.style import BLUE, ORANGE, panels
from bmrl.reproduce.markdown import table
from bmrl.runs.metrics import Metrics
from torture.memory import anonymous_memory

MDPS, PER_MDP = (4, 16, 64, 256, 1024, 4096), 500
FEW, TRANSITIONS = 4, (1_000, 10_000, 100_000, 1_000_000)
UPDATES = 50
TOGETHER = 512  # learners at a time, as `--group` has them
QUANTITIES = {"open_seconds": "opening", "seconds": "phase 1", "mib": "memory"}


def measure(place: Path, short: bool) -> Rows:
    """A row for each K, and one for each number of transitions."""
    rows: Rows = []
    sweeps = [("K", k, k, PER_MDP) for k in MDPS[: 2 if short else None]]
    sweeps += [("transitions", n, FEW, n) for n in TRANSITIONS[: 2 if short else None]]
    for against, x, learners, transitions in sweeps:
        make(learners, transitions, place / "batches")
        words = [learners, UPDATES, place / "batches"]
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.growth", *map(str, words)], check=True, stdout=subprocess.PIPE, text=True
        )
        rows.append({"against": against, "x": x, **json.loads(done.stdout.splitlines()[-1])})
        print(rows[-1], flush=True)
    shutil.rmtree(place / "batches")
    return rows


def make(learners: int, transitions: int, batches: Path) -> None:
    """Batches of random numbers."""
    shutil.rmtree(batches, ignore_errors=True)
    for k, log in enumerate(random_replay(learners, transitions, POINT_GOAL, 20).logs):
        rows = log.take(np.arange(log.size))
        ends = np.arange(log.size) % 20 == 19
        write_batch(
            batches / f"mdp-{k:03d}",
            observations=log.observations,  # type: ignore[attr-defined]
            actions=rows.actions,
            rewards=rows.rewards,
            terminations=rows.terminations,
            truncations=ends,
            provenance={"collector": "random numbers"},
        )


def one(learners: int, updates: int, batches: Path) -> dict[str, float]:
    """Seconds to open the batches, and to train on them; the largest memory beyond what the process began with."""
    parallel.set_up_jax()
    config = TeachConfig(get_experiment("point-goal", "laptop", 0).teach["default"].algorithm, updates)
    with anonymous_memory() as largest, tempfile.TemporaryDirectory() as name:
        time.sleep(0.3)
        before, began = largest[0], time.perf_counter()
        replay = stack(read_batches(batches))
        opened = time.perf_counter()
        metrics = Metrics(Path(name) / "metrics.csv")
        for first in range(0, learners, TOGETHER):
            some = replay.of(range(first, min(first + TOGETHER, learners)))
            teach(some, config, 0, Path(name) / f"checkpoints-{first}", metrics, "teach", 1e9, first=first)
        ended = time.perf_counter()
    return {"open_seconds": opened - began, "seconds": ended - opened, "mib": largest[0] - before}


def section(rows: Rows) -> str:
    """See `Benchmark`."""
    lines = [
        "## Growth",
        "",
        f"Phase 1 of point-goal's learners (laptop size), {UPDATES} updates each, from batches of random numbers on "
        f"the disk, in a process of its own: {PER_MDP} transitions an MDP against K, {FEW} MDPs against transitions. "
        "Opening a batch reads it and checks it; phase 1 includes its compilation and the statistics of the data; "
        f"memory is what the process allocates (RssAnon) beyond what it held before. At most {TOGETHER} learners are "
        "on the devices at a time, one such group after the other. The slope is fitted to the logarithms of the last "
        "three points, where constant parts weigh least: 1 is proportional.",
    ]
    for against in ("K", "transitions"):
        own = [row for row in rows if row["against"] == against]
        cells = [(f"{r['x']:,}", f"{r['open_seconds']:.2f}", f"{r['seconds']:.1f}", f"{r['mib']:,.0f}") for r in own]
        slopes = ("slope", *(f"{x:.2f}" for x in _slopes(rows, against).values()))
        lines += ["", table((against, "opening, s", "phase 1, s", "memory, MiB"), [*cells, slopes])]
    return "\n".join(lines)


def _slopes(rows: Rows, against: str) -> dict[str, float]:
    """How each quantity grows, from the last three points."""
    last = [row for row in rows if row["against"] == against][-3:]
    return {q: slope([r["x"] for r in last], [r[q] for r in last]) for q in QUANTITIES}


def targets(rows: Rows) -> list[Target]:
    """See `Benchmark`."""
    found = []
    for against in ("K", "transitions"):
        slopes = _slopes(rows, against)
        told = ", ".join(f"{what} {slopes[q]:.2f}" for q, what in QUANTITIES.items())
        found.append(Target(f"growth with {against}", "nothing above 1.05", told, max(slopes.values()) <= 1.05))
    return found


def draw(rows: Rows) -> Figure:
    """See `Benchmark`."""
    figure, grid = panels(2, (5.0, 3.6))
    for axes, (against, label) in zip(grid, {"K": "K MDPs", "transitions": "transitions an MDP"}.items(), strict=True):
        own = [row for row in rows if row["against"] == against]
        x = [row["x"] for row in own]
        for name, colour, line in (("seconds", BLUE, "-"), ("open_seconds", BLUE, ":"), ("mib", ORANGE, "-")):
            last = own[-1][name]
            axes.plot(x, [r[name] / last for r in own], "o" + line, color=colour, label=QUANTITIES[name])
        axes.plot(x, [value / x[-1] for value in x], color="0.6", linestyle="--", label="proportional")
        axes.set(xscale="log", yscale="log", xlabel=label, ylabel="largest = 1")
    grid[0].legend()
    return figure


if __name__ == "__main__":
    print(json.dumps(one(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))))
