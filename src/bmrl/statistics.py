"""Few seeds, honestly summed up: the interquartile mean, and how far it can be trusted (Agarwal et al. 2021)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES, LEVEL = 10_000, 0.95  # of the bootstrap
FEW = 3  # seeds: a verdict needs as many
PART = 0.75  # of the cases: a claim that is true in as many holds in part
ERRORS = 2.0  # standard errors beyond which a difference counts


def iqm(values: Sequence[float] | np.ndarray, axis: int = -1) -> np.ndarray:
    """The interquartile mean along an axis: without the lowest and the highest quarter, each rounded down."""
    ordered = np.sort(np.asarray(values, float), axis=axis)
    count = ordered.shape[axis]
    return np.take(ordered, np.arange(count // 4, count - count // 4), axis=axis).mean(axis)


def bootstrap_interval(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of the interquartile mean of values [n], resampled with replacement."""
    values = np.asarray(values, float)
    drawn = values[np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))]
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(iqm(drawn), [tail, 1 - tail])
    return float(low), float(high)


def verdict(held: Sequence[bool], seeds: int, changed: bool = False) -> str:
    """Whether a claim holds that is true in some of several cases, of ``seeds`` seeds in all.

    Args:
        held: for each case, a seed or an MDP of a seed, whether it is true there.
        seeds: how many there are.
        changed: whether it is true of the paper's method with a change of ours alone, or by one measure of two.
    """
    if seeds < FEW:
        return "too few seeds"
    if all(held):
        return "holds with a change" if changed else "holds"
    return "holds in part" if sum(held) >= PART * len(held) else "does not hold"


class Mean(NamedTuple):
    """A mean with its standard error."""

    value: float
    error: float

    @property
    def clear(self) -> bool:
        """Above zero by more than chance explains."""
        return self.value > ERRORS * self.error


def mean(samples: np.ndarray) -> Mean:
    """Of independent samples [n]; one alone tells nothing of the error."""
    error = samples.std(ddof=1) / len(samples) ** 0.5 if len(samples) > 1 else np.inf
    return Mean(float(samples.mean()), float(error))


def mean_of_means(means: Sequence[Mean]) -> Mean:
    """The mean of independent means, each with the same weight."""
    error = np.square([x.error for x in means]).sum() ** 0.5 / len(means)
    return Mean(float(np.mean([x.value for x in means])), float(error))
