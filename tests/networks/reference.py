"""The networks written out: one row at a time, in float64, with loops and without JAX."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

# For what runs once: machine code of any quality, in half the time.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def filled(make, seed=0):
    """What ``make`` returns, with numbers of NumPy's: JAX would compile a generator for every shape.

    Counts are zero, as those of a fresh optimiser are.
    """
    rng = np.random.default_rng(seed)

    def fill(leaf):
        return (
            rng.uniform(-0.7, 0.7, leaf.shape).astype(leaf.dtype)
            if leaf.dtype == np.float32
            else np.zeros((), leaf.dtype)
        )

    return jax.tree.map(lambda leaf: jnp.asarray(fill(leaf)), jax.eval_shape(make))


def zeros(tree):
    return jax.tree.map(jnp.zeros_like, tree)


def mlp(network, x):
    """One row [inputs] -> [outputs]."""
    x = [float(value) for value in x]
    layers = list(zip(network.weights, network.biases, strict=True))
    for number, (weight, bias) in enumerate(layers):
        weight, bias = np.asarray(weight, np.float64), np.asarray(bias, np.float64)
        out = [bias[j] + sum(x[i] * weight[i, j] for i in range(len(x))) for j in range(len(bias))]
        x = out if number == len(layers) - 1 else [max(value, 0.0) for value in out]
    return np.array(x)


def conditioned_mlp(network, x, m):
    """One row [inputs] and its condition [m] -> [outputs]."""
    modulation, start = mlp(network.modulation, m), 0
    layers = list(zip(network.network.weights, network.network.biases, strict=True))
    for number, (weight, bias) in enumerate(layers):
        width = len(bias)
        x = [float(bias[j]) + sum(float(x[i]) * float(weight[i, j]) for i in range(len(x))) for j in range(width)]
        if number < len(layers) - 1:
            gamma, beta = modulation[start : start + width], modulation[start + width : start + 2 * width]
            x = [max((1 + gamma[j]) * x[j] + beta[j], 0.0) for j in range(width)]
            start += 2 * width
    return np.array(x)


def critic(critics, member, s, a):
    """One critic's value of one (s, a)."""
    return mlp(jax.tree.map(lambda x: x[member], critics.members), [*s, *a])[0]


def normalise(normaliser, x):
    """One row through a Normaliser."""
    return [(float(v) - float(m)) / float(d) for v, m, d in zip(x, normaliser.mean, normaliser.scale, strict=True)]


def softmax(x):
    exponentials = [math.exp(value - max(x)) for value in x]
    return [value / sum(exponentials) for value in exponentials]


def evidence(encoder, context, mask):
    """The summed evidence of one context: transitions [size, ...] and mask [size]."""
    total = np.zeros(len(encoder.network.biases[-1]))
    for i in range(len(mask)):
        if mask[i]:
            s, s_next = np.asarray(context.observations[i]), np.asarray(context.next_observations[i])
            row = [*s, *context.actions[i], context.rewards[i], *(s_next - s)]
            found = mlp(encoder.network, normalise(encoder.inputs, row))
            if encoder.pooling == "precision":
                mean, precision = found[: len(found) // 2], np.exp(np.clip(found[len(found) // 2 :], -8, 8))
                found = np.concatenate([mean * precision, precision])
            total += found
    return total


def identity(encoder, context, mask):
    """The identity of one context."""
    total = evidence(encoder, context, mask)
    if encoder.pooling == "precision":  # each component the mean of N(0, 1) times the transitions' Gaussians
        return [total[i] / (1 + total[len(total) // 2 + i]) for i in range(len(total) // 2)]
    if encoder.embeddings is None:
        return total / max(sum(mask), 1)
    embeddings = np.asarray(encoder.embeddings, np.float64)
    if not any(mask):
        return np.zeros(embeddings.shape[1])
    return sum(p * embeddings[h] for h, p in enumerate(softmax(total)))
