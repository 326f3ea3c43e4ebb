"""Fitted values of a policy, beside what was logged and, where somebody tried, beside what it really earns."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bmrl.figures.style import BLUE, GREY, ORANGE, panels, save, styled

LONGEST = 24  # letters of a name


@styled()
def plot_judgement(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Each MDP's fitted value with its interval, and what its log earned, in the order of the latter."""
    ordered = sorted(rows, key=lambda row: row["logged_value"])
    figure, (axes,) = panels(1, (max(4.0, 1.5 + 0.35 * len(rows)), 3.6))
    x, y = np.arange(len(ordered)), np.array([row["value"] for row in ordered])
    axes.errorbar(x, y, _bars(ordered, y), fmt="o", color=BLUE, capsize=3, label="the policy (estimate)")
    axes.plot(x, [row["logged_value"] for row in ordered], "s", color=GREY, label="logged")
    names = [row["imported"] or row["name"] for row in ordered]  # a user's: no formula, and it may be long
    shown = [name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…" for name in names]
    axes.set_xticks(x, shown, rotation=90, parse_math=False)
    axes.set_ylabel("discounted return")
    axes.legend(frameon=False, fontsize=9)
    save(figure, path)


@styled()
def plot_judged(groups: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """A panel a group: fitted values and logged ones over true returns ("truth" of each row); equal on the diagonal."""
    figure, grid = panels(len(groups), (4.2, 4.2), columns=2)
    for axes, (title, rows) in zip(grid, groups.items(), strict=True):
        truth, y = (np.array([row[name] for row in rows]) for name in ("truth", "value"))
        logged = np.array([row["logged_value"] for row in rows])
        axes.errorbar(truth, y, _bars(rows, y), fmt="o", color=BLUE, capsize=2, label="the policy (estimate)", zorder=3)
        axes.plot(truth, logged, "s", color=ORANGE, markersize=4, label="what was logged there", zorder=2)
        ends = [truth.min(), truth.max()]
        axes.plot(ends, ends, color=GREY, linewidth=1, zorder=1)
        axes.set_title(title.replace(", ", ",\n"))
        axes.set(xlabel="the policy's true discounted return", ylabel="discounted return")
    grid[0].legend(frameon=False, fontsize=9)
    save(figure, path)


def _bars(rows: Sequence[Mapping[str, Any]], y: np.ndarray) -> np.ndarray:
    """Lengths of the intervals below and above, [2, n]."""
    low, high = (np.array([row[name] for row in rows]) for name in ("low", "high"))
    return np.maximum([y - low, high - y], 0.0)
