"""Phase 1 beside the machine's limit: what share of its best matrix product BCQ's and SAC's updates reach."""

import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from benchmarks import Rows, Target
from benchmarks.data import HALFCHEETAH, random_replay
from benchmarks.flops import update_flops
from benchmarks.laps import Stage, steps_a_second
from benchmarks.limit import SIZES, Limit
from bmrl import parallel
from bmrl.batch_rl import BCQ, SAC
from bmrl.batch_rl.replay import Replay, minibatches
from bmrl.batch_rl.teach import TeachConfig, teach, teacher_template
from bmrl.experiments.velocity import LAPTOP_BCQ, LAPTOP_SAC
from bmrl.figures.style import BLUE, GREEN, ORANGE, RED, panels
from bmrl.reproduce.markdown import table
from bmrl.runs.metrics import Metrics

LEARNERS: dict[str, BCQ | SAC] = {
    "BCQ laptop": LAPTOP_BCQ,
    "SAC laptop": LAPTOP_SAC,
    "BCQ paper": BCQ(),
    "SAC paper": SAC(),
}
COLOURS = dict(zip(LEARNERS, (BLUE, GREEN, ORANGE, RED), strict=True))
UPDATES = 10_000  # planned, so that it logs at every 25th: the laps are that long, and few are made
WAYS: dict[str, int | None] = {"one by one": 1, "two at once": 2, "four at once": 4, "all at once": None}


def teaching(replay: Replay, algorithm: Any, updates: int = UPDATES) -> Stage:
    """Phase 1 as the command has it: minibatches read, losses checked and logged."""
    config = TeachConfig(algorithm, updates)

    def stage(place: Path, metrics: Metrics) -> None:
        teach(replay, config, 0, place / "checkpoints", metrics, "teach", 1e9)

    return stage


def measure(place: Path, short: bool) -> Rows:
    """A row for each learner and K, and one for each way of mapping an update over learners."""
    del place
    parallel.set_up_jax()
    limit = Limit(SIZES[:2] if short else SIZES)
    rows: Rows = []
    for name in list(LEARNERS)[: 2 if short else None]:
        algorithm = LEARNERS[name]
        flops = update_flops(algorithm, HALFCHEETAH)
        state = teacher_template(algorithm, HALFCHEETAH, 1)
        size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
        for learners in (1, 8) if short else (1, 8, 29):
            replay = random_replay(learners, 20_000, HALFCHEETAH, 1000)
            rates = steps_a_second(teaching(replay, algorithm), "teach", 2 if short else 6, limit.turn)
            rows.append(
                {
                    "learner": name,
                    "K": learners,
                    "updates_per_second": max(rates) * learners,
                    "flops": flops,
                    "state_bytes": size,
                }
            )
            print(rows[-1], flush=True)
        rows += ways(name, 2 if short else 4)
    best = [(f"{library} {n}", rate) for (library, n), rate in limit.best.items()]
    return [*rows, {"limit": limit.rate, "products": best}]


def ways(name: str, rounds: int) -> Rows:
    """The same updates of 8 learners, mapped over them in several ways that take turns."""
    algorithm, learners, steps = LEARNERS[name], 8, 10
    replay = random_replay(learners, 2000, HALFCHEETAH, 1000)
    index = np.random.default_rng(0).integers(0, 2000, (learners, steps, algorithm.batch_size))
    template = teacher_template(algorithm, HALFCHEETAH, learners)
    keys = np.asarray(parallel.learner_keys(0, "ways", learners))

    def updates(state: Any, batches: Any, key: jax.Array) -> Any:
        def one(i: jax.Array, state: Any) -> Any:
            batch = jax.tree.map(lambda x: x[i], batches)
            return algorithm.update(state, batch, jax.random.fold_in(key, i))[0]

        return jax.lax.fori_loop(0, steps, one, state)

    # Weights of a thousandth: what an update costs does not depend on them, as long as they are no zeros.
    state = jax.tree.map(lambda x: np.full(x.shape, 1e-3, x.dtype), template)
    given = parallel.shard((state, minibatches(replay, index), keys))
    programs = {way: parallel.over_learners(updates, at_once=at_once) for way, at_once in WAYS.items()}
    best = dict.fromkeys(WAYS, 0.0)
    for turn in range(rounds + 1):
        for way, program in programs.items():
            began = time.perf_counter()
            jax.block_until_ready(program(*given))
            if turn:  # the first one compiles
                best[way] = max(best[way], learners * steps / (time.perf_counter() - began))
    return [{"learner": name, "K": learners, "way": way, "updates_per_second": rate} for way, rate in best.items()]


