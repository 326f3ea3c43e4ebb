import subprocess
import sys
from pathlib import Path

EXAMPLES = 20  # python tests/runs/machine.py 5000 runs more


def test_save_kill_damage_and_resume_in_any_order():
    command = [sys.executable, Path(__file__).with_name("machine.py"), str(EXAMPLES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
