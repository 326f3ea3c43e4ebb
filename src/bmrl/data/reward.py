"""A user's own function that gives the rewards which logs lack. It runs because the user asked for it by name."""

import inspect
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bmrl.data.checks import LARGEST
from bmrl.data.mapping import one_line
from bmrl.errors import BmrlError
from bmrl.user_file import run_file

RewardFunction: TypeAlias = Callable[[str, NDArray[Any], NDArray[Any], NDArray[Any]], NDArray[np.float64]]
"""(MDP's name, observations [n, d_s], actions [n, d_a] as logged, next observations [n, d_s]) -> rewards [n]."""


def load_reward(spec: str) -> RewardFunction:
    """The function that "module:function" or "path.py:function" names, its results checked.

    It gets observations [n, d_s], actions [n, d_a] in their own units and next observations [n, d_s], and the MDP's
    name as ``mdp`` if it has a parameter of that name; it returns rewards [n].

    Raises ``BmrlError`` where it cannot be loaded; the function returned raises it where the user's fails, or
    returns another shape or what is not finite.
    """
    function = _load(spec)
    try:
        wants_name = "mdp" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        wants_name = False

    def reward(mdp: str, observations: Any, actions: Any, next_observations: Any) -> NDArray[np.float64]:
        try:
            given = {"mdp": mdp} if wants_name else {}
            found = np.asarray(function(observations, actions, next_observations, **given))
        except (Exception, SystemExit) as error:
            raise BmrlError(f"--reward {spec}: {type(error).__name__}: {one_line(error)} (MDP {mdp})") from error
        n = len(observations)
        if found.shape != (n,) or found.dtype.kind not in "biuf":
            raise BmrlError(
                f"--reward {spec} returned shape {list(found.shape)} of {found.dtype} for observations "
                f"{list(observations.shape)}, actions {list(actions.shape)}, next observations "
                f"{list(next_observations.shape)}; [{n}] numbers are needed, one for each transition"
            )
        with np.errstate(over="ignore"):
            fits = np.abs(found.astype(np.float32)) <= LARGEST  # false for NaN too
        if (odd := np.flatnonzero(~fits)).size:
            raise BmrlError(
                f"--reward {spec} returned {found[odd[0]]} in MDP {mdp} for the observation "
                f"{observations[odd[0]].tolist()[:10]} and the action {actions[odd[0]].tolist()[:10]}; a "
                f"size of at most {LARGEST:.1e} is needed"
            )
        return found.astype(np.float64)

    return reward


def _load(spec: str) -> Callable[..., Any]:
    place, _, name = spec.rpartition(":")
    if not place or not name.isidentifier():
        raise BmrlError(f"--reward {spec!r}: 'module:function' or 'path.py:function' is needed")
    try:
        function = getattr(run_file(Path(place)), name) if place.endswith(".py") else pkgutil.resolve_name(spec)
    except Exception as error:  # whatever the user's module raises
        hint = "; a file is named with its .py" if isinstance(error, ModuleNotFoundError) else ""
        raise BmrlError(f"--reward {spec} cannot be loaded: {type(error).__name__}: {one_line(error)}{hint}") from error
    if not callable(function):
        raise BmrlError(f"--reward {spec} is no function but {type(function).__name__}")
    loaded: Callable[..., Any] = function
    return loaded
