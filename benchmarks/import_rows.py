"""How fast logs are imported, and in how much memory, beside pandas reading the same file.

    python benchmarks/import_rows.py --out docs/results/import-rows.md

The logs are of 20 MDPs that take turns every 96 rows: six observations, one action and the reward as numbers with six
digits, a time stamp each minute, and the MDP's name. Each reader is a process of its own; its peak is the kernel's,
less what the process held with its packages imported and nothing read.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bmrl.runs.machine import machine

MDPS, TURN, OBSERVATIONS = 20, 96, 6
PIECE = 1 << 18  # rows made at a time

MAPPING = """
observations = "s*"
actions = "a"
rewards = "reward"
outcome_of = "this action"
terminations = "none"
mdp = "building"
time = "time"
step = "1 min"
"""


def make(place: Path, rows: int) -> list[Path]:
    """The logs as CSV and as Parquet, with their mapping."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet as pq

    (place / "mapping.toml").write_text(MAPPING)
    files = [place / "logs.csv", place / "logs.parquet"]
    rng = np.random.default_rng(0)
    names = [f"s{number}" for number in range(OBSERVATIONS)]
    schema = pa.schema([("building", pa.string()), ("time", pa.timestamp("s"))])
    schema = pa.schema([*schema, *((name, pa.float64()) for name in (*names, "a", "reward"))])
    with pyarrow.csv.CSVWriter(files[0], schema) as csv, pq.ParquetWriter(files[1], schema) as parquet:
        for start in range(0, rows, PIECE):
            count = np.arange(start, min(start + PIECE, rows))
            turn, within = np.divmod(count, TURN)
            minutes = turn // MDPS * TURN + within
            columns = {
                "building": [f"building-{number}" for number in (turn % MDPS).tolist()],
                "time": np.datetime64("2020-01-01", "s") + minutes * np.timedelta64(60, "s"),
                **{name: rng.normal(size=len(count)).round(6) for name in names},
                "a": rng.uniform(-1, 1, len(count)).round(6),
                "reward": rng.normal(size=len(count)).round(6),
            }
            table = pa.table(columns, schema=schema)
            csv.write_table(table)
            parquet.write_table(table)
    return files


def read_with_bmrl(file: Path) -> Callable[[], int]:
    """Imports; returns the rows."""
    from bmrl.data import arrays, tables  # noqa: F401 - what an import needs, before anything is measured
    from bmrl.data.importing import import_logs

    def read() -> int:
        imported = import_logs([file], file.parent / "mapping.toml", file.parent / "batches")
        assert not imported.problems, imported.problems[0]
        return sum(counts["rows"] for counts in imported.mdps.values())

    return read


def read_with_pandas(file: Path) -> Callable[[], int]:
    """Reads into a data frame; returns the rows."""
    import pandas as pd
    import pyarrow.parquet  # noqa: F401 - as above

    if file.suffix == ".csv":
        return lambda: len(pd.read_csv(file, parse_dates=["time"]))
    return lambda: len(pd.read_parquet(file))


READERS = {"bmrl data import": read_with_bmrl, "pandas": read_with_pandas}


def measure(reader: str, file: Path) -> None:
    """In a process of its own: prints rows, seconds and bytes at the peak."""
    read = READERS[reader](file)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew: it was the parent's before
    before = memory("VmRSS")
    began = time.monotonic()
    rows = read()
    seconds = time.monotonic() - began
    print(json.dumps([rows, seconds, memory("VmHWM") - before]))


def memory(name: str) -> int:
    """Bytes, as the kernel tells them: VmRSS now, VmHWM at the peak."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) << 10


def main() -> None:
    """Make the logs, read them, write OUT, a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--measure", nargs=2, metavar=("READER", "FILE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.measure[0], Path(args.measure[1]))
        return
    lines = [
        f"# Import of {args.rows:,} rows",
        "",
        f"On {machine()}. Peaks are beyond what each process held before it read; bmrl's includes the pages of mapped",
        "files, which the kernel takes back when memory is short.",
        "",
        "| file | size | reader | rows a second | peak |",
        "|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as directory:
        for file in make(Path(directory), args.rows):
            for reader in READERS:
                command = [sys.executable, __file__, "--measure", reader, str(file)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                rows, seconds, peak = json.loads(done.stdout.splitlines()[-1])
                assert rows == args.rows, f"{reader} read {rows} rows"
                size = file.stat().st_size / 1e6
                lines.append(
                    f"| {file.suffix[1:]} | {size:,.0f} MB | {reader} | {rows / seconds:,.0f} | {peak / 1e6:,.0f} MB |"
                )
                print(lines[-1], flush=True)
                shutil.rmtree(file.parent / "batches", ignore_errors=True)
    lines += ["", f"`python benchmarks/import_rows.py --rows {args.rows} --out {args.out}`", ""]
    if args.out is not None:
        args.out.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
