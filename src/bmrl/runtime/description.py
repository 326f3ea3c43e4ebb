"""What an exported policy's manifest says of it, beside its arrays."""

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from bmrl.errors import CorruptError

FORMAT, VERSION = "bmrl-policy", 5
ARRAYS = "arrays.safetensors"
POOLINGS = ("posterior", "precision", "mean")


class Description(NamedTuple):
    """JSON values.

    Attributes:
        family: of the MDPs that it was trained on, None if these had none.
        variant: of the student in its run.
        observation_low, observation_high: [d_s], beyond which no observation is trusted.
        reward_low, reward_high: beyond which no reward is.
        action_low, action_high: [d_a], the user's units; the networks' actions lie in [-1, 1].
        fallback: [d_a], the action where an observation cannot be used, in the user's units.
        context_size: the largest context of training: more transitions count as no more than so many.
        window: whether only the latest ``context_size`` transitions count.
        pooling: how f makes an identity of a context, "posterior", "precision" or "mean".
        labels: whether actions, where Q_S chooses, are proposed for the most probable train MDPs.
        trials: whether actions are proposed for the one train MDP whose learner would earn most.
        max_correction: bound on xi_S.
        correction_identity: whether xi_S sees the identity.
        mean_action: whether the one action proposed at the mean identity is taken; else Q_S chooses.
        latent_clip: latents of G_S are standard normal, clipped to plus or minus this.
        residuals: for each output of P the root mean square of its error on logs of the train MDPs.
        misfit_limits: [sizes], for contexts of 1, 2, ... transitions the misfit that one in 1000 on these logs exceeds.
    """

    family: str | None
    variant: str
    observation_low: list[float]
    observation_high: list[float]
    reward_low: float
    reward_high: float
    action_low: list[float]
    action_high: list[float]
    fallback: list[float]
    context_size: int
    window: bool
    pooling: str
    labels: bool
    trials: bool
    max_correction: float
    correction_identity: bool
    mean_action: bool
    latent_clip: float
    residuals: list[float]
    misfit_limits: list[float]


def parse(manifest: Mapping[str, Any]) -> Description:
    """The description in a manifest. Raises CorruptError, naming the field, where a value is none that it can have."""
    for name, kind in Description.__annotations__.items():
        if name not in manifest or not _KINDS[kind](manifest[name]):
            raise CorruptError(f"its manifest has {str(manifest.get(name))[:80]!r} as {name}; export the policy again")
    found = Description(*(manifest[name] for name in Description._fields))
    for one, other in itertools.pairwise(("action_low", "fallback", "action_high")):
        _in_order(found, one, other)
    _in_order(found, "observation_low", "observation_high")
    if found.pooling not in POOLINGS or (found.labels and found.pooling != "posterior"):
        raise CorruptError(f"its manifest has {found.pooling[:80]!r} as pooling; export the policy again")
    if found.trials and not found.labels:
        raise CorruptError("its manifest has trials, which are of train MDPs, but no labels; export the policy again")
    if found.context_size < 1 or not min(found.residuals + found.misfit_limits + [found.latent_clip]) > 0:
        raise CorruptError("its manifest has a size, a scale or a limit of zero; export the policy again")
    return found


def _in_order(found: Description, one: str, other: str) -> None:
    low, high = getattr(found, one), getattr(found, other)
    if len(low) != len(high) or any(a > b for a, b in zip(low, high, strict=True)):
        raise CorruptError(f"its manifest has a {one} above {other}, or more of them; export the policy again")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)  # JSON's integers have no bound


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(map(_is_number, value))


_KINDS: dict[Any, Callable[[Any], bool]] = {
    str | None: lambda value: value is None or isinstance(value, str),
    str: lambda value: isinstance(value, str),
    bool: lambda value: isinstance(value, bool),
    int: lambda value: type(value) is int and 0 <= value < 1 << 31,
    float: _is_number,
    list[float]: _is_numbers,
}
