"""Families in a user's own file, named PATH.py:NAME.

Only a person's own word on the command line gets here (``--family``). What a run directory, a data set or a manifest
names is never loaded: `get_family` asks for the word again.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

from bmrl.errors import BmrlError
from bmrl.families import FAMILIES, LOADED
from bmrl.families.base import Family
from bmrl.user_file import run_file


class OwnFamily(NamedTuple):
    """A user's family."""

    family: Family
    name: str  # FILE.py:NAME, without the directory, which is this machine's matter
    sha256: str  # of the file


def load_family(word: str) -> OwnFamily:
    """Run the user's file and take the family NAME of it; from then on `get_family` knows it as FILE.py:NAME.

    Raises:
        BmrlError: no such file, an error in it, or no `Family` of that name, or one with a name of bmrl's own.
    """
    place, _, name = word.rpartition(":")
    path = Path(place)
    if path.suffix != ".py" or not name.isidentifier():
        raise BmrlError(f"--family {word!r}: write PATH.py:NAME, the file and the name that the family has in it")
    if not path.is_file():
        raise BmrlError(f"--family {word}: there is no file {path}")
    source = path.read_bytes()
    try:
        found = vars(run_file(path))
    except Exception as error:
        told = str(error) if isinstance(error, BmrlError) else " ".join(repr(error).split())
        raise BmrlError(f"--family {word}: {path} fails: {told}") from error
    families = [key for key, value in found.items() if isinstance(value, Family)]
    if name not in families:
        raise BmrlError(f"--family {word}: {path} has no Family {name!r}; it has {', '.join(families) or 'none'}")
    family: Family = found[name]
    if family.name in FAMILIES:
        raise BmrlError(f"--family {word}: bmrl has a family {family.name!r} of its own; choose another name")
    own = OwnFamily(family, f"{path.name}:{name}", hashlib.sha256(source).hexdigest())
    LOADED[own.name] = own
    _register(own)
    return own


def _register(own: OwnFamily) -> None:
    """So that `Family.make_env` finds it; an id that families share is that of the one loaded last."""
    import gymnasium

    gymnasium.registry.pop(own.family.env_id, None)
    gymnasium.register(
        id=own.family.env_id,
        entry_point="bmrl.families.env:FamilyEnv",
        max_episode_steps=own.family.horizon,
        kwargs={"family": own.name, "sha256": own.sha256},
    )
