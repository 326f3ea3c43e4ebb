"""The CEM ablation: what each way to choose actions earns, and by how much Q_S errs on them."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
from matplotlib.axes import Axes

from bmrl.families import get_family
from bmrl.figures.style import BLACK, BLUE, GREY, ORANGE, RED, panels, quantity, save, styled
from bmrl.statistics import ERRORS, Mean, mean

FAMILY = "halfcheetah-velocity"
PARAMETER = "target_velocity"
OWN = "G_S, xi_S"  # whose actions tiMe takes
METHODS = {"tiMe": BLUE, "CEM on Q_S": RED, "random shooting on Q_S": ORANGE}
ACTIONS = {OWN: BLUE, "CEM": RED, "uniform": BLACK}
DASHES = (0, (4, 3))

Samples: TypeAlias = dict[tuple[str, float, int], np.ndarray]
"""(method or kind of action, target velocity, seed) -> [n]."""


Means: TypeAlias = dict[tuple[str, float, int], Mean]


@styled()
def plot_cem_ablation(earned: Samples, estimates: Samples, monte_carlo: Samples, excess: Means, path: Path) -> None:
    """What each way to choose earns, what Q_S promises beside what is earned, and by how much it errs."""
    figure, (left, middle, right) = panels(3, (4.6, 4.4))
    family = get_family(FAMILY)
    _draw_groups(left, {key: mean(sample) for key, sample in earned.items()}, METHODS)
    for place, mdp in enumerate(sorted({mdp for _, mdp, _ in earned})):
        standing = family.reference_returns({PARAMETER: mdp})["standing"]
        label = "standing still" if place == 0 else None
        left.plot([place - 0.4, place + 0.4], [standing] * 2, color=GREY, linestyle=DASHES, label=label)
    left.set(title="Zero-shot returns", ylabel="return")

    for kind, colour in reversed(ACTIONS.items()):
        keys = [key for key in estimates if key[0] == kind]
        for key in keys:
            label = kind if key == keys[0] else None
            middle.scatter(monte_carlo[key], estimates[key], 8, colour, alpha=0.35, linewidths=0, label=label)
    if estimates:
        known = np.concatenate([*estimates.values(), *monte_carlo.values()])
        ends = [known.min(), known.max()]
        middle.plot(ends, ends, color=GREY, linewidth=1, linestyle=DASHES, label="what is true")
    middle.set(title="One action, then tiMe", xlabel="Monte-Carlo return", ylabel="Q_S(s, a, m)")

    _draw_groups(right, excess, {kind: colour for kind, colour in ACTIONS.items() if kind != OWN})
    right.axhline(0, color=GREY, linewidth=1)
    right.set(title="Over-estimation", ylabel="more than of G_S, xi_S")
    for axes in (left, middle, right):
        if axes.get_legend_handles_labels()[0]:
            below = (0.5, -0.17)
            axes.legend(loc="upper center", bbox_to_anchor=below, ncols=2, frameon=False, fontsize=9, markerscale=2)
    told = f"left and right: a dot is a seed, with {ERRORS:g} standard errors; a bar is the mean of the seeds"
    figure.supxlabel(told, fontsize=9, color="0.35")
    save(figure, path)


def _draw_groups(axes: Axes, means: Means, series: Mapping[str, str]) -> None:
    """A group an MDP: for each of the series a bar at its mean, a dot a seed with its errors."""
    mdps = sorted({mdp for _, mdp, _ in means})
    width = 0.8 / len(series)
    for column, (name, colour) in enumerate(series.items()):
        label: str | None = name
        for place, mdp in enumerate(mdps):
            own = {seed: x for (one, at, seed), x in means.items() if (one, at) == (name, mdp)}
            if not own:
                continue
            centre = place + (column - (len(series) - 1) / 2) * width
            x = centre + 0.6 * width * (np.arange(len(own)) - (len(own) - 1) / 2) / len(own)
            values = np.array([x.value for x in own.values()])
            errors = np.nan_to_num([ERRORS * x.error for x in own.values()], posinf=0.0)
            axes.errorbar(x, values, errors, color=colour, linestyle="", marker="o", markersize=4, elinewidth=1)
            axes.plot(centre + 0.42 * width * np.array([-1, 1]), [values.mean()] * 2, color=colour, label=label)
            label = None
    axes.set_xticks(range(len(mdps)), [f"{mdp:g}" for mdp in mdps])
    axes.set_xlabel(f"{quantity(PARAMETER).name} (m/s)")
    axes.grid(visible=False, axis="x")
