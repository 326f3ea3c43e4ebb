"""Phase 1 beside d3rlpy's BCQ: the same data, networks, minibatches and threads, in PyTorch on the same cores."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Array
from matplotlib.figure import Figure

from benchmarks import Rows, Target
from benchmarks.data import HALFCHEETAH, random_replay
from benchmarks.laps import steps_a_second
from benchmarks.phase1 import teaching
from bmrl import parallel
from bmrl.batch_rl import BCQ
from bmrl.batch_rl.replay import Episodes, stack
from bmrl.batch_rl.teach import TeachConfig, observation_normaliser, teach
from bmrl.collect import collect
from bmrl.data import read_batches
from bmrl.evaluate.agents import FixedAgent, TeacherAgent
from bmrl.evaluate.rollout import run_episodes
from bmrl.experiments import get_experiment
from bmrl.experiments.velocity import LAPTOP_BCQ
from bmrl.families import get_family
from bmrl.figures.style import BLUE, GREY, ORANGE, panels
from bmrl.reproduce.markdown import table
from bmrl.runs.metrics import Metrics

REQUIREMENTS, PROGRAM = (Path(__file__).with_name(name) for name in ("peer-requirements.txt", "peer_d3rlpy.py"))
SIZES = {"laptop": LAPTOP_BCQ, "paper": BCQ()}
K = 8
QUALITY = "point-goal"


def environment(place: Path) -> Path:
    """The Python of the peer's own environment, which is made where it is not there."""
    python = place / "environment" / "bin" / "python"
    done = place / "environment" / "installed.txt"
    if not done.exists() or done.read_text() != REQUIREMENTS.read_text():
        subprocess.run([sys.executable, "-m", "venv", "--clear", place / "environment"], check=True)
        subprocess.run([python, "-m", "pip", "install", "-qqq", "--requirement", REQUIREMENTS], check=True)
        done.write_text(REQUIREMENTS.read_text())
    return python


