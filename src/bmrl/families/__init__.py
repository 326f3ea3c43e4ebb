"""Families of MDPs: what to train on, what to test on, and how to simulate it. NumPy only."""

from typing import TYPE_CHECKING

from bmrl.errors import BmrlError
from bmrl.families.base import Family, Parameters, Simulator, Step
from bmrl.families.dynamics import HALF_CHEETAH_DYNAMICS, HALF_CHEETAH_VELOCITY_DYNAMICS
from bmrl.families.gymnasium_family import GymnasiumFamily
from bmrl.families.point_goal import POINT_GOAL
from bmrl.families.thermostat import THERMOSTAT
from bmrl.families.velocity import HALF_CHEETAH_VELOCITY, HOPPER_VELOCITY

if TYPE_CHECKING:
    from bmrl.families.own import OwnFamily

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

LOADED: dict[str, "OwnFamily"] = {}
"""Families of users' own files, by FILE.py:NAME, that `bmrl.families.own.load_family` has loaded in this process."""


def get_family(name: str, sha256: str | None = None) -> Family:
    """The family of that name.

    Args:
        name: of one of bmrl's, or a user's own as FILE.py:NAME.
        sha256: of the file that a user's own must be of; any will do if None.

    Raises:
        BmrlError: there is none; lists the names. A user's own that was not loaded: no name loads a file. A user's own
            of another file.
    """
    if name in FAMILIES:
        return FAMILIES[name]
    if name in LOADED:
        own = LOADED[name]
        if sha256 not in (None, own.sha256):
            raise BmrlError(
                f"the family {name} is asked for as it is in a file with SHA-256 {sha256}, the file loaded has "
                f"{own.sha256}: call bmrl.families.own.load_family('PATH/{name}') with the file as it was, or export "
                "the Minari dataset anew with the file as it is"
            )
        return own.family
    if ".py:" in name:
        raise BmrlError(
            f"the family {name} is of a file of yours, which only you can run: add --family PATH/{name}, or in Python "
            f"call bmrl.families.own.load_family('PATH/{name}') first"
        )
    raise BmrlError(f"unknown family {name!r}; the families are {', '.join(FAMILIES)}")
