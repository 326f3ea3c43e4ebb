"""Few seeds, honestly summed up: the interquartile mean, and how far it can be trusted (Agarwal et al. 2021)."""

from collections.abc import Sequence

import numpy as np

RESAMPLES = 10_000
FEW = 3  # seeds: a verdict needs as many


def iqm(values: Sequence[float] | np.ndarray, axis: int = -1) -> np.ndarray:
    """The interquartile mean along an axis: without the lowest and the highest quarter, each rounded down."""
    ordered = np.sort(np.asarray(values, float), axis=axis)
    count = ordered.shape[axis]
    return np.take(ordered, np.arange(count // 4, count - count // 4), axis=axis).mean(axis)


def bootstrap_interval(values: Sequence[float] | np.ndarray, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """The percentile bootstrap interval of the interquartile mean of values [n], resampled with replacement."""
    values = np.asarray(values, float)
    drawn = values[np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))]
    tail = (1 - level) / 2
    low, high = np.quantile(iqm(drawn), [tail, 1 - tail])
    return float(low), float(high)
