"""HalfCheetah at the paper's sizes, from an empty directory to figure 3, with fewer updates than its preset, timed.

    python -m benchmarks.gpu_experiment --updates 50000 --student-updates 60000 --out runs/gpu \\
        --beside docs/results/figure3/results.json

tiMe, its oracle and the nearest learners, with every stage's time. It resumes. SAC from scratch, which has the paper's
sizes at every scale, is drawn beside them from the rows of ``bmrl reproduce figure3``.
"""

import argparse
import functools
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bmrl import parallel
from bmrl.config import to_json
from bmrl.experiments import get_experiment
from bmrl.experiments.experiment import Experiment, Scale
from bmrl.figures.scratch import plot_figure3
from bmrl.reproduce import figure3
from bmrl.reproduce.markdown import table
from bmrl.reproduce.runs import run_directory, working_run
from bmrl.reproduce.study import Row, Study, Unit, run_study
from bmrl.runs.progress import warn_on_terminal
from bmrl.runs.storage import read_json

NAME = "halfcheetah-velocity"


def shortened(experiment: Experiment, updates: int, student_updates: int) -> Experiment:
    """Fewer updates of each learner and student; TD3+BC has twice as many as BCQ, as in the presets."""
    scale = updates / experiment.teach["paper"].updates
    teach = {name: replace(config, updates=round(scale * config.updates)) for name, config in experiment.teach.items()}
    students = {name: replace(config, updates=student_updates) for name, config in experiment.distill.items()}
    return replace(experiment, teach=teach, distill=students)


def zero_shot(experiment: Experiment, directory: Path) -> list[Row]:
    """The pipeline, and what its students do in the test MDPs."""
    with working_run(experiment, directory, tuple(experiment.teach), tuple(experiment.distill)) as run:
        return figure3.tested(run, tuple(experiment.distill))


def stages(directory: Path) -> str:
    """Markdown: the seconds of every finished stage of a run."""
    found = re.findall(r"INFO ([\w-]+): finished after (\d+) s", (directory / "log.txt").read_text())
    return table(("stage", "seconds"), found)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", choices=("smoke", "paper"), default="paper")
    parser.add_argument("--updates", type=int, required=True, help="of each BCQ learner")
    parser.add_argument("--student-updates", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=Path, help="holds the run directory; OUT/runs if not given")
    parser.add_argument("--beside", type=Path, required=True, help="results.json of figure 3")
    args = parser.parse_args()
    warn_on_terminal()
    parallel.set_up_jax()
    runs = args.runs or args.out / "runs"
    directory, unit = run_directory(NAME, args.seed, runs), f"{NAME}/seed-{args.seed}"

    def units(scale: Scale, seeds: Sequence[int], _: Path) -> list[Unit]:
        experiment = shortened(get_experiment(NAME, scale, seeds[0]), args.updates, args.student_updates)
        work = functools.partial(zero_shot, experiment, directory)
        return [Unit(f"{unit}/tiMe", to_json(experiment), work)]

    def page(rows: list[Row], out: Path) -> str:
        scratch = read_json(args.beside)["units"][f"{unit}/scratch"]["rows"]
        beside = [{"unit": f"{unit}/scratch", **row} for row in scratch if "interactions" in row]
        plot_figure3([*rows, *beside], out / "figure3.png")
        returns = figure3.returns(NAME, figure3.end_points([*rows, *beside]))
        return "\n".join(
            [__doc__, "![Zero-shot beside SAC from scratch](figure3.png)", "", *returns, "", stages(directory)]
        )

    run_study("figure3", Study(units, page), args.scale, [args.seed], args.out, runs, "*")


if __name__ == "__main__":
    main()
