"""Pictures of the study of the identity: every seed a dot or a thin line."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D

from bmrl.figures.style import (
    BLACK,
    BLUE,
    FALLBACK,
    GREEN,
    ORANGE,
    PINK,
    RED,
    panels,
    parameter_colours,
    quantity,
    save,
    styled,
)
from bmrl.statistics import iqm

Row = Mapping[str, Any]

LINES = (BLUE, ORANGE, GREEN, RED, PINK, *FALLBACK)


@styled()
def plot_decoding(rows: Sequence[Row], path: Path) -> None:
    """A panel a student: the error of the decoded velocity over an episode, a thin line an MDP and seed.

    Args:
        rows: with "variant", "mdp", "seed", and "error", m/s after 1, 2, ... transitions.
        path: the PNG file to write.
    """
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    norm, colours, _ = parameter_colours([row["mdp"] for row in rows])
    figure, grid = panels(len(variants), (4.9, 3.7), sharey=True)
    for axes, variant in zip(grid, variants, strict=False):
        here = [row for row in rows if row["variant"] == variant]
        for row in here:
            steps = np.arange(1, len(row["error"]) + 1)
            colour = colours(norm(next(iter(row["mdp"].values()))))
            axes.plot(steps, row["error"], color=colour, linewidth=0.8, alpha=0.8)
        mean = np.mean([row["error"] for row in here], axis=0)
        axes.plot(np.arange(1, len(mean) + 1), mean, color=BLACK, linewidth=2.2)
        axes.set(xscale="log", xlabel="transitions of the episode", title=variant)
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    grid[0].set_ylabel("error of the decoded velocity (m/s)")
    grid[0].set_ylim(bottom=0)  # of all, once everything is drawn
    _velocity_bar(figure, grid[-1], norm, colours)
    figure.supxlabel("thin: an MDP and seed, mean of its episodes   thick: mean of all", fontsize=9, color="0.35")
    save(figure, path)


@styled()
def plot_space(rows: Sequence[Row], path: Path) -> None:
    """A panel a student and seed: two principal components of identities, coloured by the MDP's velocity.

    Args:
        rows: with "variant", "seed", "split", "mdp", "points" [n, 2] and "explained" [2].
        path: the PNG file to write.
    """
    groups = list(dict.fromkeys((row["variant"], row["seed"]) for row in rows))
    norm, colours, _ = parameter_colours([row["mdp"] for row in rows])
    figure, grid = panels(len(groups), (4.4, 3.9))
    for axes, (variant, seed) in zip(grid, groups, strict=False):
        here = [row for row in rows if (row["variant"], row["seed"]) == (variant, seed)]
        for row in here:
            colour, x = colours(norm(next(iter(row["mdp"].values())))), np.array(row["points"])
            if row["split"] == "train":
                axes.scatter(x[:, 0], x[:, 1], s=10, color=colour, linewidths=0, alpha=0.7, zorder=2)
            else:
                marker = "D" if row["split"] == "test" else "s"
                looks: Any = {"s": 26, "marker": marker, "edgecolors": BLACK, "linewidths": 0.6, "zorder": 3}
                axes.scatter(x[:, 0], x[:, 1], color=colour, **looks)
        shares = here[0]["explained"]
        axes.set(title=f"{variant}, seed {seed}", xlabel=f"PC 1 ({shares[0]:.0%})", ylabel=f"PC 2 ({shares[1]:.0%})")
    _velocity_bar(figure, grid[-1], norm, colours)
    figure.supxlabel(
        "dots: logs of train MDPs\nat the end of own episodes: diamonds test, squares validation",
        fontsize=9,
        color="0.35",
    )
    save(figure, path)


def _velocity_bar(figure: Any, axes: Axes, norm: Normalize, colours: Any) -> None:
    bar = figure.colorbar(ScalarMappable(norm, colours), ax=axes, aspect=30)
    shown = quantity("target_velocity")
    bar.set_label(f"{shown.name} ({shown.unit.strip()})")
    bar.outline.set_visible(False)


@styled()
def plot_relabelling(rows: Sequence[Row], path: Path) -> None:
    """A panel a student: how often the identity is that of the MDP that paid, mean over the seeds.

    Args:
        rows: with "variant", "velocities" [K] and "identity" [K][K], None on the diagonal.
        path: the PNG file to write.
    """
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    figure, grid = panels(len(variants), (4.4, 3.9))
    for axes, variant in zip(grid, variants, strict=False):
        here = [row for row in rows if row["variant"] == variant]
        at = here[0]["velocities"]
        share = np.mean([np.array(row["identity"], float) for row in here], axis=0)
        edges = (at[0] - 0.5 * (at[1] - at[0]), at[-1] + 0.5 * (at[-1] - at[-2]))
        image = axes.imshow(share, vmin=0, vmax=1, origin="lower", extent=(*edges, *edges), cmap="viridis")
        axes.set(title=variant, xlabel="velocity that the rewards are for (m/s)")
        axes.grid(visible=False)
        bar = figure.colorbar(image, ax=axes, aspect=30)
        bar.outline.set_visible(False)
    grid[0].set_ylabel("velocity of the transitions' MDP (m/s)")
    bar.set_label("contexts nearest to the MDP that paid")
    save(figure, path)


@styled()
def plot_lines(
    points: Sequence[Row], path: Path, *, xlabel: str, ylabel: str, log: bool = False, span: Sequence[float] = ()
) -> None:
    """A panel a "panel", a colour a "line": a thin line a seed over "x", thick their interquartile mean.

    Where a line has a single "x", that is a diamond. Points whose "x" is None are drawn as a horizontal line, dashed.

    Args:
        points: with "panel", "line", "x", "seed" and "value".
        path: the PNG file to write.
        xlabel: of every panel.
        ylabel: of the first.
        log: whether x is drawn by its logarithm, with a tick at every value.
        span: an interval of x to shade.
    """
    names, lines = (list(dict.fromkeys(point[key] for point in points)) for key in ("panel", "line"))
    figure, grid = panels(len(names), (5.2, 3.9), sharey=True)
    for axes, name in zip(grid, names, strict=False):
        if span:
            axes.axvspan(*span, color="0.94", zorder=0)
        for line, colour in zip(lines, _cycle(len(lines)), strict=True):
            here = [point for point in points if (point["panel"], point["line"]) == (name, line)]
            for seed in dict.fromkeys(point["seed"] for point in here):
                own = sorted((p["x"], p["value"]) for p in here if p["seed"] == seed and p["x"] is not None)
                axes.plot(*zip(*own, strict=True), color=colour, linewidth=0.7, alpha=0.6, marker=".") if own else None
            xs = sorted({point["x"] for point in here if point["x"] is not None})
            middles = [float(iqm([point["value"] for point in here if point["x"] == x])) for x in xs]
            axes.plot(xs, middles, color=colour, linewidth=2.2, marker="D" if len(xs) == 1 else "")
            if flat := [point["value"] for point in here if point["x"] is None]:
                axes.axhline(float(iqm(flat)), color=colour, linewidth=1.5, linestyle=(0, (5, 3)))
        axes.set(xlabel=xlabel, title=name)
        if log:
            ticks = sorted({point["x"] for point in points if point["x"] is not None})
            axes.set_xscale("log")
            axes.set_xticks(ticks, [f"{x:g}" for x in ticks], minor=False)
            axes.minorticks_off()
    grid[0].set_ylabel(ylabel)
    handles = [Line2D([], [], color=c, linewidth=2.2, label=x) for x, c in zip(lines, _cycle(len(lines)), strict=True)]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    save(figure, path)


def _cycle(count: int) -> list[str]:
    return [LINES[k % len(LINES)] for k in range(count)]
