"""Pictures of Proposition 1's study, from its rows: seeds thin or as dots, their mean bold."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bmrl.figures.returns import GOLDEN
from bmrl.figures.style import (
    BLACK,
    BLUE,
    COLUMNS,
    GREEN,
    GREY,
    ORANGE,
    RED,
    headline,
    note,
    number,
    panels,
    save,
    styled,
)
from bmrl.tabular import SCHEDULES

Rows = Sequence[dict[str, Any]]

# Who acts, with colours and labels.
METHODS = {
    "pooled": (RED, "pooled Q"),
    "own": (GREEN, "own batch's Q"),
    "told": (BLACK, "Q, identity told"),
    "inferred": (BLUE, "Q, identity inferred"),
}
ACTION_LABELS = ("a1", "a2", "c")


def part(rows: Rows, name: str, **fields: Any) -> list[dict[str, Any]]:
    """The rows of one part of the study, with these values of these fields."""
    return [row for row in rows if row["part"] == name and all(row[key] == value for key, value in fields.items())]


# ---------------------------------------------------------------------- one state


@styled()
def plot_counterexample(rows: Rows, path: Path, updates: Sequence[int]) -> None:
    """Q-learning's two values over its updates, beside what each convention calls optimal."""
    rows = part(rows, "counterexample")
    figure, (axes,) = panels(1, (7.2, 3.6))
    for row, style in zip(rows, ("-", (0, (1.5, 1.5))), strict=False):
        q = np.array(row["q"])
        for action, colour, name in ((0, BLUE, "Q(a0)"), (1, RED, "Q(a1), never logged")):
            label = f"{name}, α = {row['schedule']}"
            axes.plot(updates, q[action], color=colour, linestyle=style, linewidth=2.2, label=label, zorder=3)
    for value, text in (
        (rows[0]["absorbing"][0], "Q*(a0), both"),
        (rows[0]["self-loop"][1], "Q*(a1) as stated: self-loop"),
        (rows[0]["absorbing"][1], "Q*(a1) corrected: absorbing"),
    ):
        axes.axhline(value, color=GREY, linestyle=(0, (5, 3)), linewidth=1, zorder=1)
        note(axes, f"{number(value)}  {text}", (updates[-1], value), (8, 0), ha="left", va="center", color="0.3")
    axes.set(xscale="log", xlabel="updates", ylabel="value", xlim=(updates[0], updates[-1]), ylim=(-0.6, 10.8))
    _legend(figure, *axes.get_legend_handles_labels(), columns=2)
    save(figure, path)


@styled()
def plot_worked_example(rows: Rows, path: Path) -> None:
    """What the pool says each action pays, and what its agent believes and earns, over both proportions."""
    expertise, share = (part(rows, "worked example", sweep=sweep)[0] for sweep in ("expertise", "share"))
    figure, grid = panels(4, (4.6, 3.3), columns=2, sharex="col")
    for column, (row, label) in enumerate(
        ((expertise, "share of a1 in M1's data, of a2 in M2's"), (share, "share of M1 in the pool, uniform actions"))
    ):
        above, below = grid[column], grid[2 + column]
        rewards, earned = np.array(row["rewards"]), np.array(row["earned"])
        looks = ((BLUE, "-", 2.2), (ORANGE, (0, (3, 2)), 2.2), (GREY, "-", 2.2))
        for action, (colour, style, width) in enumerate(looks):
            axis: Any = {"color": colour, "linestyle": style, "linewidth": width, "marker": "o", "markersize": 3.5}
            above.plot(row["points"], rewards[action], label=f"R^({ACTION_LABELS[action]})", **axis)
        below.plot(row["points"], row["belief"], color=BLACK, linewidth=2.2, label="believed by the pooled agent")
        for mdp, (colour, style) in enumerate(((BLUE, "-"), (ORANGE, (0, (3, 2))))):
            label_mdp = f"earned in M{mdp + 1}"
            below.plot(row["points"], earned[mdp], color=colour, linestyle=style, linewidth=2.2, label=label_mdp)
        taken = [ACTION_LABELS[k] for k in row["choice"]]
        starts = [k for k in range(len(taken)) if k == 0 or taken[k] != taken[k - 1]]
        for start, end in zip(starts, [*starts[1:], len(taken)], strict=True):
            middle = (row["points"][start] + row["points"][end - 1]) / 2
            note(below, f"takes {taken[start]}", (middle, 1), (0, 5), below.get_xaxis_transform(), color="0.3")
            if start:
                for axes in (above, below):
                    edge = (row["points"][start - 1] + row["points"][start]) / 2
                    axes.axvline(edge, color=GREY, linewidth=1, linestyle=(0, (1, 2)), zorder=1)
        above.set_ylim(-0.05, 1.08)
        if rewards[2, -1] < rewards[2, 0]:
            note(above, "c is never logged", (row["points"][-1], rewards[2, -1]), (-8, -3), ha="right", color="0.3")
        below.set(ylim=(-0.5, 10.8), xlabel=label)
    grid[0].set_ylabel("mean reward in the pool")
    grid[2].set_ylabel("discounted return")
    top, bottom = grid[0].get_legend_handles_labels(), grid[2].get_legend_handles_labels()
    _legend(figure, top[0] + bottom[0], top[1] + bottom[1], columns=3)
    save(figure, path)


