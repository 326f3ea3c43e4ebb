"""What a policy knows of the MDPs that it acts in: plain arrays, which a file can hold while a process restarts."""

import json
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bmrl.errors import BmrlError

Array = NDArray[Any]


class PolicyState(NamedTuple):
    """Of n MDPs (or slots, in which one episode follows the other). Never changed in place.

    `Policy.start` makes it blank, `Policy.warm_start` from logs, `Policy.observe` adds to it.

    Attributes:
        logs: [n, E] float64, the evidence of `warm_start`'s logs, summed; an episode's start leaves it.
        logs_size: [n] float64, of how many transitions.
        episode: [n, E] float64, the evidence of the running episode's transitions that count, summed.
        steps: [n] int64, how many transitions of the running episode were added.
        recent: [n, window, E] float64, the pieces of ``episode`` where only the latest count; else window is 0.
        misfit: [n] float64, how badly the latest transitions were foretold; see `Policy.familiar`.
        foretold: [n] int64, over how many transitions.
        policy: [n] int64, a number of the policy that it is the state of.
        reasons: for each MDP why `predict` fell back, or why `observe` or `warm_start` left transitions out, last time
            that it was called; "" where all was well.
    """

    logs: Array
    logs_size: Array
    episode: Array
    steps: Array
    recent: Array
    misfit: Array
    foretold: Array
    policy: Array
    reasons: tuple[str, ...]

    def to_json(self) -> str:
        """One line of JSON, which `Policy.restore` reads: the same numbers to the bit."""
        arrays = {name: value.tolist() for name, value in self._asdict().items() if name != "reasons"}
        return json.dumps({**arrays, "reasons": list(self.reasons)}, allow_nan=False)


def blank(n: int, evidence: int, window: int, policy: int) -> PolicyState:
    """No logs and n episodes at their start."""
    return PolicyState(
        np.zeros((n, evidence)),
        np.zeros(n),
        np.zeros((n, evidence)),
        np.zeros(n, np.int64),
        np.zeros((n, window, evidence)),
        np.zeros(n),
        np.zeros(n, np.int64),
        np.full(n, policy),
        ("",) * n,
    )


def where(mask: Array, state: PolicyState, other: PolicyState) -> PolicyState:
    """One state's rows where the mask [n] is set, the other's elsewhere; without reasons."""
    rows = []
    for one, two in zip(state[:-1], other[:-1], strict=True):
        rows.append(np.where(mask.reshape(-1, *(1,) * (one.ndim - 1)), one, two))
    return PolicyState._make([*rows, ("",) * len(mask)])


def restored(text: str, evidence: int, window: int, policy: int) -> PolicyState:
    """What `PolicyState.to_json` wrote; BmrlError where it is damaged, or the state of another policy."""
    try:
        data = json.loads(text)
        reasons = tuple(data["reasons"])
        like = blank(len(reasons), evidence, window, policy)._asdict()
        if data.keys() != like.keys() or not reasons or not all(type(reason) is str for reason in reasons):
            raise ValueError("its fields are others")
        found = PolicyState._make([*(_array(name, data[name], like[name]) for name in list(like)[:-1]), reasons])
        if (found.policy != policy).any():
            raise ValueError("it is another policy's")
        return found
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise BmrlError(f"this is no state of this policy ({reason}); begin with Policy.start or warm_start") from error


def _array(name: str, values: Any, like: Array) -> Array:
    array = np.array(values, object if like.size else like.dtype)
    numbers = (float, int) if like.dtype.kind == "f" else (int,)
    if array.size != like.size or not all(type(x) in numbers for x in array.flat if like.size):
        raise ValueError(f"{name} is no array of shape {list(like.shape)}")
    array = array.reshape(like.shape).astype(like.dtype)
    if not np.isfinite(array).all() or (name not in ("logs", "episode", "recent") and array.min() < 0):
        raise ValueError(f"{name} has a value that it cannot have")
    return array
