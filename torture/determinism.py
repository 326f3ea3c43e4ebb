"""Which settings change the bits of a run's results, and whether two runs with the same settings have the same."""

import os
import subprocess
import tempfile
from pathlib import Path

from torture import Section
from torture.smoke import BMRL, Smoke, contents

PARTS = ("batches", "teachers", "pooled", "students", "results.json")

# How the program is started. In bmrl each core is a device of its own.
CORES = "len(os.sched_getaffinity(0))"
ONE_CORE = "os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])"
START = "import os, jax; jax.config.update('jax_num_cpu_devices', {devices}); {then}; jax.devices(); {run}"
SETTINGS: dict[str, tuple[str, dict[str, str]]] = {
    "a device for each core": (BMRL[-1], {}),
    "one device, all cores": (START.format(devices=1, then="pass", run=BMRL[-1]), {}),
    "one device, one core": (START.format(devices=1, then=ONE_CORE, run=BMRL[-1]), {}),
    "a device for each core, on one core": (START.format(devices=CORES, then=ONE_CORE, run=BMRL[-1]), {}),
    "twice as many devices as cores": (START.format(devices=f"2 * {CORES}", then="pass", run=BMRL[-1]), {}),
    "--xla_cpu_multi_thread_eigen=false": (BMRL[-1], {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}),
    "--xla_backend_optimization_level=0": (BMRL[-1], {"XLA_FLAGS": "--xla_backend_optimization_level=0"}),
}


def compare_settings(place: Path, seconds: float) -> Section:
    """The campaign: smoke runs of the point-goal family, two with each setting; some minutes, and done as a whole."""
    smoke = Smoke("point-goal", place)
    lines = [
        "## Settings and bits",
        "",
        f"Two smoke runs with each setting, on {len(os.sched_getaffinity(0))} cores. Equal letters in a column are "
        "equal bits; where there are two letters in a cell the two runs differ.",
        "",
        f"| setting | {' | '.join(PARTS)} |",
        f"|---|{'---|' * len(PARTS)}",
    ]
    letters: dict[tuple[str, str], str] = {}
    failures = 0
    for setting, (program, variables) in SETTINGS.items():
        runs = [_parts(smoke, program, variables) for _ in range(2)]
        cells = []
        for part in PARTS:
            for run in runs:
                letters.setdefault((part, run[part]), chr(ord("A") + sum(name == part for name, _ in letters)))
            cells.append("".join(dict.fromkeys(letters[part, run[part]] for run in runs)))
        failures += runs[0] != runs[1]
        lines.append(f"| {setting} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return Section("\n".join(lines), failures)


def _parts(smoke: Smoke, program: str, variables: dict[str, str]) -> dict[str, str]:
    """The hashes of what a run leaves, by part; raises CalledProcessError where it fails."""
    with tempfile.TemporaryDirectory(dir=smoke.place) as directory:
        words = smoke.command(smoke.whole, Path(directory) / "run")[len(BMRL) :]
        environment = smoke.environment | variables
        subprocess.run([*BMRL[:-1], program, *words], env=environment, check=True, capture_output=True)
        found = contents(Path(directory) / "run")
    return {part: repr([item for item in found.items() if item[0].split("/")[0] == part]) for part in PARTS}
