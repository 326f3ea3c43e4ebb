"""How long an experiment takes at the paper's sizes: a slice of every stage, stopped and resumed, and its projection.

    python benchmarks/paper_scale.py halfcheetah-velocity --batches runs/halfcheetah-velocity-0/batches \\
        --out docs/results/paper-scale.md

Every stage runs the code, the networks, the minibatches and the number of MDPs of `--scale paper`. It is broken off in
the middle of its slice, as by a kill, and goes on from its checkpoint; its rate is the second half's, without what
is compiled. Phases 1 and 2 read the given batches, and phase 2 distils learners that have learned nothing.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bmrl import parallel
from bmrl.batch_rl.base import Algorithm
from bmrl.batch_rl.replay import Replay, select, stack
from bmrl.batch_rl.teach import TeachConfig, observation_normaliser, spec_of, teach
from bmrl.collect import collect
from bmrl.data import read_batches
from bmrl.distill.distill import DistillConfig, distill, teacher_targets
from bmrl.experiments import get_experiment
from bmrl.experiments.experiment import Experiment
from bmrl.families import get_family
from bmrl.runs.machine import machine
from bmrl.runs.metrics import Metrics
from bmrl.types import Watch

EPISODES = 20  # of each batch, for phase 2: more only make it start later
UPDATES = 4000  # a stage logs, and can be broken off, 400 times

Stage = Callable[[Path, float, Watch], Any]  # of a directory, the seconds between two checkpoints, and a watch


class TimeIsUp(Exception):
    """The slice is over."""


def rate(stage: Stage, seconds: float) -> tuple[float, int]:
    """Steps a second of a stage that was broken off after half of ``seconds``, and the step that it went on from."""

    def half(checkpoint_seconds: float) -> list[tuple[float, int]]:
        seen: list[tuple[float, int]] = []
        began = time.monotonic()

        def watch(step: int, _: Any) -> Mapping[str, np.ndarray]:
            seen.append((time.monotonic(), step))
            if time.monotonic() - began > seconds / 2 and len(seen) > 2:
                raise TimeIsUp
            return {}

        try:
            stage(directory, checkpoint_seconds, watch)
        except TimeIsUp:
            return seen
        raise RuntimeError("the slice has fewer steps than time")

    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        before, after = half(0.0), half(1e9)
    assert after[0][1] > before[0][1], "it began anew"
    return (after[-1][1] - after[0][1]) / (after[-1][0] - after[0][0]), before[-2][1]


def collecting(experiment: Experiment) -> Stage:
    """Collection in all train MDPs."""
    family, config = get_family(experiment.family), replace(experiment.collect, transitions=20_000)

    def stage(directory: Path, seconds: float, watch: Watch) -> None:
        out, checkpoints, metrics = (directory / name for name in ("batches", "checkpoints", "metrics.csv"))
        collect(
            family, family.train_mdps(), config, experiment.seed, out, checkpoints, Metrics(metrics), seconds, watch
        )

    return stage


def teaching(replay: Replay, config: TeachConfig, seed: int) -> Stage:
    """Phase 1 on all batches."""
    config = replace(config, updates=UPDATES)

    def stage(directory: Path, seconds: float, watch: Watch) -> None:
        metrics = Metrics(directory / "metrics.csv")
        teach(replay, config, seed, directory / "checkpoints", metrics, "teach", seconds, watch)

    return stage


def distilling(replay: Replay, algorithm: Algorithm, config: DistillConfig, seed: int) -> Stage:
    """Phase 2, of untrained learners."""
    spec, config = spec_of(replay), replace(config, updates=UPDATES)
    init = jax.jit(jax.vmap(lambda normaliser: algorithm.init(jax.random.PRNGKey(seed), spec, normaliser)))
    states = init(jax.tree.map(lambda *x: np.stack(x), *map(observation_normaliser, replay.logs)))
    bound = getattr(algorithm, "max_perturbation", 0.0)

    def stage(directory: Path, seconds: float, watch: Watch) -> None:
        metrics = Metrics(directory / "metrics.csv")
        targets = teacher_targets(algorithm, states, replay, seed, directory)
        distill(replay, targets, bound, config, seed, directory / "checkpoints", metrics, "distill", seconds, watch)

    return stage


def main() -> None:
    """Measure every stage; write OUT, a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment")
    parser.add_argument("--batches", type=Path, required=True, help="of another run of the same experiment")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each stage's slice, at least")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    parallel.set_up_jax()
    experiment = get_experiment(args.experiment, "paper", 0)
    replay = stack(read_batches(args.batches))
    few = Replay(tuple(select(log, lambda episodes: np.arange(min(episodes, EPISODES))) for log in replay.logs))
    stages = [("collect", collecting(experiment), experiment.collect.transitions)]
    for config in experiment.teach.values():
        algorithm = type(config.algorithm).__name__
        stages.append((f"teach ({algorithm})", teaching(replay, config, experiment.seed), config.updates))
    for variant, distill_config in experiment.distill.items():
        learner = experiment.teach[experiment.learners(variant)].algorithm
        stage = distilling(few, learner, distill_config, experiment.seed)
        stages.append((f"distill ({variant})", stage, distill_config.updates))
    lines = [
        f"# {args.experiment} at the paper's sizes",
        "",
        f"{len(replay)} MDPs on {machine()}. Each stage was broken off, went on from its checkpoint, and was "
        "measured then.",
        "",
        "| stage | went on from step | steps a second | steps in all | hours |",
        "|---|---|---|---|---|",
    ]
    total = 0.0
    for title, stage, steps in stages:
        speed, start = rate(stage, args.seconds)
        hours = steps / speed / 3600
        total += hours
        lines.append(f"| {title} | {start:,} | {speed:.3g} | {steps:,} | {hours:.1f} |")
        print(lines[-1], flush=True)
    options = f"--batches {args.batches} --seconds {args.seconds:g} --out {args.out}"
    lines += ["", f"Together {total:.0f} hours. `python benchmarks/paper_scale.py {args.experiment} {options}`", ""]
    args.out.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
