"""Training curves."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from bmrl.figures.style import BLUE, GREY, panels, save, say, styled
from bmrl.runs.metrics import Metric, read_metrics

LOG_RATIO = 100  # a metric whose values are positive and span more than this has a logarithmic axis


@styled()
def plot_curves(metrics: Path, directory: Path) -> list[Path]:
    """Write ``curves-STAGE.png`` for every stage, a panel a metric: learners thin, their mean bold.

    Args:
        metrics: metrics.csv.
        directory: where the PNG files go.

    Returns:
        The files, in the order of the stages.

    Raises:
        CorruptError: ``metrics`` is missing or something else.
    """
    stages: dict[str, dict[str, list[Metric]]] = {}
    for row in read_metrics(metrics):
        stages.setdefault(row.stage, {}).setdefault(row.name, []).append(row)
    files = []
    for stage, names in stages.items():
        figure, grid = panels(len(names), (3.1, 2.3), columns=4)
        learners = len({row.learner for rows in names.values() for row in rows} - {None})
        figure.suptitle(f"{stage}: mean of {learners} learners" if learners > 1 else stage, fontsize=13)
        for axes, (name, rows) in zip(grid, names.items(), strict=True):
            axes.set_title(name.replace("_", " "), fontsize=11)
            _draw_metric(axes, rows)
        files.append(directory / f"curves-{stage.replace('/', '-')}.png")
        save(figure, files[-1])
    return files


def _draw_metric(axes: Axes, rows: Sequence[Metric]) -> None:
    steps, table = tabulate(rows)
    values = table[np.isfinite(table)]
    axes.set_xlabel("step")
    if not len(values):
        return say(axes, "never finite")
    if len(table) > 1:
        for line in table:
            axes.plot(steps, line, color=GREY, linewidth=0.6, alpha=0.45, zorder=2)
    finite = np.isfinite(table).sum(0)
    mean = np.where(finite > 0, np.nansum(table, 0) / np.maximum(finite, 1), np.nan)
    axes.plot(steps, mean, color=BLUE, linewidth=2, zorder=3, marker="o" if len(steps) == 1 else "")
    if values.min() > 0 and values.max() > LOG_RATIO * values.min():
        axes.set_yscale("log")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def tabulate(rows: Sequence[Metric]) -> tuple[np.ndarray, np.ndarray]:
    """One metric's steps [m] and values [learners, m]: NaN where a learner has none or not a finite one."""
    steps = sorted({row.step for row in rows})
    learners = sorted({-1 if row.learner is None else row.learner for row in rows})
    table = np.full((len(learners), len(steps)), np.nan)
    columns, lines = {step: k for k, step in enumerate(steps)}, {learner: k for k, learner in enumerate(learners)}
    for row in rows:
        if np.isfinite(row.value):
            table[lines[-1 if row.learner is None else row.learner], columns[row.step]] = row.value
    return np.array(steps), table
