"""What an import tells: what the rows of every MDP became, and what the mapping has to say first."""

from collections import Counter
from dataclasses import dataclass

from rich import box
from rich.markup import escape
from rich.table import Table

from bmrl.data.checks import LARGEST
from bmrl.data.mapping import Mapping
from bmrl.errors import printable

COUNTS = {
    "rows": "rows",
    "transitions": "transi-\ntions",
    "episodes": "episodes",
    "terminated": "termi-\nnated",
    "truncated": "trun-\ncated",
    "cut": "cut by\nthe log",
    "gaps": "gaps\nin time",
    "missing": "with missing\nvalues",
    "jumps": "jumps",
    "duplicates": "duplicates\ndropped",
    "observations": "observation\nalone",
    "unused": "unused\nrows",
}
ALWAYS = ("rows", "transitions", "episodes")

# What can be wrong with rows -> the mapping's line to change, and what it may say.
SAYS = {
    "order": ("unordered", 'an earlier episode goes on in the next row: unordered = "sort" puts rows in order'),
    "backwards": (
        "unordered",
        'time goes back in the next row: unordered = "sort" puts rows in order',
    ),
    "repeated": (
        "duplicates",
        'the next row has the same time: duplicates = "first" or "last" keeps one of them',
    ),
    "gap": (
        "gaps",
        'the next row is not a step away: gaps = "cut" ends episodes there, "keep" goes on; or another step',
    ),
    "terminal": (
        "terminal_observation",
        'a terminal transition whose next observation is not in the log: map next_observations, or say "repeat" (the '
        'row\'s own, on which no value depends) or "drop"; or outcome_of = "last action", if the row is the terminal '
        "state",
    ),
    "action missing": ("missing", 'the action is missing, amid an episode: missing = "cut" ends episodes at such rows'),
    "value missing": ("missing", 'a value is missing: missing = "cut" ends episodes at such rows'),
    "value too large": (
        "missing",
        f"a value is infinite, or of a size above {LARGEST:.1e}: give it in another unit, or "
        'missing = "cut" ends episodes at such rows',
    ),
    "outside": (
        "low",
        "an action lies outside of its bounds: low and high are those of what can be asked for, in its own unit "
        "(choices, as 0, 1, 2, are discrete actions: no learner of bmrl has them)",
    ),
    "whole": (
        "low",
        "all actions are whole numbers. If they are choices, they are discrete: bmrl's learners have continuous "
        "actions only (discrete ones would need a value for each choice). If they are amounts, say so by low and high",
    ),
    "alone": ("episode", "no row is followed by another one of its episode: there is no transition"),
}
CHANGES = {"backwards": "autumn", "repeated": "autumn", "gap": "spring"}  # problems that a clock's change makes


@dataclass
class Problem:
    """Why an import is refused: a key of `SAYS`, where it is at first, and in how many rows."""

    kind: str
    where: str
    count: int


@dataclass(frozen=True)
class Imported:
    """What was imported, or why nothing was.

    Attributes:
        mdps: {name in the logs: what was counted}.
        problems: (MDP's name in the logs, the problem); batches are written only if there is none.
    """

    mdps: dict[str, Counter[str]]
    problems: list[tuple[str, Problem]]
    mapping: Mapping


def counts_table(imported: Imported) -> Table:
    """A line an MDP: what its rows became; without columns of zeros, so that it fits a terminal."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), collapse_padding=True, pad_edge=False)
    table.add_column("batch", no_wrap=True)
    table.add_column("MDP", overflow="fold")
    seen = [key for key in COUNTS if key in ALWAYS or any(counts[key] for counts in imported.mdps.values())]
    for key in seen:
        table.add_column(COUNTS[key], justify="right", overflow="fold")
    for number, (name, counts) in enumerate(imported.mdps.items()):
        cells = [f"{counts[key]:,}" for key in seen]
        table.add_row("–" if imported.problems else f"mdp-{number:03d}", escape(printable(name)), *cells)
    return table


def problems_table(imported: Imported) -> Table:
    """A line a problem: where it is at first, how often, and what the mapping may say about it."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), collapse_padding=True, pad_edge=False)
    for head in ("MDP", "first at", "rows", "mapping", "what, and what to say"):
        table.add_column(head, overflow="fold", justify="right" if head == "rows" else "left")
    for name, problem in imported.problems:
        key, what = SAYS[problem.kind]
        if problem.kind in CHANGES and imported.mapping.timezone is None:
            what += f'; a clock that is changed in {CHANGES[problem.kind]} needs its timezone = "Europe/Vienna"'
        line = imported.mapping.lines.get(key)
        place = f"line {line}: {key}" if line else f"add {key}"
        told = (escape(printable(text)) for text in (name, problem.where))
        table.add_row(*told, f"{problem.count:,}", escape(place), escape(what))
    return table
