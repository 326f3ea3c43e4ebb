"""Figure 2: returns and values over training, paths, final positions, and every method's results."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, MaxNLocator, MultipleLocator

from bmrl.families.point_goal import POINT_GOAL, RADIUS, goals
from bmrl.figures.style import (
    BLACK,
    GREY,
    RED,
    headline,
    method_colour,
    method_names,
    note,
    number,
    panels,
    parameter_colours,
    save,
    styled,
)

Row: TypeAlias = dict[str, Any]

NEAR = 1.0  # final distance to the goal: one move
FERMAT = (0.0, RADIUS / math.sqrt(3))  # nearest to the three goals together: it sees any two of them 120 degrees apart
# The names of the methods in the rows.
CONTROL, POOLED, CONTEXTUAL, TIME = "single-MDP teacher", "pooled", "contextual SAC", "tiMe"


def optimum() -> float:
    """The best possible return: the same on all three goals."""
    return max(POINT_GOAL.reference_returns(mdp)["optimal"] for mdp in POINT_GOAL.test_mdps())


def goal_name(row: Row) -> str:
    """ "goal 90°"."""
    return f"goal {number(math.degrees(row['mdp']['goal_angle']))}°"


def of_method(rows: Iterable[Row], method: str, variant: str = "") -> list[Row]:
    """The rows of a method and variant."""
    return [row for row in rows if (row["method"], row["variant"]) == (method, variant)]


def by_seed(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of each seed."""
    return [[row for row in rows if row["seed"] == seed] for seed in sorted({row["seed"] for row in rows})]


@styled()
def plot_figure2(curves: Sequence[Row], tests: Sequence[Row], path: Path) -> None:
    """The paper's three panels, the left one as two: returns and values are of different horizons and discounts."""
    figure, (returns, values, middle, right) = panels(4, (5.2, 4.4), columns=2)
    seeds = len({row["seed"] for row in tests})
    lines = "mean of the three goals" + (f"; thin: a seed, bold: the mean of {seeds}" if seeds > 1 else "")
    headline(returns, "zero-shot return of 20 steps", lines)
    for variant in dict.fromkeys(row["variant"] for row in curves if row["method"] == TIME):
        rows = of_method(curves, TIME, variant)
        _draw_curve(returns, rows, "return", method_names(rows)[0], method_colour(method_names(rows)[0]))
    _draw_curve(returns, of_method(curves, POOLED), "return", "pooled Batch SAC", RED)
    returns.axhline(optimum(), color=GREY, linestyle=(0, (4, 3)), linewidth=1, zorder=1, label="optimum")
    headline(values, "pooled Batch SAC: belief and truth", "discounted by .99, with the entropy bonus, without end")
    _draw_curve(values, of_method(curves, POOLED), "value_estimate", "its value of the first action", BLACK)
    _draw_curve(values, of_method(curves, POOLED), "discounted_soft_return", "what it then earns", RED)
    returns.set_xlabel("gradient steps; of phase 2 for tiMe, whose learners are taught before")
    values.set_xlabel("gradient steps")
    for axes in (returns, values):
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, frameon=False, fontsize=9)

    pooled = [
        row for row in of_method(tests, POOLED) if row["mdp"] == tests[0]["mdp"]
    ]  # it moves alike whatever the goal
    headline(middle, "pooled Batch SAC: its path", "a line a seed; the same whatever the goal")
    for row in pooled:
        middle.plot(*np.transpose(row["path"]), color=RED, linewidth=1.4, alpha=0.7, zorder=3)
        x, y = row["path"][-1]
        middle.scatter(x, y, s=60, color=RED, edgecolors="white", zorder=5)
    middle.scatter(FERMAT[0], FERMAT[1], marker="D", s=40, color="white", edgecolors=GREY, zorder=2)
    note(middle, "nearest to all goals", FERMAT, (0, -16), color=GREY, zorder=6)
    student = of_method(tests, TIME, "default")
    distance = np.mean([row["final_distance"] for row in student])
    ends = f"{student[0]['episodes']} episodes a goal{' and seed' if seeds > 1 else ''}"
    headline(right, "tiMe: final positions", f"{ends}, {distance:.2f} from the goal on average")
    norm, colours, angles = parameter_colours([row["mdp"] for row in student])
    for row, angle in zip(student, angles, strict=True):
        x, y = np.transpose(row["ends"])
        right.scatter(x, y, s=14, color=colours(norm(angle)), alpha=0.5, linewidths=0, zorder=3)
    for axes in (middle, right):
        axes.plot(*goals(np.linspace(0.0, math.pi, 100)).T, color=GREY, linestyle=":", linewidth=1, zorder=1)
        axes.scatter(0, 0, s=60, color=BLACK, zorder=4)
        note(axes, "start", (0, 0), (0, -16), zorder=6)
        for row in by_seed(student)[0]:
            x, y = goals(row["mdp"]["goal_angle"])
            colour = BLACK if axes is middle else colours(norm(math.degrees(row["mdp"]["goal_angle"])))
            axes.plot(x, y, marker="x", markersize=11, markeredgewidth=2.5, color=colour, zorder=4)
            note(axes, goal_name(row), (x, y), (0, 14 if y > RADIUS / 2 else -18))
        axes.set(xlim=(-13, 13), ylim=(-3, 13), aspect="equal", xlabel="x", ylabel="y")
        axes.xaxis.set_major_locator(MultipleLocator(5))
        axes.yaxis.set_major_locator(MultipleLocator(5))
    save(figure, path)


