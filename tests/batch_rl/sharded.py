"""Phase 1 of 11 learners over so many devices: `sharded.py DEVICES OUT.npz`. The number of devices is a process's."""

import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

from bmrl.batch_rl import TD3BC
from bmrl.batch_rl.replay import Episodes, Replay
from bmrl.batch_rl.teach import TeachConfig, teach
from bmrl.runs.metrics import Metrics

devices, out = int(sys.argv[1]), Path(sys.argv[2])
jax.config.update("jax_num_cpu_devices", devices)


def log(k):
    rng = np.random.default_rng(k)
    s, a = rng.normal(size=(41, 3)).astype(np.float32), rng.uniform(-1, 1, (40, 2)).astype(np.float32)
    return Episodes(s, a, rng.normal(size=40).astype(np.float32), np.zeros(40, bool), np.array([40]))


with tempfile.TemporaryDirectory() as directory:
    place = Path(directory)
    config = TeachConfig(TD3BC((8,), batch_size=16), 20)
    taught = teach(
        Replay(tuple(map(log, range(11)))), config, 0, place / "kept", Metrics(place / "m.csv"), "teach", 1e9
    )
assert jax.local_device_count() == devices
np.savez(out, *jax.tree.leaves(taught))
