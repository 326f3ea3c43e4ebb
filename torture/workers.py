"""Workers of a Ray cluster killed again and again: collection and phase 1 end as if nobody had killed any.

The cluster is Ray's own for tests: several nodes, each with its processes, on this machine. Who works on a part is read
from its lock, since a worker's death frees it. The twin is done by the same cluster, undisturbed.
"""

import fcntl
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bmrl.engine import Engine, parts
from bmrl.experiments import Experiment, get_experiment
from bmrl.pipeline import working_on_run
from torture import Section
from torture.smoke import differences

NODES = 2
KILL_EVERY = 30.0  # s
GROUP = 5
STEPS = 1000  # of collection and of phase 1: a minute or so on two idle cores, undisturbed


def kill_workers(place: Path, seconds: float) -> Section:
    """The campaign: a worker killed every `KILL_EVERY` seconds, in runs whose seeds tell when it was whose turn."""
    runs, kills, failed = 0, 0, []
    began = time.monotonic()
    with cluster(NODES) as environment:
        twin = place / "undisturbed"
        if not (twin / "done").exists():
            shutil.rmtree(twin, ignore_errors=True)
            _, failure = disturbed(twin / "run", environment, 1e9, random.Random())
            if failure:
                raise RuntimeError(f"the undisturbed run failed: {failure}")
            (twin / "done").touch()
        while not runs or (runs < 3 and time.monotonic() - began < seconds):
            directory = place / f"run-{runs}"
            shutil.rmtree(directory, ignore_errors=True)
            killed, failure = disturbed(directory, environment, KILL_EVERY, random.Random(runs))
            failure = failure or differences(directory, twin / "run")
            failed += [f"- run {runs}: {failure}"] if failure else []
            runs, kills = runs + 1, kills + killed
    lines = [
        "## Workers of a cluster killed",
        "",
        f"Ray's cluster for tests with {NODES} nodes of one core; collection and phase 1 of 29 HalfCheetahs in parts "
        f"of {GROUP}, and every {KILL_EVERY:g} s SIGKILL for one of the working processes. Then a comparison of every "
        "file with those of the undisturbed run.",
        "",
        f"Runs: {runs}. Workers killed: {kills}. Failed: {len(failed)}.",
        "",
    ]
    return Section("\n".join([*lines, *failed]), len(failed))


@contextmanager
def cluster(nodes: int) -> Iterator[dict[str, str]]:
    """A cluster of that many nodes of one core each, with a token; what a command needs in its environment."""
    token = f"{random.SystemRandom().getrandbits(256):064x}"
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    # A process of its own: to start the nodes is to fork, and this one may have JAX's threads.
    command = [sys.executable, "-c", f"from torture.workers import hold_cluster; hold_cluster({nodes})"]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin and process.stdout
        try:
            address = next(line for line in process.stdout if line.startswith("address "))
            yield {**environment, "RAY_ADDRESS": address.split()[1]}
        finally:
            process.stdin.close()


def hold_cluster(nodes: int) -> None:
    """Start a cluster, say where it is, and stop it when the standard input ends."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(nodes):
        made.add_node(num_cpus=1)
    print("address", made.address, flush=True)
    sys.stdin.read()
    made.shutdown()


def disturbed(
    directory: Path, environment: dict[str, str], kill_every: float, rng: random.Random
) -> tuple[int, str | None]:
    """Collection and phase 1 in a directory: how many workers were killed meanwhile, and how it failed, if so."""
    command = [sys.executable, "-c", f"from torture.workers import train; train({str(directory)!r})"]
    killed, last = 0, time.monotonic()
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            time.sleep(0.2)
            if time.monotonic() - last > kill_every and (found := working(directory)):
                os.kill(rng.choice(found), signal.SIGKILL)
                killed, last = killed + 1, time.monotonic()
        said = process.communicate()[1]
    return killed, None if process.returncode == 0 else f"exit code {process.returncode}: {said.strip()[-500:]}"


def working(directory: Path) -> list[int]:
    """The processes that work on parts of a run now."""
    found = []
    for path in sorted((directory / parts.PARTS).glob("*/.lock")):
        with open(path) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                found += [int(pid) for pid in re.findall(r"process (\d+) ", file.read())]
    return found


def experiment() -> Experiment:
    """Some minutes of work, with checkpoints that are seconds apart."""
    smoke = get_experiment("halfcheetah-velocity", "smoke", 0)
    collecting, teaching = replace(smoke.collect, transitions=STEPS), replace(smoke.teach["default"], updates=STEPS)
    return replace(smoke, collect=collecting, teach={"default": teaching}, checkpoint_seconds=3.0)


def train(directory: str) -> None:
    """Collection and phase 1 on the cluster: what the command runs."""
    engine, path = Engine("ray", group=GROUP), Path(directory)
    with working_on_run(path, experiment()) as run:
        parts.collect_stage(run, engine, None)
        parts.phase_1_stages(run, ["default"], True, engine)
