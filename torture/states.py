"""Saves, kills, damage and resumption of checkpoints in any order: the state machine of the tests, for longer."""

import subprocess
import sys
from pathlib import Path

from torture import Section

MACHINE = Path(__file__).parents[1] / "tests" / "runs" / "machine.py"
EXAMPLES = 5000


def explore(place: Path, seconds: float) -> Section:
    """The campaign: so many sequences of operations; ``place`` stays empty, and ``seconds`` may be exceeded."""
    done = subprocess.run([sys.executable, str(MACHINE), str(EXAMPLES)], capture_output=True, text=True)
    found = (
        "none broke a rule" if not done.returncode else f"FAILED:\n\n```\n{(done.stdout + done.stderr)[-3000:]}\n```"
    )
    text = (
        f"## Checkpoints in any order\n\n{EXAMPLES:,} random sequences of saves, kills at a random call, damage and "
        f"resumption, against a model of what must then be on the disk: {found}."
    )
    return Section(text, int(done.returncode != 0))