def _parts(rows: Rows) -> tuple[Rows, Rows, dict[str, Any]]:
    """The rows of teaching, with their shares; those of ways; the limit."""
    limit = rows[-1]
    taught = [
        row | {"share": row["updates_per_second"] * row["flops"] / limit["limit"]} for row in rows if "flops" in row
    ]
    return taught, [row for row in rows if "way" in row], limit


def section(rows: Rows) -> str:
    """See `Benchmark`."""
    taught, mapped, limit = _parts(rows)
    products = ", ".join(f"{way} {rate / 1e9:,.0f}" for way, rate in limit["products"])
    lines = [
        "## Phase 1 beside the machine's limit",
        "",
        "Updates of K learners a second, all of the stage counted (reading minibatches, checks, logging), on "
        "HalfCheetah's sizes. The limit is the best square matrix product, each device with one of its own, in "
        f"GFLOP/s: {products}. An update's FLOPs are those of its layers' products (`benchmarks/flops.py`).",
        "",
    ]
    cells = []
    for row in taught:
        rate, state = row["updates_per_second"], f"{row['state_bytes'] / 1e6:,.1f} MB"
        speed = f"{rate:,.1f}", f"{row['flops'] / 1e6:,.0f}", f"{rate * row['flops'] / 1e9:,.0f}", f"{row['share']:.0%}"
        cells.append((row["learner"], str(row["K"]), *speed, state))
    head = ["learner", "K", "updates/s", "MFLOP an update", "GFLOP/s", "share of the limit", "state of a learner"]
    lines += [
        table(head, cells),
        "",
        "Learners of a device one by one (`lax.map`), some at once, or all at once (`vmap`): updates/s of 8 learners, "
        "and as a multiple of one by one, which is what phase 1 and collection do. These are bare updates of "
        "minibatches that lie ready; beside them what share of the limit one by one is then.",
        "",
    ]
    cells = []
    flops = {row["learner"]: row["flops"] for row in taught}
    for name in dict.fromkeys(row["learner"] for row in mapped):
        found = {row["way"]: row["updates_per_second"] for row in mapped if row["learner"] == name}
        rates = [f"{found[way]:,.1f} ({found[way] / found['one by one']:.2f})" for way in WAYS]
        share = found["one by one"] * flops[name] / limit["limit"]
        cells.append((name, *rates, f"{share:.0%}"))
    return "\n".join([*lines, table(("learner", *WAYS, "share"), cells)])


def targets(rows: Rows) -> list[Target]:
    """See `Benchmark`."""
    shares = [row["share"] for row in _parts(rows)[0] if "paper" in row["learner"]]
    told = f"{min(shares):.0%} to {max(shares):.0%}" if shares else "–"
    return [
        Target("phase 1 at the paper's sizes, share of the best product", "75 %", told, min(shares, default=0) >= 0.75)
    ]


def draw(rows: Rows) -> Figure:
    """See `Benchmark`: the share against K, and the ways side by side."""
    taught, mapped, _ = _parts(rows)
    figure, (left, right) = panels(2, (5.0, 3.6))
    for name in dict.fromkeys(row["learner"] for row in taught):
        found = [row for row in taught if row["learner"] == name]
        left.plot([r["K"] for r in found], [r["share"] for r in found], "o-", color=COLOURS[name], label=name)
        ways_of = [row for row in mapped if row["learner"] == name]
        heights = [row["updates_per_second"] / ways_of[0]["updates_per_second"] for row in ways_of]
        right.plot(range(len(WAYS)), heights, "o-", color=COLOURS[name])
    left.axhline(0.75, color="0.5", linestyle=":", linewidth=1)
    left.set(xscale="log", ylim=(0, 1), xlabel="K learners", ylabel="share", title="Share of the best product")
    left.set_xticks([1, 8, 29], ["1", "8", "29"])
    left.legend()
    right.set(ylim=(0, None), ylabel="rate, one by one = 1", title="Learners of a device")
    right.set_xticks(range(len(WAYS)), WAYS)
    return figure
