"""A PI controller with optimal start, tuned on the very house that it is tested in."""

from collections.abc import Sequence
from itertools import product

import numpy as np

from bmrl.controllers import KINDS, PI, ControllerAgent, Settings
from bmrl.evaluate.rollout import run_episodes
from bmrl.families.base import Array, Parameters
from bmrl.families.thermostat import ThermostatFamily

RESET_TIME = 2.0  # h
GRID = {
    "above_comfort": (-1.0, -0.8, -0.6, -0.3),  # K of the setpoint, of which the band allows down to -1
    "setback": (3.0, 4.0, 5.0),  # K
    "gain": (0.3, 0.6, 1.0),  # of the capacity for a K
    "start": (0.3, 0.6, 1.0),  # hours ahead for each K that is missing
}


def settings_of(mdps: Sequence[Parameters], points: Array) -> Settings:
    """PI thermostats at points of the grid's axes, [n, 4], one for each of n houses."""
    above, setback, gain, start = np.asarray(points, np.float64).T
    unused, comfort = np.zeros(len(mdps)), np.array([mdp["comfort_temperature"] for mdp in mdps])
    return Settings(
        kind=np.full(len(mdps), KINDS.index(PI)),
        setpoint=comfort + above,
        setback=setback,
        deadband=unused,
        warm_from=unused,
        warm_until=unused,
        gain=gain,
        reset_time=np.full(len(mdps), RESET_TIME),
        start=start,
        offsets=np.zeros((len(mdps), 1)),
    )


def tune(family: ThermostatFamily, mdps: Sequence[Parameters], weeks: int, seed: int) -> Array:
    """For each house the point of the grid, [n, 4], with the best mean return over some weeks of its own weather."""
    slots = [mdp for mdp in mdps for _ in range(weeks)]
    points = list(product(*GRID.values()))
    found = []
    for point in points:
        agent = ControllerAgent(settings_of(slots, np.tile(point, (len(slots), 1))))
        found.append(run_episodes(family, slots, agent, seed).returns.reshape(len(mdps), weeks).mean(1))
    return np.array(points)[np.argmax(found, axis=0)]
