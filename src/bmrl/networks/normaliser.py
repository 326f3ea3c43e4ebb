"""Input statistics, kept inside the networks so that training and testing cannot diverge."""

from collections.abc import Callable, Iterable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class Normaliser(eqx.Module):
    """Shifts and scales inputs to zero mean and unit variance; ``inverse`` undoes it. Never trained."""

    mean: Float[Array, " d"]
    scale: Float[Array, " d"]

    def __call__(self, x: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
        """(x - mean) / scale."""
        return (x - jax.lax.stop_gradient(self.mean)) / jax.lax.stop_gradient(self.scale)

    def inverse(self, x: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
        """X * scale + mean."""
        return x * jax.lax.stop_gradient(self.scale) + jax.lax.stop_gradient(self.mean)

    def part(self, start: int, stop: int | None = None) -> "Normaliser":
        """That of the components ``start`` ... ``stop`` - 1 alone."""
        return Normaliser(self.mean[start:stop], self.scale[start:stop])

    @classmethod
    def identity(cls, size: int) -> "Normaliser":
        """The normaliser that changes nothing, for learners that start before there is data."""
        return cls(jnp.zeros(size), jnp.ones(size))


def normaliser_of(*groups: Callable[[], Iterable[Float[np.ndarray, "n d"]]]) -> Normaliser:
    """The mean and the standard deviation of rows, each group of which has the same weight.

    A group gives its rows some at a time, as often as it is called. A constant column keeps scale 1.
    """
    mean = np.mean([_mean(group()) for group in groups], axis=0)
    variance = np.mean([_mean((rows - mean) ** 2 for rows in group()) for group in groups], axis=0)
    scale = np.sqrt(variance)
    return Normaliser(jnp.asarray(mean, jnp.float32), jnp.asarray(np.where(scale > 1e-6, scale, 1.0), jnp.float32))


def _mean(chunks: Iterable[Float[np.ndarray, "n d"]]) -> Float[np.ndarray, " d"]:
    sums = [(rows.sum(0, dtype=np.float64), len(rows)) for rows in chunks]
    return np.sum([total for total, _ in sums], axis=0) / sum(count for _, count in sums)