def _draw_curve(axes: Axes, rows: Sequence[Row], name: str, label: str, colour: str) -> None:
    """The mean over the MDPs: thin for every seed, bold for their mean."""
    lines = [np.mean([row[name] for row in some], axis=0) for some in by_seed(rows)]
    steps = rows[0]["updates"]
    if len(lines) > 1:
        for line in lines:
            axes.plot(steps, line, color=colour, linewidth=0.7, alpha=0.5, zorder=2)
    axes.plot(steps, np.mean(lines, axis=0), color=colour, linewidth=2.2, zorder=3, label=label)


@styled()
def plot_methods(tests: Sequence[Row], path: Path) -> None:
    """Return and final distance of every method, a column a goal: a dot a seed, a bar at their mean."""
    names = method_names(tests)
    methods, mdps = list(dict.fromkeys(names)), list(dict.fromkeys(goal_name(row) for row in tests))
    measures = {
        "return": (lambda row: row["return_mean"], optimum(), "optimum"),
        "final distance": (lambda row: np.mean(row["final_distance"]), NEAR, "one move"),
    }
    figure, grid = panels(len(measures) * len(mdps), (1.0 + 0.58 * len(methods), 3.4), columns=len(mdps), sharey="row")
    for k, axes in enumerate(grid):
        row_of_panels, column = divmod(k, len(mdps))
        label, (measure, line, meaning) = list(measures.items())[row_of_panels]
        for x, method in enumerate(methods):
            here = [row for row, n in zip(tests, names, strict=True) if n == method]
            values = [measure(row) for row in here if goal_name(row) == mdps[column]]
            mean, colour = float(np.mean(values)), method_colour(method)
            text, looks = number(round(mean, 2), 2), {"color": colour, "fontweight": "bold"}
            axes.scatter(np.full(len(values), x), values, s=28, color=colour, alpha=0.6, linewidths=0, zorder=3)
            axes.plot([x - 0.35, x + 0.35], [mean, mean], color=colour, linewidth=2.5, zorder=2)
            note(axes, text, (x, 1), (0, 4), axes.get_xaxis_transform(), **looks)
        axes.axhline(line, color=GREY, linestyle=(0, (4, 3)), linewidth=1, zorder=1)
        note(axes, meaning, (1, line), (4, 0), axes.get_yaxis_transform(), ha="left", va="center", color=GREY)
        last = row_of_panels == len(measures) - 1
        axes.set_xticks(range(len(methods)), methods if last else [], rotation=40, ha="right", rotation_mode="anchor")
        axes.set(xlim=(-0.6, len(methods) - 0.4), ylabel=label if column == 0 else "")
        axes.tick_params(axis="x", length=0)
        axes.grid(visible=False, axis="x")
        if row_of_panels == 0:
            axes.set_title(mdps[column], pad=20)
    save(figure, path)
