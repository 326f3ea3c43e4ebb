"""Figure 3: returns over the interactions of SAC from scratch, beside policies that need none."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from bmrl.figures.style import GREY, mdp_name, method_colour, panels, save, styled
from bmrl.statistics import iqm

PAPER_WINDOW = 100  # evaluations over which the paper's curves are smoothed (appendix B); how far apart is not said


@styled()
def plot_figure3(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """A panel an MDP: SAC's curve of every seed and of their middle, tiMe's zero-shot return as a line and dots.

    Args:
        rows: rows of methods, and rows of curves, which have "interactions" and as many means of returns.
        path: the PNG file to write.
    """
    mdps = sorted({(row["family"], tuple(row["mdp"].items())) for row in rows})
    figure, grid = panels(len(mdps), (4.2, 3.6))
    for axes, (family, mdp) in zip(grid, mdps, strict=False):
        here = [row for row in rows if row["family"] == family and tuple(row["mdp"].items()) == mdp]
        _draw_curves(axes, [row for row in here if "interactions" in row])
        _draw_zero_shot(axes, [row for row in here if row["method"] == "tiMe" and row["variant"] == "default"])
        axes.set_title(f"{family.removesuffix('-velocity')}, {mdp_name(dict(mdp)).removeprefix('target velocity ')}")
        axes.set_xlabel("SAC's interactions")
        axes.set_ylabel("return")
        axes.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if x else "0")
    legend = (
        "grey: SAC from scratch, raw (thin: a seed, thick: interquartile mean; dotted: "
        f"mean of the last {PAPER_WINDOW} evaluations, as in the paper, or of all so far)   "
        "blue: tiMe zero-shot, without any interaction (dot: a seed, line: interquartile mean)"
    )
    wide = int(15.5 * figure.get_figwidth())  # letters of this size
    figure.supxlabel(textwrap.fill(legend, wide, replace_whitespace=False), fontsize=9, color="0.35")
    save(figure, path)


def _draw_curves(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        axes.set_xticks([])
        return
    for row in rows:
        axes.plot(row["interactions"], row["return_mean"], color=GREY, linewidth=0.7, alpha=0.6)
    shortest = min(len(row["interactions"]) for row in rows)
    middle = iqm([row["return_mean"][:shortest] for row in rows], axis=0)
    steps = rows[0]["interactions"][:shortest]
    axes.plot(steps, middle, color="0.25", linewidth=2)
    smoothed = [middle[max(0, i + 1 - PAPER_WINDOW) : i + 1].mean() for i in range(shortest)]
    axes.plot(steps, smoothed, color="0.25", linewidth=1, linestyle=":")


def _draw_zero_shot(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    means, colour = [row["return_mean"] for row in rows if row["return_mean"] is not None], method_colour("tiMe")
    if not means:
        return
    axes.axhline(float(iqm(means)), color=colour, linewidth=2)
    axes.set_xlim(left=0)
    right = axes.get_xlim()[1]
    axes.scatter(np.linspace(0.9, 0.98, len(means)) * right, means, s=30, color=colour, edgecolors="white", zorder=4)
