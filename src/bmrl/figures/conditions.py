"""Conditions or methods one below the other, every seed a dot."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from bmrl.figures.style import BLUE, GREY, note, number, panels, save, styled
from bmrl.statistics import iqm


@styled()
def plot_conditions(
    points: Sequence[Mapping[str, Any]],
    path: Path,
    xlabel: str,
    colours: Callable[[str], str] = lambda _: BLUE,
    dot: str = "a seed",
) -> None:
    """A panel a "panel", a row a "condition": a dot a point, a bar at their interquartile mean, which is the number.

    Args:
        points: with "panel", "condition" and "value".
        path: the PNG file to write.
        xlabel: of every panel.
        colours: of each condition.
        dot: what a point is.
    """
    names, conditions = (list(dict.fromkeys(point[key] for point in points)) for key in ("panel", "condition"))
    figure, grid = panels(len(names), (4.4, 1.2 + 0.34 * len(conditions)), sharey=True)
    for axes, name in zip(grid, names, strict=False):
        for k, condition in enumerate(conditions):
            values = [p["value"] for p in points if (p["panel"], p["condition"]) == (name, condition)]
            if not values:
                continue
            colour = colours(condition)
            middle, spread = float(iqm(values)), np.linspace(-0.15, 0.15, len(values)) if len(values) > 1 else [0]
            axes.scatter(values, k + np.array(spread), s=24, color=colour, edgecolors="white", linewidths=0.6, zorder=3)
            axes.plot([middle, middle], [k - 0.35, k + 0.35], color=colour, linewidth=2, zorder=4)
            note(
                axes, number(middle, 3), (1, k), (4, 0), axes.get_yaxis_transform(), ha="left", va="center", color=GREY
            )
        axes.set_yticks(range(len(conditions)), conditions)
        axes.set_ylim(len(conditions) - 0.5, -0.5)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.set(title=name, xlabel=xlabel)
    figure.supxlabel(f"dot: {dot}   bar and number: interquartile mean", fontsize=9, color="0.35")
    save(figure, path)
