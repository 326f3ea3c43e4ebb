"""Hostile inputs to an exported policy at work: whatever it is told, its actions are finite and within their bounds, or
`BmrlError` says what is wrong; and nothing of it stays in its memory.
"""

import logging
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bmrl.runtime import BmrlError, Policy, PolicyState
from bmrl.runtime.networks import Array
from torture import Section
from torture.policies import KINDS, random_policy

INPUTS = 1_000_000
MOST_EVIDENCE = 1e4  # of a transition: a hundred times what the random policies make of sound ones
SLOTS = (1, 1, 1, 3)  # MDPs at once

ODD_NUMBERS = (np.nan, np.inf, -np.inf, 1e30, -1e30, 3.5e38, 1e300, 5e-324, -0.0, 4.0, 4.0000001, 1e9, 2**63)
ODD_VALUES: tuple[Callable[[], Any], ...] = (
    lambda: None,
    lambda: "0.5",
    lambda: b"\x00",
    lambda: "",
    lambda: [],
    lambda: [[]],
    lambda: {},
    lambda: {"observation": 1.0},
    lambda: object(),
    lambda: [object()],
    lambda: [[1.0], [1.0, 2.0]],
    lambda: ["1", "2", "3"],
    lambda: [None, 0.5, 0.5],
    lambda: [10**400, 0, 0],
    lambda: True,
    lambda: 1j,
    lambda: 7,
    lambda: np.zeros(0),
    lambda: np.zeros((0, 3)),
    lambda: np.zeros((3, 0)),
    lambda: np.zeros((1, 1, 3)),
    lambda: np.zeros(3, complex),
    lambda: np.array(["a", "b", "c"]),
    lambda: np.array([1, None, 2], object),
    lambda: np.array([{}, [], ()], object),
    lambda: np.zeros(3, "datetime64[s]"),
    lambda: np.zeros(3, [("x", "f4")]),
    lambda: np.ma.masked_all(3),
    lambda: np.full(3, 2**63, np.uint64),
    lambda: np.full(3, np.iinfo(np.int64).min),
    lambda: np.full(3, 60000, np.float16),
    lambda: np.full(3, "1e400").astype(np.longdouble),
    lambda: np.broadcast_to(np.float32(0.5), (10**6, 3))[:, :2],
    lambda: slice(None),
    lambda: iter([1.0, 2.0, 3.0]),
    lambda: np.zeros(3)[::-1],
    lambda: int,
)


class Outcome(NamedTuple):
    """What one input did."""

    kind: str  # "accepted", "fallback", "left out", "error"
    failure: str | None


