"""Input statistics, kept inside the networks so that training and testing cannot diverge."""

import equinox as eqx
import jax
import jax.numpy as jnp
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

    @classmethod
    def identity(cls, size: int) -> "Normaliser":
        """The normaliser that changes nothing, for learners that start before there is data."""
        return cls(jnp.zeros(size), jnp.ones(size))
