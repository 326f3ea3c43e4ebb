"""What a person can know of batches before training on them: a line an MDP, and every problem in them.

Whether training would take a batch is asked of the reader that training uses; nothing is checked a second time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.markup import escape
from rich.table import Table

from bmrl.data.batch import Batch, batch_names, batches_of, check_names, differences, examine_batch, traits
from bmrl.data.checks import FIELDS, Problems
from bmrl.errors import printable, shortened
from bmrl.runs.progress import Progress
from bmrl.runs.storage import locate, refuse_links

IMBALANCE = 10  # so many times as large as the median MDP is worth a note
MOST_COLUMNS = 5  # constant columns that are told one by one

_HASHED_BYTES = 1 << 24  # transitions are hashed this much at a time: a batch may exceed the memory


@dataclass(frozen=True)
class Summary:
    """What the batch of one MDP holds.

    Attributes:
        imported: the MDP's name in the logs that were imported, None if none were.
        transitions: how many.
        lengths: of the shortest episode, the mean one and the longest.
        episodes: how many.
        terminations: episodes that ended in a terminal state.
        truncations: episodes that were cut.
        duplicates: the part of the transitions that repeat an earlier one, bit for bit.
        rewards: the least and the greatest.
        actions: the least and the greatest component.
        constants: the columns of the observations that hold one value only.
        columns: how many columns the observations have.
        fixed: the components of the actions that hold one value only.
        content: the SHA-256 of the arrays that training reads.
        traits: what has to be the same in all MDPs.
        infos: the names of what else was logged.
    """

    imported: str | None
    transitions: int
    episodes: int
    lengths: tuple[int, float, int]
    terminations: int
    truncations: int
    duplicates: float
    rewards: tuple[float, float]
    actions: tuple[float, float]
    constants: list[int]
    columns: int
    fixed: list[int]
    content: tuple[str, ...]
    traits: dict[str, Any]
    infos: list[str]


@dataclass(frozen=True)
class Report:
    """Of the batches in ``root`` what each holds (None if it cannot be read), why training would refuse, and notes."""

    root: Path
    mdps: dict[str, Summary | None]
    problems: list[str]
    notes: list[str]


def validate(directory: Path) -> Report:
    """Reads all batches of a directory, or of the run directory that holds them in batches/.

    No problem hides another: of every field of every MDP its shape is told, and the first row of each kind of value
    that training would refuse. Memory: 8 bytes a transition of one MDP,
    for the hashes that find duplicates.

    Raises ``BmrlError`` where there is no batch, or a symbolic link.
    """
    refuse_links(directory)
    root = locate(batches_of(directory))
    names = batch_names(root)
    mdps: dict[str, Summary | None] = {}
    problems = Problems()
    with problems.noted():
        check_names(root, names)
    with Progress("validate", len(names)) as progress:
        for done, name in enumerate(names, start=1):
            batch, found = examine_batch(root / name)
            mdps[name] = summarise(batch) if batch else None
            problems += found
            progress.update(done)
    sound = {name: summary for name, summary in mdps.items() if summary}
    told = [str(problem) for problem in problems]
    if not sound:
        return Report(root, mdps, told, [])
    told += differences(root, {name: summary.traits for name, summary in sound.items()})
    return Report(root, mdps, told, _notes(root, sound))


def summarise(batch: Batch) -> Summary:
    """What a batch holds. Its arrays stay on the disk; the minima and maxima are taken as they stream by."""
    lengths = batch.episode_ends - batch.episode_starts
    return Summary(
        imported=batch.imported,
        transitions=batch.size,
        episodes=batch.episodes,
        lengths=(int(lengths.min()), float(lengths.mean()), int(lengths.max())),
        terminations=int(batch.terminations.sum()),
        truncations=int(batch.truncations.sum()),
        duplicates=_duplicates(batch),
        rewards=_range(batch.rewards),
        actions=_range(batch.actions),
        constants=_constants(batch.observations),
        columns=batch.observation_dim,
        fixed=_constants(batch.actions),
        content=tuple(batch.manifest["files"][f"{field}.npy"]["sha256"] for field in FIELDS),
        traits=traits(batch),
        infos=sorted(batch.infos),
    )


def report_table(report: Report) -> Table:
    """A line an MDP, with the user's own names where logs were imported; what cannot be read has dashes."""
    imported = any(found and found.imported for found in report.mdps.values())
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), collapse_padding=True, pad_edge=False)
    table.add_column("batch" if imported else "MDP", no_wrap=True)
    if imported:
        table.add_column("MDP", overflow="fold")
    for name in (
        "transitions",
        "episodes",
        "lengths\nmin/mean/max",
        "termi-\nnations",
        "trunca-\ntions",
        "dupli-\ncates",
        "rewards",
        "actions",
        "constant\ncolumns",
    ):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("sound")
    for name, found in report.mdps.items():
        if found is None:
            table.add_row(name, *["–"] * (10 if imported else 9), "no")
            continue
        shortest, mean, longest = found.lengths
        table.add_row(
            name,
            *([escape(printable(found.imported or "–"))] if imported else []),
            f"{found.transitions:,}",
            f"{found.episodes:,}",
            f"{shortest}/{mean:.4g}/{longest}",
            f"{found.terminations:,}",
            f"{found.truncations:,}",
            f"{found.duplicates:.1%}",
            _interval(found.rewards),
            _interval(found.actions),
            _columns(found),
            "yes",
        )
    return table