class D3rlpy:
    """Learners of the peer, each a process of its own that waits for orders; all carry them out side by side."""

    def __init__(
        self,
        python: Path,
        logs: Sequence[Episodes],
        bcq: BCQ,
        threads: int,
        seed: int,
        device: str = "cpu",
        precision: str = "highest",
        compiled: bool = False,
    ):
        self._directory = tempfile.TemporaryDirectory()
        place, self._processes = Path(self._directory.name), []
        how = {"threads": threads, "seed": seed, "device": device, "precision": precision, "compiled": compiled}
        (place / "settings.json").write_text(json.dumps(asdict(bcq) | how))
        self._log = open(place / "log.txt", "w+")  # noqa: SIM115 - the processes write into it as long as they run
        limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        for k, log in enumerate(logs):
            data, normaliser = place / f"{k}.npz", observation_normaliser(log)
            whole = log.take(np.arange(log.size))._asdict()
            whole["truncations"] = np.isin(np.arange(log.size), log.ends - 1) & ~whole["terminations"]
            np.savez(data, mean=normaliser.mean, scale=normaliser.scale, **whole)
            self._processes.append(
                subprocess.Popen(
                    [python, PROGRAM, data, place / "settings.json"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._log,
                    text=True,
                    env=os.environ | limits,
                )
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            assert process.stdin and process.stdout
            process.stdin.close()
            process.wait()
            process.stdout.close()
        self._log.close()
        self._directory.cleanup()

    def _ask(self, orders: Sequence[dict[str, Any]]) -> list[Any]:
        for process, order in zip(self._processes, orders, strict=True):
            assert process.stdin
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
        answers = []
        for process in self._processes:
            assert process.stdout
            if not (line := process.stdout.readline()):
                self._log.seek(0)
                raise RuntimeError(f"d3rlpy ended before its answer: {self._log.read()[-2000:]}")
            answers.append(json.loads(line))
        return answers

    def fit(self, updates: int) -> float:
        """So many updates of each learner: updates a second, of all together."""
        return len(self._processes) * updates / max(self._ask([{"fit": updates}] * len(self._processes)))

    def act(self, observations: np.ndarray) -> np.ndarray:
        """Greedy actions [n, d_a] for [n, d_s], the learners one after the other having equal shares of the n."""
        parts = np.split(observations, len(self._processes))
        return np.concatenate([np.array(x, np.float32) for x in self._ask([{"act": x.tolist()} for x in parts])])


class PeerAgent(FixedAgent):
    """The peer's policies as an agent, without a memory."""

    def __init__(self, peer: D3rlpy, action_dim: int):
        super().__init__(action_dim, uniform=False)
        self._peer = peer

    def act(self, memory: None, observations: np.ndarray, key: Array) -> np.ndarray:
        """See `Agent`."""
        return np.clip(self._peer.act(observations), -1, 1)


def measure(place: Path, short: bool) -> Rows:
    """A row for each size with the rates, and one for each seed with the returns."""
    parallel.set_up_jax()
    python, cores = environment(place), len(os.sched_getaffinity(0))
    rows: Rows = []
    for size, bcq in SIZES.items():
        rows.append(_speed(python, size, bcq, cores, laps=2 if short else 6, updates=10 if short else 100))
        print(rows[-1], flush=True)
    for seed in range(1 if short else 3):
        rows.append(_quality(python, place, seed, 100 if short else 5000))
        print(rows[-1], flush=True)
    return rows


def _speed(python: Path, size: str, bcq: BCQ, cores: int, laps: int, updates: int) -> dict[str, Any]:
    """Rates of K learners here, and there of one with all threads and of one on each core, all taking turns."""
    replay = random_replay(K, 20_000, HALFCHEETAH, 1000)
    one, each = [replay.logs[0]], list(replay.logs[:cores])
    best = {"one process": 0.0, "a process a core": 0.0}
    with D3rlpy(python, one, bcq, cores, 0) as threaded, D3rlpy(python, each, bcq, 1, 0) as single:  # type: ignore[arg-type]
        sides = {"one process": threaded, "a process a core": single}

        def turn() -> None:
            for name, side in sides.items():
                best[name] = max(best[name], side.fit(updates))

        for side in sides.values():
            side.fit(5)  # what is prepared once is no part of it
        rates = steps_a_second(teaching(replay, bcq), "teach", laps, turn)
    return {"size": size, "K": K, "bmrl": K * max(rates), **best}


def _quality(python: Path, place: Path, seed: int, updates: int) -> dict[str, Any]:
    """Returns of learners trained on the toy's batches, in each of its MDPs, 25 episodes."""
    experiment = get_experiment(QUALITY, "laptop", seed)
    family, batches = get_family(experiment.family), place / f"batches-{seed}"
    mdps = family.train_mdps()
    with tempfile.TemporaryDirectory() as name:
        metrics = Metrics(Path(name) / "metrics.csv")
        if not batches.exists():
            half = place / f"collecting-{seed}"
            collect(family, mdps, experiment.collect, seed, half, Path(name) / "collect", metrics, 1e9)
            half.rename(batches)
        replay = stack(read_batches(batches))
        config = TeachConfig(replace(LAPTOP_BCQ, batch_size=128), updates)
        taught = teach(replay, config, seed, Path(name) / "teach", metrics, "teach", 1e9)
    which = np.repeat(np.arange(len(mdps)), 25)
    slots = [mdps[k] for k in which]
    own = TeacherAgent(config.algorithm, taught.states, which)
    returns = {"bmrl": run_episodes(family, slots, own, seed).returns}
    with D3rlpy(python, replay.logs, config.algorithm, 1, seed) as peer:  # type: ignore[arg-type]
        peer.fit(updates)
        returns["d3rlpy"] = run_episodes(family, slots, PeerAgent(peer, family.action_dim), seed).returns
    return {
        "seed": seed,
        "updates": updates,
        **{k: x.reshape(len(mdps), -1).mean(1).tolist() for k, x in returns.items()},
    }


def section(rows: Rows) -> str:
    """See `Benchmark`."""
    speeds, returns = _parts(rows)
    lines = [
        "## Phase 1 beside d3rlpy",
        "",
        "BCQ of d3rlpy 2.8.1 (PyTorch 2.13 on the CPU) with the same data, networks, minibatches, constants and number "
        "of threads, its `fit` with logging and progress off; bmrl's phase 1 as the command runs it. d3rlpy has one "
        "learner a process: one process with all threads, or a process a core with one thread each; the faster counts.",
        "",
    ]
    cells = []
    for row in speeds:
        own, one, each = row["bmrl"], row["one process"], row["a process a core"]
        cells.append((row["size"], *(f"{x:,.0f}" for x in (own, one, each)), f"**{own / max(one, each):.1f}x**"))
    head = ("sizes", f"bmrl, K = {K}: updates/s", "d3rlpy, one process", "d3rlpy, a process a core", "bmrl is faster")
    lines += [
        table(head, cells),
        "",
        f"Quality: learners of laptop size, minibatches of 128, {returns[0]['updates']:,} updates on the batches of "
        f"{QUALITY}, a batch a goal; mean return of 25 episodes at each goal (the best possible is about -45).",
        "",
    ]
    sides = ("bmrl", "d3rlpy")
    seeds = [(str(row["seed"]), *(" / ".join(f"{x:.0f}" for x in row[side]) for side in sides)) for row in returns]
    means = ("mean", *(f"{np.mean([row[side] for row in returns]):.1f}" for side in sides))
    return "\n".join([*lines, table(("seed", *sides), [*seeds, means])])


def targets(rows: Rows) -> list[Target]:
    """See `Benchmark`."""
    speeds, returns = _parts(rows)
    found = []
    for row, wanted in zip(speeds, (4.0, 1.7), strict=True):
        times = row["bmrl"] / max(row["one process"], row["a process a core"])
        found.append(
            Target(f"BCQ beside d3rlpy, {row['size']} sizes", f"{wanted:g}x", f"{times:.1f}x", times >= wanted)
        )
    own, peer = (np.mean([row[side] for row in returns]) for side in ("bmrl", "d3rlpy"))
    told = f"{own:.1f} beside {peer:.1f}"
    return [*found, Target("mean return beside d3rlpy's", "equal", told, bool(own >= peer - 0.05 * abs(peer)))]


def _parts(rows: Rows) -> tuple[Rows, Rows]:
    return [row for row in rows if "size" in row], [row for row in rows if "seed" in row]


def draw(rows: Rows) -> Figure:
    """See `Benchmark`: rates as bars, and returns seed by seed."""
    speeds, returns = _parts(rows)
    figure, (left, right) = panels(2, (5.0, 3.6))
    for k, (side, colour) in enumerate({"bmrl": BLUE, "one process": ORANGE, "a process a core": GREY}.items()):
        own = [max(row["one process"], row["a process a core"]) for row in speeds]
        heights = [row[side] / peer for row, peer in zip(speeds, own, strict=True)]
        label = side if side == "bmrl" else f"d3rlpy, {side}"
        left.bar(np.arange(len(speeds)) + 0.27 * (k - 1), heights, 0.25, color=colour, label=label)
    left.set_xticks(range(len(speeds)), [f"{row['size']} sizes" for row in speeds])
    left.set(ylabel="d3rlpy's best = 1", title="Updates of BCQ a second")
    left.legend()
    for side, colour in (("bmrl", BLUE), ("d3rlpy", ORANGE)):
        means = [np.mean(row[side]) for row in returns]
        right.plot([row["seed"] for row in returns], means, "o", color=colour, label=side)
    right.set_xticks([row["seed"] for row in returns])
    right.set(xlabel="seed", ylabel="mean return", title="Learned policies")
    right.legend()
    return figure
