"""Campaigns that try to break bmrl, for hours where the tests have seconds, and the report of what they found.

    python -m torture                              all of them, into docs/reliability-report.md: `make torture`
    python -m torture kills-point-goal --minutes 10 --place torture-runs

A campaign is a function ``(place: Path, seconds: float) -> Section``. It works in the directory ``place``, which is
its own and may hold what an earlier call left there, begins nothing new after ``seconds``, and says in its section
how much of it was done. ``__main__.py`` lists the campaigns and collects their sections.
"""

from typing import NamedTuple


class Section(NamedTuple):
    """What a campaign found."""

    text: str  # Markdown below the campaign's own headline, "## ..." included
    failures: int  # of what must hold
