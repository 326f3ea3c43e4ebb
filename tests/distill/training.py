"""Phases 1 and 2 of the batches in a directory, with the families and the simulators out of reach."""

import importlib
import importlib.abc
import sys
from pathlib import Path

import bmrl  # noqa: F401  # before anything is blocked: what it brings is looked at

FORBIDDEN = ("bmrl.families", "bmrl.collect", "bmrl.evaluate", "gymnasium", "mujoco")

already = [name for name in sys.modules if name.startswith(FORBIDDEN)]
assert not already, f"import bmrl brings {already}"


class Blocker(importlib.abc.MetaPathFinder):
    """Refuses what training must not import."""

    def find_spec(self, fullname, path, target=None):
        if any(fullname == name or fullname.startswith(name + ".") for name in FORBIDDEN):
            raise ImportError(f"training imports {fullname}")


sys.meta_path.insert(0, Blocker())
for name in FORBIDDEN:
    try:
        importlib.import_module(name)
    except ImportError:
        continue
    raise AssertionError(f"{name} is not blocked")

import jax  # noqa: E402
import numpy as np  # noqa: E402

from bmrl.batch_rl import SAC  # noqa: E402
from bmrl.batch_rl.replay import stack  # noqa: E402
from bmrl.batch_rl.teach import TeachConfig, teach  # noqa: E402
from bmrl.data import read_batches  # noqa: E402
from bmrl.distill.contexts import ContextConfig  # noqa: E402
from bmrl.distill.distill import DistillConfig, distill, teacher_targets  # noqa: E402
from bmrl.distill.reward_model import RewardModelConfig  # noqa: E402
from bmrl.distill.student import StudentConfig  # noqa: E402
from bmrl.runs.metrics import Metrics  # noqa: E402

batches, out = Path(sys.argv[1]), Path(sys.argv[2])
out.mkdir()
jax.config.update("jax_num_cpu_devices", 2)
replay = stack(read_batches(batches))
config = DistillConfig(
    StudentConfig(2, "posterior", (), (), 4, (), (3,)),
    ContextConfig(2, relabel=True),
    updates=3,
    contexts=2,
    queries=4,
    reward_model=RewardModelConfig((), 2, updates=3, batch_size=4),
)
algorithm = SAC((), batch_size=4)
metrics = Metrics(out / "metrics.csv")
taught = teach(replay, TeachConfig(algorithm, 3), 0, out / "teachers", metrics, "teach", 1e9)
targets = teacher_targets(algorithm, taught.states, replay, 0, out)
student = distill(replay, targets, 0.0, config, 0, out / "student", metrics, "distill", 1e9)
for x in (targets.values, student.value.network.weights[0], student.encoder.network.weights[0]):
    assert np.isfinite(x).all()
print(f"trained on {jax.local_device_count()} devices")
