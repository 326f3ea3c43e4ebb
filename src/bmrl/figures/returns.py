"""Returns of test episodes: every episode, every method, every MDP."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from bmrl.figures.style import (
    COLUMNS,
    GREY,
    mdp_name,
    mdp_title,
    method_colour,
    method_names,
    note,
    number,
    panels,
    save,
    say,
    styled,
)

GOLDEN = 0.618034  # multiples of it, modulo 1, spread evenly: dots side by side without randomness


@styled()
def plot_returns(rows: Sequence[Mapping[str, Any]], references: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """A panel an MDP: a dot an episode, a bar with its value at the mean of each method.

    Where a method has several seeds, each is a column of its own below the method's bar, with a large dot at
    its mean.

    Args:
        rows: rows of results.json; those without returns are left out.
        references: {`mdp_name` of an MDP: {name: return}}, horizontal lines such as "standing" or "optimal".
        path: the PNG file to write.
    """
    rows = [row for row in rows if len(row["returns"])]
    names = method_names(rows)
    methods = list(dict.fromkeys(names))
    mdps = {mdp_name(row["mdp"]): row["mdp"] for row in rows}
    figure, grid = panels(len(mdps), (1.5 + 0.42 * max(len(methods), 4), 4.2))
    for axes, mdp in zip(grid, mdps, strict=False):
        for column, method in enumerate(methods):
            here = [
                row for row, name in zip(rows, names, strict=True) if name == method and mdp_name(row["mdp"]) == mdp
            ]
            if here:
                _draw_method(axes, column, here, method_colour(method))
        for name, value in references.get(mdp, {}).items():
            axes.axhline(value, color=GREY, linestyle=(0, (4, 3)), linewidth=1, zorder=1)
            note(axes, name, (1, value), (4, 0), axes.get_yaxis_transform(), ha="left", va="center", color=GREY)
        axes.set_title(mdp_title(mdps[mdp]), pad=20)
        axes.set_xticks(range(len(methods)), methods, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_xlim(-0.6, len(methods) - 0.4)
        axes.tick_params(axis="x", length=0)
        axes.grid(visible=False, axis="x")
    for axes in grid[::COLUMNS]:
        axes.set_ylabel("return")
    seeds = "ringed dot: mean of a seed   " if len({row["seed"] for row in rows}) > 1 else ""
    figure.supxlabel(f"dot: an episode   {seeds}bar: mean of all", fontsize=9, color="0.35")
    if not rows:
        say(grid[0], "no valid episode")
    save(figure, path)


def _draw_method(axes: Axes, column: int, rows: Sequence[Mapping[str, Any]], colour: str) -> None:
    seeds = sorted({row["seed"] for row in rows})
    by_seed = [np.concatenate([row["returns"] for row in rows if row["seed"] == seed]) for seed in seeds]
    width = 0.7 / len(seeds)
    for k, returns in enumerate(by_seed):
        centre = column + (k - (len(seeds) - 1) / 2) * width
        jitter = 0.8 * width * (np.arange(len(returns)) * GOLDEN % 1 - 0.5) if len(returns) > 1 else 0.0
        axes.scatter(centre + jitter, returns, s=14, color=colour, alpha=0.4, linewidths=0, zorder=2)
        if len(seeds) > 1:
            axes.scatter([centre], [returns.mean()], s=44, color=colour, edgecolors="white", linewidths=0.8, zorder=4)
    mean = float(np.concatenate(by_seed).mean())
    axes.plot([column - 0.4, column + 0.4], [mean, mean], color=colour, linewidth=2.5, zorder=3)
    note(axes, number(mean, 2), (column, 1), (0, 4), axes.get_xaxis_transform(), color=colour, fontweight="bold")
