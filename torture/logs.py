"""Logs in every format that is imported: a small sound example of each, and its import."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from bmrl.data import read_batches
from bmrl.data.importing import import_logs
from bmrl.errors import BmrlError

ROWS = 12

MAPPING = """
observations = ["x", "y"]
actions = "a"
rewards = "r"
terminations = "end"
outcome_of = "last action"
mdp = "mdp"
time = "t"
step = 10
low = 0
high = 2
"""
CSV_LINES = """
time = ["date", "clock"]
step = "10 min"
missing_as = ["---", -999]
missing = "cut"
skip = 1
thousands = "'"
"""
GROUPS = """
observations = "observations"
actions = "actions"
rewards = "rewards"
terminations = "terminations"
groups = "episode_*"
"""


def _columns() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    count = np.arange(ROWS)
    columns = {name: rng.normal(size=ROWS).astype(np.float32) for name in "xyr"}
    columns["a"] = rng.uniform(0.1, 1.9, ROWS).astype(np.float32)
    return columns | {"end": count == 7, "mdp": count % 2, "t": (count // 2 * 10).astype(np.float64)}


def _write_mapping(root: Path, text: str = MAPPING) -> None:
    (root / "mapping.toml").write_text(text)


def make_csv(root: Path) -> None:
    """Two MDPs that take turns, written as people do: with units, marks, groups of digits, dates apart from times."""
    _write_mapping(root, MAPPING.replace('time = "t"\nstep = 10', CSV_LINES))
    columns: dict[str, Any] = _columns()
    columns["clock"] = [f"00:{int(minute):02d}" for minute in columns.pop("t")]
    columns |= {"date": ["2021-01-01"] * ROWS, "y": ["---", "1'234.5", *columns["y"][2:]]}
    units = ",".join("u" for _ in columns)
    lines = [",".join(columns), units, *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    (root / "log.csv").write_text("\n".join(lines) + "\n")


def make_parquet(root: Path) -> None:
    """The same."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    _write_mapping(root)
    pq.write_table(pa.table(_columns()), root / "log.parquet", row_group_size=5)


def make_npz(root: Path) -> None:
    """The same."""
    _write_mapping(root)
    columns: Any = _columns()
    np.savez_compressed(root / "log.npz", **columns)


def make_hdf5(root: Path) -> None:
    """The same."""
    import h5py

    _write_mapping(root)
    with h5py.File(root / "log.h5", "w") as file:
        for name, values in _columns().items():
            file.create_dataset(name, data=values, compression="gzip", chunks=(4,))


def make_minari(root: Path) -> None:
    """A dataset of two episodes."""
    import h5py

    _write_mapping(root, GROUPS)
    data = root / "it-v0" / "data"
    data.mkdir(parents=True)
    metadata = {"data_format": "hdf5", "family": "toy", "mdp_id": "mdp-007", "mdp_params": {"goal": 1.5}}
    (data / "metadata.json").write_text(json.dumps({**metadata, "total_episodes": 2}))
    rng = np.random.default_rng(0)
    with h5py.File(data / "main_data.hdf5", "w") as file:
        for number in range(2):
            group = file.create_group(f"episode_{number}")
            group["observations"] = rng.normal(size=(5, 2)).astype(np.float32)
            group["actions"] = rng.uniform(-1, 1, (4, 1)).astype(np.float32)
            group["rewards"] = rng.normal(size=4)
            group["terminations"] = np.arange(4) == 3


def read_log(name: str, root: Path) -> Any:
    """Imports the logs of that name, and reads what was made of them."""
    shutil.rmtree(root / "batches", ignore_errors=True)
    imported = import_logs([root / name], root / "mapping.toml", root / "batches")
    if imported.problems:
        assert not (root / "batches").exists(), "batches of logs that were refused"
        raise BmrlError(imported.problems[0][1].where)
    for counts in imported.mdps.values():
        rows = sum(counts[key] for key in ("transitions", "observations", "unused", "duplicates"))
        assert rows == counts["rows"], "rows that nobody counted"
    fields = ("observations", "actions", "rewards", "terminations", "truncations")
    batches = read_batches(root / "batches")
    return [[np.asarray(getattr(batch, field)) for field in fields] + [batch.manifest["mdp"]] for batch in batches]
