"""Campaigns that try to break bmrl, for hours where the tests have seconds, and the report of what they found.

    python -m torture                              all of them, into docs/reliability-report.md: `make torture`
    python -m torture kills-point-goal --minutes 10 --place torture-runs

A campaign is a function ``(place: Path, seconds: float) -> Section``. It works in the directory ``place``, which is
its own and may hold what an earlier call left there, begins nothing new after ``seconds``, and says in its section
how much of it was done. ``__main__.py`` lists the campaigns and collects their sections.
"""

import subprocess
from pathlib import Path
from typing import NamedTuple


class Section(NamedTuple):
    """What a campaign found."""

    text: str  # Markdown below the campaign's own headline, "## ..." included
    failures: int  # of what must hold


def code() -> str:
    """The commit of the code that is tried, "-dirty" behind it where files differ; "unknown" outside of a clone."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"
