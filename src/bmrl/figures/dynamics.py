"""Changing transitions: how well an episode tells its MDP."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bmrl.families.base import Family
from bmrl.figures.style import BLACK, method_colour, method_names, panels, quantity, save, styled


@styled()
def plot_decoding_over_steps(
    family: Family, rows: Sequence[Mapping[str, Any]], steps: Sequence[int], told: np.ndarray, path: Path
) -> None:
    """A panel a parameter: its error over the steps, a thin line a seed, their mean bold, for both students."""
    count = len(family.parameter_names)
    figure, grid = panels(count, (2.9, 3.2), columns=count, sharex=True, sharey=True)
    for axes, name, floor in zip(grid, family.parameter_names, told, strict=True):
        for variant in ("default", "reward-only"):
            label = method_names([{"method": "tiMe", "variant": variant}])[0]
            own = [row for row in rows if row["variant"] == variant]
            seeds = sorted({row["seed"] for row in own})
            lines = [np.mean([r["error"][name] for r in own if r["seed"] == seed], axis=0) for seed in seeds]
            for line in lines:
                axes.plot(steps, line, color=method_colour(label), linewidth=0.8, alpha=0.5, zorder=2)
            axes.plot(steps, np.mean(lines, axis=0), color=method_colour(label), linewidth=2.5, label=label, zorder=3)
        axes.axhline(floor, color=BLACK, linestyle=(0, (4, 3)), linewidth=1, label="oracle's mixture", zorder=1)
        axes.set_title(quantity(name).name)
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xticks([0, 1, 4, 16, 64, 200], ["0", "1", "4", "16", "64", "200"])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("steps of the episode")
    grid[0].set_ylim(0, None)
    grid[0].set_ylabel("error (share of range)")
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    save(figure, path)
