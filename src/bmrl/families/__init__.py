"""Families of MDPs: what to train on, what to test on, and how to simulate it. NumPy only."""

from bmrl.errors import BmrlError
from bmrl.families.base import Family, Parameters, Simulator, Step
from bmrl.families.dynamics import HALF_CHEETAH_DYNAMICS, HALF_CHEETAH_VELOCITY_DYNAMICS
from bmrl.families.gymnasium_family import GymnasiumFamily
from bmrl.families.point_goal import POINT_GOAL
from bmrl.families.thermostat import THERMOSTAT
from bmrl.families.velocity import HALF_CHEETAH_VELOCITY, HOPPER_VELOCITY

__all__ = ["FAMILIES", "Family", "GymnasiumFamily", "Parameters", "Simulator", "Step", "get_family"]

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        POINT_GOAL,
        HALF_CHEETAH_VELOCITY,
        HOPPER_VELOCITY,
        HALF_CHEETAH_DYNAMICS,
        HALF_CHEETAH_VELOCITY_DYNAMICS,
        THERMOSTAT,
    )
}

LOADED: dict[str, Family] = {}
"""Families of users' own files, by FILE.py:NAME, that `bmrl.families.own.load_family` has loaded in this process."""


def get_family(name: str) -> Family:
    """The family of that name.

    Raises:
        BmrlError: there is none; lists the names. A user's own that was not loaded: no name loads a file.
    """
    if name in FAMILIES:
        return FAMILIES[name]
    if name in LOADED:
        return LOADED[name]
    if ".py:" in name:
        raise BmrlError(f"the family {name} is of a file of yours, which only you can run: add --family PATH/{name}")
    raise BmrlError(f"unknown family {name!r}; the families are {', '.join(FAMILIES)}")
