"""Logs made to do harm: nothing in them is run, nothing outside them is read, and memory stays small."""

import json
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

from bmrl.errors import BmrlError
from tests.data.logs import ARRAYS, D4RL, PLAIN, assert_holds, d4rl, flat, run

# ---------------------------------------------------------------------- files made to do harm


def test_nothing_outside_an_hdf5_file_is_read(tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        for name, values in d4rl(flat(2, 5)).items():
            file[name] = values
    mapping = D4RL + 'outcome_of = "this action"\nterminal_observation = "repeat"'
    spoil = {
        "rewards is a link": lambda file: file.__setitem__("rewards", h5py.ExternalLink("secret.h5", "rewards")),
        "soft": lambda file: file.__setitem__("rewards", h5py.SoftLink("/actions")),
        "virtual": lambda file: file.create_virtual_dataset("rewards", virtual_layout(tmp_path)),
        "raw": lambda file: file.create_dataset(
            "rewards", (10,), "f4", external=[(str(tmp_path / "secret.h5"), 0, 80)]
        ),
        "objects": lambda file: file.create_dataset("rewards", (10,), h5py.string_dtype()),
        "huge": lambda file: file.create_dataset("rewards", (1 << 40,), "f4", chunks=(1 << 20,), compression="gzip"),
        "chunks": lambda file: file.create_dataset("rewards", (1 << 28,), "f4", chunks=(1 << 28,)),
    }
    says = {
        "rewards is a link": "'rewards' is a link to another file",
        "soft": "no column 'rewards'",
        "virtual": "has its data in other files",
        "raw": "has its data in other files",
        "objects": "dtype object",
        "huge": "declares 4398046511104 bytes but holds 0",
        "chunks": "has chunks of more than 64 MiB",
    }
    for what, change in spoil.items():
        with h5py.File(tmp_path / "log.h5", "w") as file:
            for name, values in d4rl(flat(2, 5)).items():
                if name != "rewards":
                    file[name] = values
            change(file)
        with pytest.raises(BmrlError) as caught:
            run(tmp_path, mapping, "log.h5")
        assert says[what] in str(caught.value), what


def virtual_layout(place):
    layout = h5py.VirtualLayout((10,), "f4")
    layout[:] = h5py.VirtualSource(str(place / "secret.h5"), "rewards", (10,))
    return layout


def test_no_pickle_in_an_npz_is_opened(tmp_path):
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    data = d4rl(flat(2, 5))
    np.savez(tmp_path / "log.npz", **{**data, "rewards": np.array([Payload()] * 10)})
    with pytest.raises(BmrlError, match=r"array 'rewards' cannot be read: dtype object"):
        run(tmp_path, D4RL + 'outcome_of = "this action"')
    assert not (tmp_path / "executed").exists()


def test_minari_does_not_make_the_environment_that_a_dataset_names(tmp_path):
    """Minari's own reader would, where the dataset leaves out its spaces."""
    (tmp_path / "evil-v0" / "data").mkdir(parents=True)
    spec = json.dumps({"id": "x-v0", "entry_point": "os:mkdir", "kwargs": {"path": str(tmp_path / "executed")}})
    metadata = {"total_episodes": 1, "data_format": "hdf5", "env_spec": spec}
    (tmp_path / "evil-v0" / "data" / "metadata.json").write_text(json.dumps(metadata))
    data = flat(1, 5)
    with h5py.File(tmp_path / "evil-v0" / "data" / "main_data.hdf5", "w") as file:
        for name, values in data.items():
            file[f"episode_0/{name}"] = values[0]
    _, (batch,) = run(tmp_path, ARRAYS + 'groups = "episode_*"', "evil-v0")
    assert_holds(batch, data)
    assert not (tmp_path / "executed").exists()


def test_a_large_file_takes_little_memory(tmp_path):
    """A million rows of 17 columns in 8 chunks and blocks or so: 68 MB as float32, twice as much as pandas has it."""
    rows = 1 << 19
    np.savez(
        tmp_path / "log.npz",
        s=np.broadcast_to(np.float32(0.5), (rows, 32)),
        a=np.broadcast_to(np.float32(0.5), (rows, 1)),
        r=np.zeros(rows, np.float32),
    )
    (tmp_path / "mapping.toml").write_text(PLAIN)
    code = """
import resource, sys
from pathlib import Path
import bmrl.data.arrays
from bmrl.data.importing import import_logs
place = Path(sys.argv[1])
before = int(open("/proc/self/status").read().split("VmData:")[1].split()[0])
resource.setrlimit(resource.RLIMIT_DATA, ((before << 10) + (60 << 20),) * 2)
assert not import_logs([place / "log.npz"], place / "mapping.toml", place / "batches").problems
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
