"""A run that is small enough to be done often."""

from dataclasses import replace
from pathlib import Path

from bmrl.batch_rl import SAC, Algorithm, Cloning
from bmrl.batch_rl.teach import TeachConfig
from bmrl.engine import LOCAL, Engine, parts
from bmrl.experiments import get_experiment
from bmrl.experiments.experiment import Experiment
from bmrl.pipeline import Run, start_run

TINY = SAC(hidden=(8,), batch_size=8)
CLONING = Cloning(hidden=(8,), batch_size=8)


def toy(algorithm: Algorithm = CLONING, updates: int = 40) -> Experiment:
    smoke = get_experiment("point-goal", "smoke", 0)
    collecting = replace(smoke.collect, transitions=60, warmup=20, steps_per_train=20, sac=TINY)
    return replace(
        smoke, collect=collecting, teach={"default": TeachConfig(algorithm, updates, best=0.5, logs="shared")}
    )


def trained(directory: Path, experiment: Experiment, engine: Engine = LOCAL, resume: bool = False) -> Run:
    """Collection and phase 1."""
    run = start_run(directory, experiment)
    parts.collect_stage(run, engine, None)
    parts.phase_1_stages(run, ["default"], resume, engine)
    return run
