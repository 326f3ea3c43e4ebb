"""How collection and phase 1 become faster with a second worker of a Ray cluster, on this machine.

    python -m benchmarks.cluster --out docs/results/cluster.md

The cluster is Ray's own for tests, with nodes of one core, so that two workers need two cores that are idle. Each
number of workers begins anew; its processes find in the cache what an earlier call has compiled.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from bmrl.engine import Engine, parts
from bmrl.experiments import get_experiment
from bmrl.pipeline import start_run
from bmrl.reproduce.markdown import table
from bmrl.runs.machine import machine
from torture.workers import cluster

WORKERS = (1, 2)


def main() -> None:
    """Measure both stages with one worker and with two; write OUT, a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transitions", type=int, default=10_000, help="to collect in each of 29 MDPs")
    parser.add_argument("--updates", type=int, default=20_000, help="of each of 29 learners")
    parser.add_argument("--group", type=int, default=4, help="MDPs in a part")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    seconds = [measured(workers, args.transitions, args.updates, args.group) for workers in WORKERS]
    lines = [
        "# A second worker",
        "",
        f"HalfCheetah-velocity at laptop sizes: 29 MDPs in parts of {args.group}, {args.transitions:,} transitions and "
        f"{args.updates:,} updates of TD3+BC each. Workers of one core, whose start is counted, on {machine()}.",
        "",
    ]
    rows = []
    for stage in ("collect", "teach"):
        one, two = (found[stage] for found in seconds)
        rows.append((stage, f"{one:.0f}", f"{two:.0f}", f"{one / two:.2f}"))
    lines.append(table(("stage", "1 worker, s", "2 workers, s", "times as fast"), rows))
    options = f"--transitions {args.transitions} --updates {args.updates} --group {args.group} --out {args.out}"
    lines += ["", f"`python -m benchmarks.cluster {options}`", ""]
    args.out.write_text("\n".join(lines))
    print("\n".join(lines))


def measured(workers: int, transitions: int, updates: int, group: int) -> dict[str, float]:
    """Seconds of each stage on a cluster of its own."""
    with cluster(workers) as environment, tempfile.TemporaryDirectory() as place:
        call = f"from benchmarks.cluster import stages; stages({place!r}, {transitions}, {updates}, {group})"
        words = [sys.executable, "-c", call]
        said = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    found: dict[str, float] = json.loads(said.splitlines()[-1])
    return found


def stages(place: str, transitions: int, updates: int, group: int) -> None:
    """Collect and teach in a directory, and print the seconds of each."""
    preset = get_experiment("halfcheetah-velocity", "laptop", 0)
    collecting = replace(preset.collect, transitions=transitions)
    teaching = {"default": replace(preset.teach["default"], updates=updates, logs="own")}
    run = start_run(Path(place) / "run", replace(preset, collect=collecting, teach=teaching))
    engine, times = Engine("ray", group=group), [time.monotonic()]
    parts.collect_stage(run, engine, None)
    times.append(time.monotonic())
    parts.phase_1_stages(run, ["default"], False, engine)
    times.append(time.monotonic())
    print(json.dumps({"collect": times[1] - times[0], "teach": times[2] - times[1]}))


if __name__ == "__main__":
    main()
