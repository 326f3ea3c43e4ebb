"""The identities that the encoder infers while an episode runs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.ticker import MaxNLocator

from bmrl.families import Parameters
from bmrl.figures.style import (
    BLACK,
    Rollouts,
    note,
    panels,
    parameter_colours,
    quantity,
    save,
    say,
    styled,
    valid_by_mdp,
)
from bmrl.figures.velocities import mean_of_running

MAX_TICKS = 8  # of the colour bar, to name every MDP


@styled()
def plot_identities(episodes: Rollouts, mdps: Sequence[Parameters], path: Path) -> None:
    """Left: two principal components of the identities, a path an episode. Right: the first one over the steps.

    Thin lines are episodes, bold ones the means of each MDP's; the colour tells the MDP's first parameter. A
    ring is where all episodes begin, the blank identity; a dot is where an episode ends.

    Args:
        episodes: n episodes with ``identities`` [n, T, d_m].
        mdps: the MDP of each, [n].
        path: the PNG file to write.

    Raises:
        ValueError: there are no identities: the agent infers none.
    """
    if episodes.identities is None:
        raise ValueError("these episodes have no identities")
    figure, (left, right) = panels(2, (4.9, 3.9), columns=2)
    left.set_title("identities over an episode")
    right.set_title("first component over the steps")
    groups = [(mdp, indices) for mdp, indices in valid_by_mdp(episodes, mdps) if len(indices)]
    if not groups:
        for axes in (left, right):
            say(axes, "no valid episode")
        return save(figure, path)

    paths = {i: episodes.identities[i, : episodes.lengths[i]] for _, indices in groups for i in indices}
    points, explained = principal_components(np.concatenate(list(paths.values())))
    ends = np.cumsum([len(line) for line in paths.values()])
    paths = dict(zip(paths, np.split(points, ends[:-1]), strict=True))
    norm, colours, values = parameter_colours([mdp for mdp, _ in groups])
    for (_, indices), value in zip(groups, values, strict=True):
        lines, colour = [paths[i] for i in indices], colours(norm(value))
        for line in lines:
            left.plot(*line.T, color=colour, linewidth=0.7, alpha=0.35, zorder=2)
            left.scatter(line[-1][0], line[-1][1], s=14, color=colour, alpha=0.7, linewidths=0, zorder=3)
            right.plot(line[:, 0], color=colour, linewidth=0.6, alpha=0.3, zorder=2)
        means = np.stack([mean_of_running([line[:, axis] for line in lines]) for axis in (0, 1)])
        left.plot(*means, color=colour, linewidth=2.2, zorder=4)
        right.plot(means[0], color=colour, linewidth=2.2, zorder=4)

    starts = np.stack([line[0] for line in paths.values()])
    if (starts == starts[0]).all():  # not where the episodes began with the context of logs
        left.scatter(starts[0][0], starts[0][1], s=50, color="white", edgecolors=BLACK, zorder=6)
        note(left, "blank", tuple(starts[0]), (0, 8), zorder=6)
    axis_names = [f"PC {k + 1} ({share:.0%} of the variance)" for k, share in enumerate(explained)]
    left.set(xlabel=axis_names[0], ylabel=axis_names[1])
    left.set_aspect("equal", adjustable="datalim")
    right.set(xlabel="step of the episode", ylabel="PC 1")
    right.set_xmargin(0.0)
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    bar = figure.colorbar(ScalarMappable(norm, colours), ax=right, aspect=30)
    shown = quantity(next(iter(groups[0][0]), "MDP"))
    bar.set_label(f"{shown.name} ({shown.unit.strip()})" if shown.unit else shown.name)
    bar.outline.set_visible(False)
    if len(groups) <= MAX_TICKS:
        bar.set_ticks(sorted(values))
    save(figure, path)


def principal_components(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two principal components of points [m, d]: coordinates [m, 2] and their shares of the variance [2].

    The largest coefficient of a component is positive, so the signs are fixed. A component that the points do
    not have (d = 1, or all points the same) is zero.
    """
    centred = np.asarray(points, np.float64) - np.mean(points, 0, np.float64)
    _, lengths, components = np.linalg.svd(centred, full_matrices=False)
    components = components[:2]
    components = components * np.sign(components[np.arange(len(components)), np.abs(components).argmax(1)])[:, None]
    coordinates, shares = np.zeros((len(points), 2)), np.zeros(2)
    coordinates[:, : len(components)] = centred @ components.T
    if total := np.square(lengths).sum():
        shares[: len(components)] = np.square(lengths[:2]) / total
    return coordinates, shares
