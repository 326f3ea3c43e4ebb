import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from bmrl import parallel
from bmrl.errors import BmrlError


def test_learners_over_devices():
    script = Path(__file__).with_name("devices.py")
    done = subprocess.run([sys.executable, "-W", "error", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "passed\n"


def test_an_entry_of_the_cache_that_was_cut_short_is_warned_of_once(tmp_path):
    code = (
        "import logging, jax\n"
        "from bmrl import parallel\n"
        "logging.basicConfig()\n"
        "parallel.set_up_jax()\n"
        "parallel.mend_cache()\n"
        "print(jax.jit(lambda x: x + 1)(1))\n"
    )

    def said():
        environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
        words = [sys.executable, "-c", code]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr
        return done.stderr.count("Error reading persistent compilation cache entry")

    assert said() == 0
    for entry in (tmp_path / "bmrl" / "jax").glob("jit__lambda-*"):
        os.truncate(entry, entry.stat().st_size // 2)
    assert [said(), said()] == [1, 0]


def test_eight_devices_train_what_one_does(tmp_path):
    script, found = Path(__file__).with_name("sharded.py"), {}
    for devices in (1, 8):
        words = [sys.executable, "-W", "error", script, str(devices), tmp_path / f"{devices}.npz"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        found[devices] = np.load(tmp_path / f"{devices}.npz")
    assert found[1].files
    for name in found[1].files:
        assert len(found[8][name]) == 11
        np.testing.assert_allclose(found[8][name], found[1][name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cpu", [True, False])
def test_an_accelerator_multiplies_for_all_learners_at_once(cpu, monkeypatch):
    weights, inputs = np.ones((3, 4, 4), np.float32), np.arange(24, dtype=np.float32).reshape(3, 2, 4)
    monkeypatch.setattr(parallel, "on_cpu", lambda: cpu)
    program = parallel.over_learners(lambda w, x: x @ w, at_once=1)
    text = program.lower(weights, inputs).as_text()
    assert ("while" in text, "batching_dims" in text) == (cpu, not cpu)
    np.testing.assert_allclose(program(weights, inputs), inputs @ weights)


def test_what_is_drawn_for_an_accelerator_is_drawn_by_the_cpu():
    found = parallel.on_host_alone(lambda key: {"x": jax.random.normal(key, (3,))})(np.zeros(2, np.uint32))
    assert isinstance(found["x"], np.ndarray)
    np.testing.assert_array_equal(found["x"], jax.random.normal(jax.random.PRNGKey(0), (3,)))


def test_jax_without_the_cpu_is_told(monkeypatch):
    def devices(backend=None):
        raise RuntimeError(f"Unknown backend: '{backend}' requested")

    monkeypatch.setattr(jax, "local_devices", devices)
    with pytest.raises(
        BmrlError, match="JAX_PLATFORMS leaves out the CPU: name it behind the accelerator, as cuda,cpu"
    ):
        parallel.on_host_alone(lambda: 0)()
