"""The multi-layer perceptrons that every network of the package is made of."""

import itertools
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bmrl.errors import BmrlError


class MLP(eqx.Module):
    """Linear layers with ReLU between them, over any leading axes: [..., inputs] -> [..., outputs].

    Weights and biases start uniform in +-1/sqrt(fan-in), as PyTorch's linear layers do, and thereby the reference
    implementations of BCQ and TD3+BC; SAC's start otherwise (docs/deviations.md).
    """

    weights: tuple[Float[Array, "inputs outputs"], ...]
    biases: tuple[Float[Array, " outputs"], ...]

    def __init__(self, key: Array, inputs: int, hidden: Sequence[int], outputs: int):
        sizes = [inputs, *hidden, outputs]
        weights, biases = [], []
        for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
            weight_key, bias_key = jax.random.split(jax.random.fold_in(key, layer))
            bound = fan_in**-0.5
            weights.append(jax.random.uniform(weight_key, (fan_in, fan_out), minval=-bound, maxval=bound))
            biases.append(jax.random.uniform(bias_key, (fan_out,), minval=-bound, maxval=bound))
        self.weights, self.biases = tuple(weights), tuple(biases)

    def __call__(self, x: Float[Array, "*n inputs"]) -> Float[Array, "*n outputs"]:
        """Apply the network to inputs of any leading shape."""
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = jax.nn.relu(x @ weight + bias)
        return x @ self.weights[-1] + self.biases[-1]


class ConditionedMLP(eqx.Module):
    """An MLP whose hidden layers a condition m scales and shifts (FiLM: Perez et al. 2018, Eq. 2).

    h <- relu((1 + gamma(m)) * (W h + b) + beta(m)), with gamma and beta affine in m. Raises BmrlError without a hidden
    layer, since the condition would do nothing.
    """

    network: MLP
    modulation: MLP  # m -> gamma and beta of every hidden layer

    def __init__(self, key: Array, inputs: int, condition: int, hidden: Sequence[int], outputs: int):
        if not hidden:
            raise BmrlError(
                "Q_S, G_S and xi_S need a hidden layer each, for the identity to act on: see the configuration"
            )
        network_key, modulation_key = jax.random.split(key)
        self.network = MLP(network_key, inputs, hidden, outputs)
        self.modulation = MLP(modulation_key, condition, (), 2 * sum(hidden))

    def __call__(self, x: Float[Array, "*n inputs"], m: Float[Array, "*n condition"]) -> Float[Array, "*n outputs"]:
        """Apply the network; the leading axes of ``x`` and ``m`` broadcast."""
        weights, biases, modulation = self.network.weights, self.network.biases, self.modulation(m)
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            gamma, beta, modulation = jnp.split(modulation, [len(bias), 2 * len(bias)], axis=-1)
            x = jax.nn.relu((1 + gamma) * (x @ weight + bias) + beta)
        return x @ weights[-1] + biases[-1]
