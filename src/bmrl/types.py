"""The few types that every part of the package shares."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float


class Spec(NamedTuple):
    """What a network must know of the MDPs: sizes alone. Actions always lie in [-1, 1]."""

    observation_dim: int
    action_dim: int


class Transition(NamedTuple):
    """Transitions (s, a, r, s'), of NumPy or JAX arrays with any leading axes. A termination is never a time-out."""

    observations: Float[Any, "*n observation"]
    actions: Float[Any, "*n action"]
    rewards: Float[Any, "*n"]
    next_observations: Float[Any, "*n observation"]
    terminations: Bool[Any, "*n"]


ABLATION: Mapping[str, Any] = {"ablation": True}
"""Metadata of a configuration's field that few runs set: to leave a part of the method out, mostly.

It is left out of the JSON where it has its default, so that runs from before there was such a field stay the same.
"""

Watch: TypeAlias = Callable[[int, Any], Mapping[str, np.ndarray]]
"""Looks at what a stage is training, (step, state), whenever the stage logs; what it returns is logged too."""
