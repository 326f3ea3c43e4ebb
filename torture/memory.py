"""Training from batches that are larger than the memory: whether it stays within it, and at which rate.

    python -m torture.memory STAGE BATCHES OUT [MIB]

is one measured training, of a process that puts itself into a control group with a limit of MIB mebibytes. The limit
holds for what the process allocates and for what the kernel caches of files for it. Where no control group can be made
(they belong to root), nothing is limited: the process is told that it has so much, and the memory that it allocates is
what is measured.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from torture import Section

LIMIT = 1430  # MiB: a process that has imported and compiled everything holds 1,100
MDPS, TRANSITIONS, EPISODE, DIMS = 31, 1_000_000, 1000, (111, 8)  # observations and actions of an Ant
STAGES = {"teach": 2000, "distill": 4000}  # updates: of several windows
GROUPS = {  # a control group's directory, and its file for the limit: version 2 and version 1
    Path("/sys/fs/cgroup/bmrl-torture"): "memory.max",
    Path("/sys/fs/cgroup/memory/bmrl-torture"): "memory.limit_in_bytes",
}


def train_from_disk(place: Path, seconds: float) -> Section:
    """Both phases on random numbers, ten times as many as the memory holds."""
    batches, rows, failures = place / "batches", [], 0
    _write_batches(batches)
    size = sum(path.stat().st_size for path in batches.glob("*/*.npy")) >> 20
    for stage in STAGES:
        free = _measure(stage, batches, place / stage, None)
        held = _measure(stage, batches, place / stage, LIMIT)
        row, failed = judged(stage, free, held)
        rows.append(row)
        failures += failed
    lines = [
        "## Batches larger than the memory",
        "",
        f"{MDPS} batches of {TRANSITIONS:,} transitions ({DIMS[0]} observations, {DIMS[1]} actions), {size:,} MiB in "
        f"all, {size / LIMIT:.1f} times the limit of {LIMIT} MiB. HalfCheetah's networks at laptop size. Without a "
        "limit all files lie in the kernel's cache before the training begins; with it none does, and what the kernel "
        "then caches for the process counts against the limit (a control group's). `RssAnon` is what the process "
        "allocates, sampled ten times a second. Where a limit cannot be enforced, the rate within it is not measured.",
        "",
        "| stage | updates/s without a limit | with it | share | largest RssAnon, MiB | limit |",
        "|---" * 6 + "|",
        *rows,
    ]
    shutil.rmtree(batches)
    return Section("\n".join(lines), failures)


def judged(stage: str, free: dict[str, float] | str, held: dict[str, float] | str) -> tuple[str, bool]:
    """The row of a stage that was measured without and with the limit, and whether it failed.

    Where the limit is not enforced both had all of the machine's memory, so that their rates say nothing of it. Instead
    of a measurement there may be a word of how the process ended.
    """
    if isinstance(free, str) or isinstance(held, str):
        cells = [found if isinstance(found, str) else f"{found['rate']:.1f}" for found in (free, held)]
        return f"| {stage} | {' | '.join(cells)} | none | none | enforced |", True
    share, enforced = held["rate"] / free["rate"], held["enforced"]
    rates = f"{held['rate']:.1f} | {share:.0%}" if enforced else "not measured | not measured"
    limit = "enforced" if enforced else "not enforced"
    row = f"| {stage} | {free['rate']:.1f} | {rates} | {held['anonymous']:.0f} | {limit} |"
    return row, held["anonymous"] > LIMIT or bool(enforced and share < 0.7)


def _measure(stage: str, batches: Path, out: Path, limit: int | None) -> dict[str, float] | str:
    """What a process found, or how it ended."""
    shutil.rmtree(out, ignore_errors=True)
    _fill_or_empty_cache(batches, fill=limit is None)
    words = [sys.executable, "-m", "torture.memory", stage, str(batches), str(out), *([str(limit)] if limit else [])]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        return f"ended with {done.returncode}"
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _fill_or_empty_cache(batches: Path, fill: bool) -> None:
    """Have the kernel's cache hold all of the batches, or nothing of them."""
    for path in batches.glob("*/*.npy"):
        with open(path, "rb") as file:
            if fill:
                while file.read(1 << 24):
                    pass
            else:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _write_batches(directory: Path) -> None:
    import numpy as np

    from bmrl.data import write_batch

    for k in range(MDPS):
        if not (directory / f"mdp-{k:03d}").exists():
            rng, n = np.random.default_rng(k), TRANSITIONS
            write_batch(
                directory / f"mdp-{k:03d}",
                observations=rng.standard_normal((n + n // EPISODE, DIMS[0]), np.float32),
                actions=rng.uniform(-1, 1, (n, DIMS[1])).astype(np.float32),
                rewards=rng.standard_normal(n, np.float32),
                terminations=np.zeros(n, bool),
                truncations=np.arange(n) % EPISODE == EPISODE - 1,
                provenance={"collector": "random numbers"},
            )


@contextlib.contextmanager
def limited(mebibytes: int | None) -> Iterator[bool]:
    """This process within a limit of memory; whether it is enforced."""
    for group, file in GROUPS.items():
        if mebibytes and (group.parent / "cgroup.procs").exists():
            with contextlib.suppress(OSError):
                group.mkdir(exist_ok=True)
                (group / file).write_text(str(mebibytes << 20))
                (group / "cgroup.procs").write_text(str(os.getpid()))
                yield True
                (group.parent / "cgroup.procs").write_text(str(os.getpid()))
                group.rmdir()
                return
    yield False


@contextlib.contextmanager
def anonymous_memory() -> Iterator[list[float]]:
    """A list whose only number becomes the largest RssAnon of this process, in MiB."""
    largest, over = [0.0], threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            status = Path("/proc/self/status").read_text()
            largest[0] = max(largest[0], int(status.partition("RssAnon:")[2].split()[0]) / 1024)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield largest
    over.set()
    thread.join()


def _train(stage: str, batches: Path, out: Path) -> float:
    """Updates a second, without the first ones, in which programs are compiled."""
    import numpy as np

    from bmrl import parallel
    from bmrl.batch_rl.replay import stack
    from bmrl.batch_rl.teach import TeachConfig, observation_normaliser, spec_of, teach
    from bmrl.data import read_batches
    from bmrl.distill.distill import distill, teacher_targets
    from bmrl.experiments import get_experiment
    from bmrl.runs.metrics import Metrics

    parallel.set_up_jax()
    from dataclasses import replace

    import jax

    experiment, updates = get_experiment("halfcheetah-velocity", "laptop", 0), STAGES[stage]
    replay = stack(read_batches(batches))
    out.mkdir(parents=True)
    checkpoints, metrics, seen = out / "checkpoints", Metrics(out / "metrics.csv"), []

    def watch(step: int, _: object) -> dict[str, np.ndarray]:
        seen.append((step, time.monotonic()))
        return {}

    algorithm = experiment.teach["default"].algorithm
    if stage == "teach":
        teach(replay, TeachConfig(algorithm, updates), 0, checkpoints, metrics, stage, 1e9, watch)
    else:
        normalisers = jax.tree.map(lambda *x: np.stack(x), *map(observation_normaliser, replay.logs))
        init = jax.jit(jax.vmap(lambda one: algorithm.init(jax.random.PRNGKey(0), spec_of(replay), one)))
        targets = teacher_targets(algorithm, init(normalisers), replay, 0, out)
        config = experiment.distill["default"]
        config = replace(config, updates=updates, reward_model=replace(config.reward_model, updates=updates))
        distill(replay, targets, 0.0, config, 0, checkpoints, metrics, stage, 1e9, watch)
    (first, begun), (last, ended) = seen[2], seen[-1]
    return (last - first) / (ended - begun)


if __name__ == "__main__":
    mebibytes = int(sys.argv[4]) if len(sys.argv) > 4 else None
    with limited(mebibytes) as enforced, anonymous_memory() as largest:
        if mebibytes and not enforced:  # the process has to keep to it by itself
            from bmrl.batch_rl import windows

            told = mebibytes << 20
            setattr(windows, "memory_limit", lambda: told)  # noqa: B010 - not for others to set
        rate = _train(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
    print(json.dumps({"rate": rate, "anonymous": largest[0], "enforced": enforced}))
