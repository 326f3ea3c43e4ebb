import os
import subprocess
import sys
from pathlib import Path


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
        "jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)\n"
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
