"""Paths of point-goal episodes over the plane (the paper's Figure 2)."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.ticker import MultipleLocator

from bmrl.families import Parameters
from bmrl.families.point_goal import RADIUS, goals
from bmrl.figures.style import (
    BLACK,
    GREY,
    Rollouts,
    headline,
    label_edges,
    note,
    number,
    panels,
    parameter_colours,
    save,
    say,
    styled,
    valid_by_mdp,
)

MARGIN = 3.2  # around the paths and goals, in the plane's units


@styled()
def plot_trajectories(methods: Mapping[str, tuple[Rollouts, Sequence[Parameters]]], path: Path) -> None:
    """A panel a method: paths from the start to a dot, in the colour of the goal (a star) that each should reach.

    Args:
        methods: {method: (its episodes, the MDP of each)}.
        path: the PNG file to write.
    """
    norm, colours, _ = parameter_colours([mdp for _, mdps in methods.values() for mdp in mdps])
    figure, grid = panels(len(methods), (3.7, 3.5), sharex=True, sharey=True)
    reached = [np.array([[-RADIUS, 0.0], [RADIUS, RADIUS]])]
    for axes, (method, (episodes, mdps)) in zip(grid, methods.items(), strict=False):
        axes.plot(*goals(np.linspace(0.0, math.pi, 100)).T, color=GREY, linestyle=":", linewidth=1, zorder=1)
        distances: list[float] = []
        for mdp, indices in valid_by_mdp(episodes, mdps):
            goal, degrees = goals(mdp["goal_angle"]), math.degrees(mdp["goal_angle"])
            colour = colours(norm(degrees))
            paths = [episodes.observations[i, : episodes.lengths[i] + 1, :2] for i in indices]
            ends = np.array([points[-1] for points in paths]).reshape(-1, 2)
            for points in paths:
                axes.plot(*points.T, color=colour, linewidth=1.4, alpha=0.6, zorder=3)
            axes.scatter(ends[:, 0], ends[:, 1], s=16, color=colour, edgecolors="white", linewidths=0.5, zorder=5)
            axes.plot(*goal, marker="*", markersize=22, color="white", markeredgecolor=colour, zorder=2)
            note(axes, f"{number(degrees)}°", tuple(goal), tuple(goal / RADIUS * 22), va="center", zorder=6)
            distances += np.linalg.norm(ends - goal, axis=1).tolist()
            reached += paths
        axes.scatter(0, 0, s=36, color="white", edgecolors=BLACK, zorder=6)
        note(axes, "start", (0, 0), (0, -15), zorder=6)
        mean = f"ends {np.mean(distances):.2f} from the goal on average" if distances else "no valid episode"
        headline(axes, method, mean)
        axes.set_aspect("equal")
        axes.xaxis.set_major_locator(MultipleLocator(5))
        axes.yaxis.set_major_locator(MultipleLocator(5))
    label_edges(grid, "x", "y")
    low, high = np.concatenate(reached).min(0) - MARGIN, np.concatenate(reached).max(0) + MARGIN
    grid[0].set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))  # the panels share them
    if not methods:
        say(grid[0], "no valid episode")
    save(figure, path)
