"""How fast bmrl is, each figure beside a peer or a limit that did the same work in the same run.

    python -m benchmarks                         all of them, into docs/benchmarks.md: `make bench`
    python -m benchmarks phase1 start            some of them; the others' rows stay as they were
    python -m benchmarks --short --docs /tmp/docs        whether they run, in some minutes

A benchmark is a module with the functions of `Benchmark`, listed in ``__main__.py``. Its rows are kept as JSON in
docs/benchmarks/, and its section and picture are made of these alone. Sides that are compared take turns, and the best
turn of each counts: a busy neighbour can only take time away. `import_rows`, `paper_scale`, `runtime`, `cluster`, `gpu`
and `gpu_experiment` are commands of their own.
"""

from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

from matplotlib.figure import Figure

Rows: TypeAlias = list[dict[str, Any]]  # JSON values


class Target(NamedTuple):
    """What was to be reached, and what was."""

    what: str
    wanted: str
    found: str
    met: bool


class Benchmark(Protocol):
    """What a module of a benchmark offers."""

    def measure(self, place: Path, short: bool) -> Rows:
        """The rows. It works in ``place``, a directory of its own; ``short`` asks whether it runs, not for figures."""

    def section(self, rows: Rows) -> str:
        """Markdown below a headline "## ..." of its own."""

    def targets(self, rows: Rows) -> list[Target]:
        """What was to be reached."""

    def draw(self, rows: Rows) -> Figure:
        """The picture."""
