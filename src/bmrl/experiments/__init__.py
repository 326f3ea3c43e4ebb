"""Presets: every number of an experiment in one typed, resolved configuration."""

from collections.abc import Callable
from numbers import Integral
from typing import cast, get_args

from bmrl.errors import BmrlError
from bmrl.experiments import dynamics, own, point_goal, thermostat, velocity
from bmrl.experiments.experiment import Experiment as Experiment
from bmrl.experiments.experiment import Scale

EXPERIMENTS: dict[str, Callable[[Scale, int], Experiment]] = {
    "point-goal": point_goal.point_goal,
    "halfcheetah-velocity": velocity.halfcheetah_velocity,
    "hopper-velocity": velocity.hopper_velocity,
    "halfcheetah-dynamics": dynamics.halfcheetah_dynamics,
    "halfcheetah-velocity-dynamics": dynamics.halfcheetah_velocity_dynamics,
    "thermostat": thermostat.thermostat,
    "own": own.own_family,
}


def get_experiment(name: str, scale: str, seed: int) -> Experiment:
    """A preset, every number resolved.

    Args:
        name: of the experiment, e.g. "point-goal".
        scale: "smoke", "laptop" or "paper".
        seed: of all that is random.

    Raises:
        BmrlError: there is no such experiment or scale, lists what there is; or a seed that is none.
    """
    if name not in EXPERIMENTS:
        raise BmrlError(f"unknown experiment {name!r}; choose one of {', '.join(EXPERIMENTS)}")
    if scale not in get_args(Scale):
        raise BmrlError(f"unknown scale {scale!r}; choose one of {', '.join(get_args(Scale))}")
    if not isinstance(seed, Integral) or not 0 <= seed < 2**31:
        raise BmrlError(f"seed {seed!r}: a whole number in 0 ... 2147483647 is needed")
    return EXPERIMENTS[name](cast(Scale, scale), int(seed))