# ---------------------------------------------------------------------- random MDPs


@styled()
def plot_convergence(rows: Rows, path: Path, updates: Sequence[int]) -> None:
    """A panel a schedule: sup-norm distances from Q* under both conventions."""
    figure, grid = panels(len(SCHEDULES), (3.7, 3.1), sharex=True, sharey=True)
    for axes, (name, schedule) in zip(grid, SCHEDULES.items(), strict=True):
        found = part(rows, "convergence", schedule=name)
        for key, colour in (("self_loop", RED), ("absorbing", BLUE)):
            errors = np.array([row[key] for row in found])
            draw_seeds(axes, updates[: errors.shape[1]], errors, colour)
        meets = "meets" if schedule.meets_conditions else "breaks"
        headline(axes, f"α = {name}", f"{meets} the conditions")
        axes.set(xscale="log", yscale="log")
    for k, axes in enumerate(grid):
        axes.tick_params(labelbottom=True)
        axes.set(xlabel="updates", ylabel="sup-norm error" if k % COLUMNS == 0 else "")
    lines = [Line2D([], [], color=RED, linewidth=2.2), Line2D([], [], color=BLUE, linewidth=2.2)]
    _legend(figure, lines, ["from Q* as stated (self-loop)", "from Q* as corrected (absorbing)"], columns=2)
    save(figure, path)


@styled()
def plot_regret(rows: Rows, path: Path, titles: Sequence[str], steps: Sequence[int]) -> None:
    """Regret of each method in every MDP for two kinds of data, and the posterior of the MDP that is acted in.

    Args:
        rows: of the study.
        path: the PNG file to write.
        titles: of the kinds of data that the rows tell in detail.
        steps: of an episode, at which the rows tell the posterior.
    """
    figure, grid = panels(len(titles) + 1, (4.2, 4.0))
    for kind, (axes, title) in enumerate(zip(grid, titles, strict=False)):
        for column, (method, (colour, _)) in enumerate(METHODS.items()):
            regrets = np.array([row["regret"][kind] for row in part(rows, "regret", method=method)]).ravel()
            _draw_dots(axes, column, regrets, colour, spread=0.5)
        uniform = np.mean([row["regret"] for row in part(rows, "uniform actions")])
        axes.axhline(uniform, color=GREY, linestyle=(0, (5, 3)), linewidth=1, zorder=1)
        note(axes, "uniform actions, mean", (1, uniform), (-2, 4), axes.get_yaxis_transform(), ha="right", color="0.3")
        axes.set_title(title, pad=20)
        labels = [label.replace(", ", ",\n") for _, label in METHODS.values()]
        axes.set_xticks(range(len(METHODS)), labels, rotation=35, ha="right", rotation_mode="anchor")
        axes.grid(visible=False, axis="x")
        axes.set(xlim=(-0.6, len(METHODS) - 0.4))
    top = max(axes.get_ylim()[1] for axes in grid[:-1])
    for axes in grid[:-1]:
        axes.set_ylim(-0.05 * top, top)
    grid[0].set_ylabel("regret")
    posteriors = np.array([row["right"] for row in part(rows, "posterior")])
    for k, (title, colour) in enumerate(zip(titles, (BLUE, ORANGE), strict=True)):
        draw_seeds(grid[-1], steps, posteriors[:, k], colour, title)
    grid[-1].set_title("posterior of the right MDP", pad=20)
    grid[-1].set(xlabel="transitions seen in the episode", ylim=(0, 1.03))
    grid[-1].legend(loc="lower right", frameon=False, fontsize=9)
    save(figure, path)


