"""The cross-entropy method on Q_S: what section 5.2 tried instead of G_S and xi_S."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bmrl.distill.student import Student
from bmrl.networks.set_encoder import Evidence

INITIAL_STD = 0.5  # around the middle of [-1, 1]
LEAST_STD = 1e-3  # keeps the bounds finite in units of the standard deviation


@dataclass(frozen=True)
class CEM:
    """The cross-entropy method (Rubinstein and Kroese 2004) over actions in [-1, 1]; a `Selector` of `StudentAgent`.

    Every iteration draws a population from independent normal distributions truncated to the box, and moves their
    means and standard deviations to those of its elites. The paper gives no sizes; these are those of PETS (Chua et
    al. 2018), which acts by the final mean. Here the best action seen is taken: Q_S has no noise to be averaged out,
    and the mean of elites on two of its peaks lies on neither.
    """

    population: int = 400
    elites: int = 40
    iterations: int = 5

    def __call__(
        self, student: Student, evidence: Evidence, observations: Array, key: Array
    ) -> Float[Array, "n action"]:
        """For each of n states the action with the highest Q_S(s, ., m), m the mean identity."""
        identities = student.encoder.identity(evidence)

        def one(slot: Array, s: Array, m: Array) -> Array:
            s = jnp.broadcast_to(s, (self.population, *s.shape))
            return self.maximise(
                lambda actions: student.values(s, actions, m), student.action_dim, jax.random.fold_in(key, slot)
            )

        return jax.vmap(one)(jnp.arange(len(observations)), observations, identities)

    def maximise(self, value: Callable[[Array], Array], action_dim: int, key: Array) -> Float[Array, " action"]:
        """The best action found; ``value`` maps actions [population, d_a] to [population]."""

        def iterate(normal: tuple[Array, Array], key: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
            mean, std = normal
            low, high = (-1.0 - mean) / std, (1.0 - mean) / std
            draws = jax.random.truncated_normal(key, low, high, (self.population, action_dim))
            actions = jnp.clip(mean + std * draws, -1.0, 1.0)  # against rounding
            values, elites = jax.lax.top_k(value(actions), self.elites)
            best = actions[elites]
            return (best.mean(0), jnp.maximum(best.std(0), LEAST_STD)), (best[0], values[0])

        start = jnp.zeros(action_dim), jnp.full(action_dim, INITIAL_STD)
        _, (best, values) = jax.lax.scan(iterate, start, jax.random.split(key, self.iterations))
        return best[values.argmax()]