def _interval(bounds: Sequence[float]) -> str:
    return f"[{bounds[0]:.3g}, {bounds[1]:.3g}]"


def _columns(found: Summary) -> str:
    if len(found.constants) > MOST_COLUMNS:
        return f"{len(found.constants)} of {found.columns}"
    return ", ".join(map(str, found.constants)) or "none"


def _range(array: NDArray[np.float32]) -> tuple[float, float]:
    return float(array.min()), float(array.max())


def _constants(array: NDArray[np.float32]) -> list[int]:
    """The columns that hold one value only."""
    constants: list[int] = np.flatnonzero(array.min(axis=0) == array.max(axis=0)).tolist()
    return constants


def _duplicates(batch: Batch) -> float:
    """By a 64-bit hash of every transition; that two others share theirs is too rare to change a digit."""
    # Multilinear: the sum of the 32-bit words, each times a random odd number, modulo 2^64.
    width = 2 * batch.observation_dim + batch.action_dim + 2
    factors = np.random.default_rng(0).integers(2**63, size=width, dtype=np.uint64) * 2 + 1
    hashes = np.empty(batch.size, np.uint64)
    step = max(1, _HASHED_BYTES // (8 * width))
    for start in range(0, batch.size, step):
        part = slice(start, start + step)
        rows = batch.rows(np.arange(start, min(start + step, batch.size)))
        transitions = np.column_stack(
            [
                batch.observations[rows],
                batch.actions[part],
                batch.rewards[part],
                batch.observations[rows + 1],
                batch.terminations[part],
            ]
        )
        hashes[part] = transitions.astype(np.float32).view(np.uint32).astype(np.uint64) @ factors
    hashes.sort()
    return np.count_nonzero(hashes[1:] == hashes[:-1]) / batch.size


def _notes(root: Path, mdps: dict[str, Summary]) -> list[str]:
    """What training takes, and a person may want to know."""
    notes = differences(root, {name: {"info fields": summary.infos} for name, summary in mdps.items()})
    median = float(np.median([summary.transitions for summary in mdps.values()]))
    notes += [
        f"{root / name} is {summary.transitions / median:.0f} times as large as the median MDP; training draws "
        "equally many transitions of each MDP, whatever its size"
        for name, summary in mdps.items()
        if summary.transitions >= IMBALANCE * median
    ]
    copies: dict[tuple[str, ...], list[str]] = {}
    for name, summary in mdps.items():
        copies.setdefault(summary.content, []).append(name)
    notes += [f"{root}: the same data in {shortened(names)}" for names in copies.values() if len(names) > 1]
    for says, holds in _ODD.items():
        if names := [name for name, summary in mdps.items() if holds(summary)]:
            notes.append(f"{root}: {says}: {shortened(names)}")
    return notes


# What logs seldom are on purpose.
_ODD: dict[str, Callable[[Summary], bool]] = {
    "nothing ends an episode before the data ends": lambda found: found.episodes == 1 and found.terminations == 0,
    "no observation ever changes": lambda found: len(found.constants) == found.columns,
    "the action has components that never change, so that nobody can learn what they do": lambda found: bool(
        found.fixed
    ),
}
