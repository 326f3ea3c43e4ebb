"""Velocities of robots over time."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bmrl.families import Parameters
from bmrl.families.velocity import VelocityFamily
from bmrl.figures.style import (
    BLACK,
    Rollouts,
    headline,
    label_edges,
    mdp_title,
    method_colour,
    note,
    number,
    panels,
    save,
    say,
    styled,
    valid_by_mdp,
)

TIME_STEPS = {"half_cheetah.xml": 0.05, "hopper.xml": 0.008}  # seconds of a control step of each body
SMOOTHING = 0.5  # seconds of the mean's moving window: about a stride


@styled()
def plot_velocities(
    family: VelocityFamily, method: str, episodes: Rollouts, mdps: Sequence[Parameters], path: Path
) -> None:
    """A panel an MDP: a thin line an episode, their smoothed mean bold, the target dashed, a cross at a fall.

    The mean ends where fewer than half of the episodes last.

    Args:
        family: a velocity family.
        method: whose episodes they are; gives the colour.
        episodes: n episodes with ``infos["x_velocity"]`` [n, T] in m/s.
        mdps: the MDP of each, [n].
        path: the PNG file to write.
    """
    groups, dt, colour = valid_by_mdp(episodes, mdps), TIME_STEPS[family.body.xml], method_colour(method)
    figure, grid = panels(len(groups), (3.7, 3.0), sharex=True, sharey=True)
    for axes, (mdp, indices) in zip(grid, groups, strict=False):
        target = float(family.target_velocity(mdp))
        axes.axhline(target, color=BLACK, linestyle=(0, (5, 3)), linewidth=1.2, zorder=4)
        note(axes, f"target {number(target, 4)}", (1, target), (0, 3), axes.get_yaxis_transform(), ha="right", zorder=6)
        lines = [episodes.infos["x_velocity"][i, : episodes.lengths[i]] for i in indices]
        for line in lines:
            seconds = dt * np.arange(1, len(line) + 1)
            axes.plot(seconds, line, color=colour, linewidth=0.6, alpha=0.3, zorder=2)
            if len(line) < family.horizon:
                axes.scatter(seconds[-1], line[-1], marker="x", s=30, color=colour, zorder=3)
        if lines:
            mean = smooth(mean_of_running(lines), round(SMOOTHING / dt))
            axes.plot(dt * np.arange(1, len(mean) + 1), mean, color=colour, linewidth=2.5, zorder=5)
        returns = episodes.rewards[indices].sum(1)
        detail = (
            f"return {number(returns.mean())} ± {returns.std():.2g}, n = {len(lines)}" if lines else "no valid episode"
        )
        headline(axes, mdp_title(mdp), detail)
        axes.set_xlim(0, dt * family.horizon)
    label_edges(grid, "time (s)", f"velocity of {method} (m/s)")
    if not groups:
        say(grid[0], "no valid episode")
    save(figure, path)


def mean_of_running(lines: Sequence[np.ndarray]) -> np.ndarray:
    """The mean at every step of the lines that last until then, while these are at least half of them."""
    steps = max(map(len, lines))
    table = np.full((len(lines), steps), np.nan)
    for row, line in zip(table, lines, strict=True):
        row[: len(line)] = line
    return np.nanmean(table[:, 2 * (~np.isnan(table)).sum(0) >= len(lines)], 0)


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """Moving average [m] over the values up to ``window`` // 2 away on either side, where there are so many."""
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    here = np.arange(len(values))
    low, high = np.maximum(here - window // 2, 0), np.minimum(here + window // 2 + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)