class Attack:
    """One policy in one state, told one thing after the other, sound and hostile."""

    def __init__(self, kind: str, seed: int):
        self.policy = Policy(*random_policy(kind, seed), seed=seed)
        self.rng = np.random.default_rng(seed)
        self.n = int(self.rng.choice(SLOTS))
        self.state = self.policy.start(self.n)
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []

    def step(self) -> None:
        """One input: to `predict`, `observe`, `warm_start` or `restore`."""
        calls = (self.predict, self.observe, self.warm_start, self.restore)
        call = calls[self.rng.choice(len(calls), p=(0.45, 0.45, 0.05, 0.05))]
        name = call.__name__
        try:
            outcome, failure = call()
        except BmrlError:
            outcome, failure = "error", None
        except Exception as error:
            outcome, failure = "failed", f"{type(error).__name__}: {error}"
        self.counts[f"{name}: {outcome}"] += 1
        if failure:
            self.failures.append(f"{name}: {failure}")

    def predict(self) -> Outcome:
        """An observation, a state and an episode's start, any of which may be bad."""
        observation, state, start = self.observation(), self.state, None
        if self.rng.random() < 0.1:
            state = self.odd()
        if self.rng.random() < 0.3:
            start = self.odd() if self.rng.random() < 0.5 else self.rng.random(self.n) < 0.5
        action, state = self.policy.predict(observation, state, start, deterministic=bool(self.rng.random() < 0.7))
        if action.dtype != np.float32 or action.shape not in ((2,), (len(state.steps), 2)):
            return Outcome("accepted", f"an action of {action.dtype} {action.shape}")
        if not ((action >= self.policy.action_low) & (action <= self.policy.action_high)).all():
            return Outcome("accepted", f"the action {action}")
        rows = action.reshape(-1, 2)
        if any(reason and (row != self.policy.fallback).any() for reason, row in zip(state.reasons, rows, strict=True)):
            return Outcome("fallback", f"a reason, and yet the action {action}")
        if len(state.steps) == self.n:
            self.state = state
        return Outcome("fallback" if any(state.reasons) else "accepted", poison(state))

    def observe(self) -> Outcome:
        """A transition, a part of which may be bad."""
        rng, n = self.rng, self.n
        parts: list[Any] = [rng.uniform(-4, 4, (n, 3)), rng.uniform([0, -2], [40, 3], (n, 2)), rng.normal(size=n)]
        parts.append(rng.uniform(-4, 4, (n, 3)))
        if rng.random() < 0.5:
            bad = rng.integers(4)
            parts[bad] = self.odd() if rng.random() < 0.5 else self.spoilt(parts[bad])
        before = self.state
        after = self.policy.observe(before, *parts)
        for i, reason in enumerate(after.reasons):
            if reason and not all(np.array_equal(x[i], y[i]) for x, y in zip(before[:-1], after[:-1], strict=True)):
                return Outcome("left out", f"left out ({reason}), and yet the state is another")
        self.state = after
        return Outcome("left out" if any(after.reasons) else "accepted", poison(after))

    def warm_start(self) -> Outcome:
        """Logs, a part of which may be bad."""
        size = int(self.rng.integers(1, 80))
        log: dict[str, Any] = {
            "observations": self.rng.uniform(-4, 4, (size, 3)),
            "actions": self.rng.uniform([0, -2], [40, 3], (size, 2)),
            "rewards": self.rng.normal(size=size),
            "next_observations": self.rng.uniform(-4, 4, (size, 3)),
        }
        field = str(self.rng.choice(list(log)))
        log[field] = self.odd() if self.rng.random() < 0.3 else self.spoilt(log[field])
        state = self.policy.warm_start(*[log] * self.n)
        self.state = state
        return Outcome("left out" if any(state.reasons) else "accepted", poison(state))

    def restore(self) -> Outcome:
        """A saved state with some characters changed; if it is taken, it can be acted upon."""
        text = self.state.to_json()
        if self.rng.random() < 0.9:
            at, length = self.rng.integers(len(text)), self.rng.integers(3)
            text = (
                text[:at]
                + str(self.rng.choice(["", "9", "-", "NaN", "1e400", "[]", "null", "]"]))
                + text[at + length :]
            )
        state = self.policy.restore(text)
        action, _ = self.policy.predict(np.zeros((len(state.steps), 3)), state)
        return Outcome("accepted", None if np.isfinite(action).all() else f"the action {action}")

    def observation(self) -> Any:
        """Of n MDPs, mostly bad."""
        sound = self.rng.uniform(-4, 4, (self.n, 3))
        if self.rng.random() < 0.4:
            return sound if self.n > 1 or self.rng.random() < 0.5 else sound[0].tolist()
        return self.odd() if self.rng.random() < 0.5 else self.spoilt(sound)

    def spoilt(self, array: Array) -> Array:
        """A copy with one number, or all, odd."""
        array = array.astype(float)
        value = float(self.rng.choice(ODD_NUMBERS))
        if self.rng.random() < 0.2 or not array.size:
            return np.full_like(array, value)
        array.flat[self.rng.integers(array.size)] = value
        return array

    def odd(self) -> Any:
        """No array of the right kind and shape, mostly."""
        return ODD_VALUES[self.rng.integers(len(ODD_VALUES))]()


def poison(state: PolicyState) -> str | None:
    """What is wrong with what a policy remembers: what is not finite, or more evidence than sound inputs make."""
    bad = [name for name, x in state._asdict().items() if name != "reasons" and not np.isfinite(x).all()]
    if bad:
        return f"{', '.join(bad)} not finite"
    total, size = np.abs(state.logs + state.episode).max(axis=1), state.logs_size + state.steps
    return f"evidence of {total.max():g}" if (total > MOST_EVIDENCE * size).any() else None


def attack(inputs: int, seconds: float = 1e9, each: int = 1000) -> tuple[Counter[str], list[str]]:
    """So many inputs, ``each`` of them to a fresh policy: what came of them, and what must not have."""
    counts: Counter[str] = Counter()
    failures: list[str] = []
    end = time.monotonic() + seconds
    logging.getLogger("bmrl.runtime").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning of NumPy's is a failure
        for number in range(-(-inputs // each)):
            if time.monotonic() > end:
                break
            one = Attack(KINDS[number % len(KINDS)], number)
            for _ in range(min(each, inputs - number * each)):
                one.step()
            counts += one.counts
            failures += one.failures
    return counts, failures


def mislead(place: Path, seconds: float) -> Section:
    """The campaign; ``place`` stays empty."""
    counts, failures = attack(INPUTS, seconds)
    lines = [
        "## Hostile inputs to a deployed policy",
        "",
        f"{counts.total():,} calls of exported policies of {len(KINDS)} kinds with NaN, infinities, wrong shapes and "
        "dtypes, values out of range, huge, empty, None, strings and objects among sound ones. Every action was finite "
        "and within its bounds, every other answer `BmrlError` in one line; what could not be used left the state as "
        f"it was, and every state was finite: failed {len(failures)} times.",
        "",
        "| call | what came of it | calls |",
        "|---|---|---|",
    ]
    lines += [f"| {' | '.join(name.split(': '))} | {count:,} |" for name, count in sorted(counts.items())]
    lines += [f"- FAILED: {failure}" for failure in sorted(set(failures))[:20]]
    return Section("\n".join(lines), len(failures))
