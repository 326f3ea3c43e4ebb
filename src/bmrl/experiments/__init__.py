"""Presets: every number of an experiment in one typed, resolved configuration."""

from collections.abc import Callable

from bmrl.errors import BmrlError
from bmrl.experiments import point_goal, velocity
from bmrl.experiments.experiment import Experiment as Experiment
from bmrl.experiments.experiment import Scale

EXPERIMENTS: dict[str, Callable[[Scale, int], Experiment]] = {
    "point-goal": point_goal.point_goal,
    "halfcheetah-velocity": velocity.halfcheetah_velocity,
    "hopper-velocity": velocity.hopper_velocity,
}


def get_experiment(name: str, scale: Scale, seed: int) -> Experiment:
    """The preset called ``name``; raises BmrlError listing the names if there is none."""
    if name not in EXPERIMENTS:
        raise BmrlError(f"unknown experiment {name!r}; choose one of {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name](scale, seed)
