"""Families of MDPs: what to train on, what to test on, and how to simulate it. NumPy only."""

from bmrl.errors import BmrlError
from bmrl.families.base import Family, Parameters, Simulator, Step
from bmrl.families.dynamics import HALF_CHEETAH_DYNAMICS, HALF_CHEETAH_VELOCITY_DYNAMICS
from bmrl.families.point_goal import POINT_GOAL
from bmrl.families.velocity import HALF_CHEETAH_VELOCITY, HOPPER_VELOCITY

__all__ = ["FAMILIES", "Family", "Parameters", "Simulator", "Step", "get_family"]

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        POINT_GOAL,
        HALF_CHEETAH_VELOCITY,
        HOPPER_VELOCITY,
        HALF_CHEETAH_DYNAMICS,
        HALF_CHEETAH_VELOCITY_DYNAMICS,
    )
}


def get_family(name: str) -> Family:
    """The family of that name.

    Raises:
        BmrlError: there is none; lists the names.
    """
    if name not in FAMILIES:
        raise BmrlError(f"unknown family {name!r}; the families are {', '.join(FAMILIES)}")
    return FAMILIES[name]