@styled()
def plot_proportions(rows: Rows, path: Path, expertise: Sequence[float], shares: Sequence[float]) -> None:
    """Regret over the first MDP's share, regret over expertise, over-estimation over expertise."""
    figure, grid = panels(3, (4.2, 3.7))
    found = part(rows, "share")
    for key, colour, label in (("first", BLUE, "in M1"), ("others", ORANGE, "in the others, mean")):
        draw_seeds(grid[0], shares, np.array([row[key] for row in found]), colour, label)
    headline(grid[0], "pooled Q's regret", "uniform data")
    grid[0].set(xlabel="share of M1 in the pool", ylabel="regret")
    for axes, key, methods in (
        (grid[1], "mean_regret", ("pooled", "inferred", "told")),
        (grid[2], "overestimation", ("pooled", "told")),
    ):
        for method in methods:
            colour, label = METHODS[method]
            means = np.array([row[key] for row in part(rows, "regret", method=method)])
            draw_seeds(axes, expertise, means, colour, label)
        axes.set(xlabel="share of logged steps by the optimal policy, else uniform")
    headline(grid[1], "regret", "mean of the MDPs")
    headline(grid[2], "believed minus earned return", "mean of the MDPs")
    for axes in grid:
        axes.legend(loc="upper left", frameon=False, fontsize=9)
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.3 * (high - low))  # room for the legend
    save(figure, path)


@styled()
def plot_sign(rows: Rows, path: Path) -> None:
    """How often the greedy agent takes what was never tried, and its regret, before and after subtracting 1."""
    figure, grid = panels(2, (3.8, 3.4))
    for axes, key, title in (
        (grid[0], "untried", "takes an untried action"),
        (grid[1], "regret", "regret, mean of the MDPs"),
    ):
        values = np.array([row[key] for row in part(rows, "sign")])
        axes.plot([0, 1], values.T, color=GREY, linewidth=0.6, alpha=0.5, zorder=2)
        for column, colour in enumerate((GREEN, RED)):
            _draw_dots(axes, column, values[:, column], colour, spread=0.0)
        axes.set_title(title, pad=20)
        axes.set_xticks([0, 1], ["rewards 0 and 1", "rewards −1 and 0"])
        axes.set_xlim(-0.6, 1.6)
        axes.grid(visible=False, axis="x")
    grid[0].set_ylabel("share of the states that have one")
    grid[0].set_ylim(-0.05, 1.08)
    save(figure, path)


# ---------------------------------------------------------------------- parts of pictures


def draw_seeds(axes: Axes, x: Sequence[float], values: np.ndarray, colour: str, label: str | None = None) -> None:
    """A thin line a seed of values [seeds, n], and their mean."""
    axes.plot(x, values.T, color=colour, linewidth=0.6, alpha=0.35, zorder=2)
    axes.plot(x, values.mean(0), color=colour, linewidth=2.2, zorder=3, label=label)


def _draw_dots(axes: Axes, column: float, values: np.ndarray, colour: str, spread: float) -> None:
    """A dot a value, side by side over ``spread``, a bar at their mean, and the mean in figures above the panel."""
    offsets = spread * (np.arange(len(values)) * GOLDEN % 1 - 0.5) if len(values) > 1 else 0.0
    axes.scatter(column + offsets, values, s=14, color=colour, alpha=0.4, linewidths=0, zorder=3)
    axes.plot([column - 0.35, column + 0.35], [values.mean()] * 2, color=colour, linewidth=2.5, zorder=4)
    text = f"{values.mean():.2f}"
    note(axes, text, (column, 1), (0, 4), axes.get_xaxis_transform(), color=colour, fontweight="bold")


def _legend(figure: Figure, handles: Sequence[Any], labels: Sequence[str], columns: int) -> None:
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
