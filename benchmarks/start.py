"""How long it takes until something happens: help, the first step of training, and what is compiled during a run."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks import Rows, Target
from benchmarks.data import HALFCHEETAH, random_replay
from benchmarks.laps import seconds
from bmrl.data import write_batch
from bmrl.experiments import get_experiment
from bmrl.families import get_family
from bmrl.figures.style import BLUE, GREY, panels
from bmrl.pipeline import start_run
from bmrl.reproduce.markdown import table

BMRL = [sys.executable, "-c", "from bmrl.cli import main; main()"]
NUMPY = [sys.executable, "-c", "import numpy"]
EXPERIMENT = "halfcheetah-velocity"
# The programs of the stages' loops. Others are single operations outside of loops, which differ in what is not logged.
COMPILED = re.compile(r"Compiling (jit\((?:program|train|draws?)\) with global shapes and types .*)")


def measure(place: Path, short: bool) -> Rows:
    """Three rows: help beside the import of NumPy; the first training step; compilations."""
    turns = 2 if short else 7
    helped = {"--help": [], "import numpy": []}  # type: dict[str, list[float]]
    for _ in range(turns):
        for name, words in (("--help", [*BMRL, "--help"]), ("import numpy", NUMPY)):
            helped[name].append(seconds(lambda words=words: _quietly(words)))  # type: ignore[misc]
    rows: Rows = [{"help": min(helped["--help"]), "numpy": min(helped["import numpy"])}]
    print(rows, flush=True)
    run = place / "run"
    shutil.rmtree(place, ignore_errors=True)
    _prepare(run, 4 if short else 29)
    cold, warm = first_step(run, place / "cache"), [first_step(run, place / "cache") for _ in range(1 if short else 3)]
    rows.append({"cold": cold, "warm": min(warm)})
    print(rows[-1], flush=True)
    rows.append(compilations(place / "smoke"))
    print(rows[-1], flush=True)
    shutil.rmtree(place)
    return rows


def _quietly(words: list[str]) -> None:
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def _prepare(run: Path, learners: int) -> None:
    """A run of laptop size with batches of random numbers, for phase 1."""
    experiment = get_experiment(EXPERIMENT, "laptop", 0)
    family = get_family(experiment.family)
    start_run(run, experiment)
    for k, log in enumerate(random_replay(learners, 20_000, HALFCHEETAH, 1000).logs):
        rows = log.take(np.arange(log.size))
        write_batch(
            run / "batches" / f"mdp-{k:03d}",
            observations=log.observations,  # type: ignore[attr-defined]
            actions=rows.actions,
            rewards=rows.rewards,
            terminations=rows.terminations,
            truncations=np.arange(log.size) % 1000 == 999,
            mdp=family.train_mdps()[k],
            family=family.name,
            provenance={"collector": "random numbers"},
        )


def first_step(run: Path, cache: Path) -> float:
    """Seconds from the start of ``bmrl teach`` to its first row of losses, dozens of updates of each included."""
    metrics = run / "metrics.csv"
    shutil.rmtree(run / "teachers", ignore_errors=True)
    shutil.rmtree(run / "checkpoints", ignore_errors=True)
    metrics.unlink(missing_ok=True)
    began = time.perf_counter()
    process = subprocess.Popen(
        [*BMRL, "teach", str(run)],
        env=os.environ | {"XDG_CACHE_HOME": str(cache)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not (metrics.exists() and metrics.read_text().count("\n") > 1):
        if process.poll() is not None:
            raise RuntimeError(f"bmrl teach {run} ended with {process.returncode} before it trained")
        time.sleep(0.02)
    passed = time.perf_counter() - began
    process.send_signal(signal.SIGKILL)
    process.wait()
    return passed


def compilations(out: Path) -> dict[str, int]:
    """How many programs the loops of a whole run of smoke size compile, and how many of them a second time."""
    done = subprocess.run(
        [*BMRL, "run", "point-goal", "--scale", "smoke", "--out", str(out)],
        env=os.environ | {"JAX_LOG_COMPILES": "1"},
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    found = Counter(COMPILED.findall(done.stderr))
    return {"programs": len(found), "again": sum(found.values()) - len(found)}


def section(rows: Rows) -> str:
    """See `Benchmark`."""
    helped, first, compiled = rows
    cells = (
        ("`bmrl --help`", f"{helped['help']:.2f}", f"`import numpy` in Python: {helped['numpy']:.2f}"),
        (
            "`bmrl teach` to its first losses, second run",
            f"{first['warm']:.1f}",
            f"first run, which compiles: {first['cold']:.1f}",
        ),
    )
    return "\n".join(
        [
            "## Start",
            "",
            table(("what", "seconds", "beside"), cells),
            "",
            f"The latter is {EXPERIMENT} at laptop size; dozens of updates of each learner are included. The loops "
            f"of a whole run of point-goal at smoke size compile {compiled['programs']} programs, {compiled['again']} "
            "of them more than once.",
        ]
    )


def targets(rows: Rows) -> list[Target]:
    """See `Benchmark`."""
    helped, first, compiled = rows
    again = compiled["again"]
    return [
        Target("`bmrl --help`", "under .5 s", f"{helped['help']:.2f} s", helped["help"] < 0.5),
        Target("second run, to its first losses", "within 5 s", f"{first['warm']:.1f} s", first["warm"] <= 5),
        Target("programs of loops compiled again in a run", "none", str(again), again == 0),
    ]


def draw(rows: Rows) -> Figure:
    """See `Benchmark`."""
    helped, first, _ = rows
    figure, (left, right) = panels(2, (4.0, 3.0))
    left.bar(["import numpy", "bmrl --help"], [helped["numpy"], helped["help"]], color=[GREY, BLUE])
    left.axhline(0.5, color="0.5", linestyle=":", linewidth=1)
    left.set(ylabel="seconds", title="Help")
    right.bar(["first run", "second run"], [first["cold"], first["warm"]], color=[GREY, BLUE])
    right.axhline(5, color="0.5", linestyle=":", linewidth=1)
    right.set(ylabel="seconds", title="To the first losses")
    return figure
