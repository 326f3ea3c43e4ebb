"""The few types that every part of the package shares."""

from typing import Any, NamedTuple

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
