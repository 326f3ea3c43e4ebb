"""Collection: simulated steps beside Gymnasium's vector environments, and where the time of a whole collection goes."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import gymnasium
import jax
import numpy as np
from matplotlib.figure import Figure

from benchmarks import Rows, Target
from benchmarks.laps import seconds
from bmrl import parallel
from bmrl.collect import collect
from bmrl.collect import sac as collecting
from bmrl.experiments import get_experiment
from bmrl.families import get_family
from bmrl.families.base import Simulator
from bmrl.figures.style import BLUE, GREEN, GREY, ORANGE, SKY, panels
from bmrl.reproduce.markdown import table
from bmrl.runs.metrics import Metrics

FAMILY, ENVIRONMENT = "halfcheetah-velocity", "HalfCheetah-v5"
PARTS = {"physics": ORANGE, "acting": SKY, "learning": BLUE, "rest": GREY}


def measure(place: Path, short: bool) -> Rows:
    """A row for each number of MDPs that are stepped, and one for the collection."""
    del place
    parallel.set_up_jax()
    rows: Rows = []
    for n in (8,) if short else (8, 29):
        rows.append({"n": n, **stepping(n, rounds=2 if short else 8, steps=400)})
        print(rows[-1], flush=True)
    rows.append(split(4 if short else 29, 1500 if short else 5000))
    print(rows[-1], flush=True)
    return rows


def stepping(n: int, rounds: int, steps: int) -> dict[str, float]:
    """Steps a second of n robots under random actions, by turns: the same model, actions and control steps."""
    family = get_family(FAMILY)
    mdps = [family.train_mdps()[k % len(family.train)] for k in range(n)]
    simulator = family.simulator(mdps, 0, parallel.cores())
    actions = np.random.default_rng(0).uniform(-1, 1, (steps, n, family.action_dim)).astype(np.float32)
    makers = [lambda: gymnasium.make(ENVIRONMENT)] * n
    sync, asynchronous = gymnasium.vector.SyncVectorEnv(makers), gymnasium.vector.AsyncVectorEnv(makers)
    sides: dict[str, tuple[Callable[[], Any], Callable[[np.ndarray], Any]]] = {
        "bmrl": (simulator.reset, simulator.step),
        "sync": (lambda: sync.reset(seed=0), sync.step),
        "async": (lambda: asynchronous.reset(seed=0), asynchronous.step),
    }
    best = dict.fromkeys(sides, 0.0)
    for _ in range(rounds):
        for name, (reset, step) in sides.items():
            reset()
            best[name] = max(best[name], n * steps / seconds(lambda step=step: [step(a) for a in actions]))  # type: ignore[misc]
    sync.close()
    asynchronous.close()
    return best


def split(learners: int, transitions: int) -> dict[str, Any]:
    """Seconds of a collection by part, without compilation; each part is waited for where it is called."""
    experiment = get_experiment(FAMILY, "laptop", 0)
    family, config = get_family(FAMILY), replace(experiment.collect, transitions=transitions)
    spent: dict[str, list[float]] = {name: [] for name in PARTS}
    explore, keep, train = collecting._programs(config)

    def timed(part: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            began = time.perf_counter()
            result = jax.block_until_ready(work(*args))
            spent[part].append(time.perf_counter() - began)
            return result

        return call

    class Counted:
        """The simulator with a clock on its steps."""

        def __init__(self, simulator: Simulator):
            self._simulator = simulator
            self.step = timed("physics", simulator.step)
            self.reset = timed("physics", simulator.reset)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._simulator, name)

    def run(count: int) -> float:
        with tempfile.TemporaryDirectory() as name:
            place, mdps = Path(name), family.train_mdps()[:learners]
            metrics, few = Metrics(place / "metrics.csv"), replace(config, transitions=count)
            return seconds(lambda: collect(family, mdps, few, 0, place / "batches", place / "kept", metrics, 1e9))

    simulator = type(family).simulator
    programs = (timed("acting", explore), timed("learning", keep), timed("learning", train))
    with (
        patch.object(collecting, "_programs", lambda _: programs),
        patch.object(type(family), "simulator", lambda *args, **rest: Counted(simulator(*args, **rest))),
    ):
        # The programs know the size of the buffer: all of it is collected once to compile them.
        run(transitions)
        for parts in spent.values():
            parts.clear()
        whole = run(transitions)
    sums = {part: sum(times) for part, times in spent.items() if part != "rest"}
    return {
        "learners": learners,
        "transitions": transitions,
        **sums,
        "rest": whole - sum(sums.values()),
        "whole": whole,
    }


def section(rows: Rows) -> str:
    """See `Benchmark`."""
    *stepped, whole = rows
    lines = [
        "## Collection",
        "",
        "Control steps a second of n HalfCheetahs, random actions, beside Gymnasium's vector environments of "
        f"{ENVIRONMENT} (the same model, five simulation steps each). bmrl has a thread a core, sync has one, async a "
        "process a robot:",
        "",
    ]
    cells = []
    for row in stepped:
        own, sync, asynchronous = row["bmrl"], row["sync"], row["async"]
        speeds = (f"{x:,.0f}" for x in (own, sync, asynchronous))
        cells.append((str(row["n"]), *speeds, f"**{own / sync:.2f}x**", f"**{own / asynchronous:.2f}x**"))
    lines.append(table(("n", "bmrl", "sync", "async", "beside sync", "beside async"), cells))
    shares = ", ".join(f"{part} {whole[part] / whole['whole']:.0%}" for part in PARTS)
    return "\n".join(
        [
            *lines,
            "",
            f"A whole collection ({whole['learners']} MDPs, {whole['transitions']:,} transitions each, SAC of laptop "
            f"size, programs compiled before): {whole['whole']:.0f} s, of which {shares}.",
        ]
    )


def targets(rows: Rows) -> list[Target]:
    """See `Benchmark`."""
    *stepped, whole = rows
    found = []
    for side, wanted in (("sync", 2.0), ("async", 1.3)):
        times = [row["bmrl"] / row[side] for row in stepped]
        told = ", ".join(f"{x:.2f}x" for x in times)
        numbers = " and ".join(str(row["n"]) for row in stepped)
        what = f"steps of {numbers} robots beside Gymnasium's {side} environment"
        found.append(Target(what, f"{wanted:g}x", told, min(times) >= wanted))
    rest = whole["rest"] / whole["whole"]
    return [*found, Target("collection: neither physics, acting nor learning", "under 10 %", f"{rest:.0%}", rest < 0.1)]


def draw(rows: Rows) -> Figure:
    """See `Benchmark`."""
    *stepped, whole = rows
    figure, (left, right) = panels(2, (5.0, 3.2))
    for k, (side, colour) in enumerate({"sync": GREY, "async": GREEN, "bmrl": BLUE}.items()):
        heights = [row[side] / row["sync"] for row in stepped]
        left.bar(np.arange(len(stepped)) + 0.27 * (k - 1), heights, 0.25, color=colour, label=side)
    left.set_xticks(range(len(stepped)), [f"{row['n']} robots" for row in stepped])
    left.set(ylabel="sync = 1", title="Steps a second")
    left.legend()
    start = 0.0
    for part, colour in PARTS.items():
        share = whole[part] / whole["whole"]
        right.barh([0], [share], left=start, color=colour, label=part)
        start += share
    right.set(xlim=(0, 1), xlabel="share of the time", title="A whole collection")
    right.set_yticks([])
    right.legend(ncols=2, loc="upper center")
    return figure
