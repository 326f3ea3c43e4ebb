import subprocess
import sys
from pathlib import Path


def test_learners_over_devices():
    script = Path(__file__).with_name("devices.py")
    done = subprocess.run([sys.executable, "-W", "error", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "passed\n"
