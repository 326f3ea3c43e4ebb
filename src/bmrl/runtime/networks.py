"""The student's networks in NumPy: what `bmrl.networks` and `bmrl.distill.student` compute, to within rounding.

All arrays are float32. Leading axes of inputs and conditions broadcast, as they do there.
"""

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bmrl.errors import CorruptError

# As in `bmrl.networks.set_encoder`
PROPOSERS, TRUST = 2, np.float32(0.1)
MAX_LOG_PRECISION = 8.0

Array: TypeAlias = NDArray[Any]
Arrays: TypeAlias = dict[str, Array]  # by name; what a network is made of is taken out


def take(arrays: Arrays, name: str, *shape: int | None) -> Array:
    """Take the array of that name out; ``None`` stands for any length.

    Raises CorruptError where it is missing or has another shape.
    """
    array = arrays.pop(name, None)
    fits = array is not None and array.ndim == len(shape)
    if array is None or not fits or any(n not in (None, m) for n, m in zip(shape, array.shape, strict=True)):
        found = "missing" if array is None else f"of shape {list(array.shape)}"
        wanted = ", ".join("n" if n is None else str(n) for n in shape)
        raise CorruptError(f"array {name!r} is {found}, [{wanted}] is needed; export the policy again")
    return array


class Scaling(NamedTuple):
    """A mean and a scale, as `bmrl.networks.Normaliser`."""

    mean: Array
    scale: Array

    @classmethod
    def of(cls, arrays: Arrays, name: str, size: int) -> "Scaling":
        """Take ``name``.mean and ``name``.scale out."""
        return cls(take(arrays, f"{name}.mean", size), take(arrays, f"{name}.scale", size))

    def __call__(self, x: Array) -> Array:
        """(x - mean) / scale."""
        return (x - self.mean) / self.scale

    def inverse(self, x: Array) -> Array:
        """X * scale + mean."""
        return x * self.scale + self.mean


class MLP(NamedTuple):
    """Linear layers with ReLU between them: [..., inputs] -> [..., outputs]."""

    weights: tuple[Array, ...]  # [inputs, outputs] each
    biases: tuple[Array, ...]

    @classmethod
    def of(cls, arrays: Arrays, name: str, inputs: int, outputs: int | None) -> "MLP":
        """Take the layers ``name``.0.weight, ``name``.0.bias, ``name``.1.weight, ... out."""
        count = sum(key.startswith(f"{name}.") and key.endswith(".weight") for key in arrays)
        weights: list[Array] = []
        for layer in range(max(count, 1)):
            wanted = outputs if layer == max(count, 1) - 1 else None
            weights.append(take(arrays, f"{name}.{layer}.weight", inputs, wanted))
            inputs = weights[-1].shape[1]
        biases = [take(arrays, f"{name}.{layer}.bias", weight.shape[1]) for layer, weight in enumerate(weights)]
        return cls(tuple(weights), tuple(biases))

    @property
    def outputs(self) -> int:
        """Size of the output."""
        return len(self.biases[-1])

    def __call__(self, x: Array) -> Array:
        """Apply the network."""
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = affine(x, weight, bias)
            np.maximum(x, 0.0, out=x)
        return affine(x, self.weights[-1], self.biases[-1])


class ConditionedMLP(NamedTuple):
    """An MLP whose hidden layers a condition scales and shifts (FiLM)."""

    network: MLP
    modulation: MLP  # of a condition: scales and shifts of every hidden layer, [..., 2 * units]

    @classmethod
    def of(cls, arrays: Arrays, name: str, inputs: int, condition: int, outputs: int) -> "ConditionedMLP":
        """Take the network ``name`` and its ``name``_modulation out."""
        network = MLP.of(arrays, name, inputs, outputs)
        units = sum(map(len, network.biases[:-1]))
        return cls(network, MLP.of(arrays, f"{name}_modulation", condition, 2 * units))

    def __call__(self, x: Array, modulation: Array) -> Array:
        """Apply the network under what ``self.modulation`` made of the condition."""
        start, weights, biases = 0, self.network.weights, self.network.biases
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            middle, end = start + len(bias), start + 2 * len(bias)
            x = affine(x, weight, bias)
            x *= 1 + modulation[..., start:middle]
            x += modulation[..., middle:end]
            np.maximum(x, 0.0, out=x)
            start = end
        return affine(x, weights[-1], biases[-1])


def affine(x: Array, weight: Array, bias: Array) -> Array:
    """X W + b by a single product of matrices, whatever the leading axes of x."""
    y = x.reshape(-1, x.shape[-1]) @ weight
    y += bias
    return y.reshape(*x.shape[:-1], len(bias))


def softmax(x: Array) -> Array:
    """Over the last axis."""
    x = np.exp(x - x.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)


class Student:
    """Q_S, G_S, xi_S, f, E and P, as `bmrl.distill.student.Student` and its encoder."""

    def __init__(
        self,
        arrays: Arrays,
        observation_dim: int,
        action_dim: int,
        *,
        pooling: str,
        labels: bool,
        trials: bool,
        max_correction: float,
        correction_identity: bool,
        mean_action: bool,
    ):
        """Take all networks out of ``arrays``; raises CorruptError where they do not fit each other."""
        s, a, inputs = observation_dim, action_dim, 2 * observation_dim + action_dim + 1
        self.observations = Scaling.of(arrays, "statistics.observations", s)
        self.context = Scaling.of(arrays, "statistics.context", inputs)
        self.rewards = Scaling.of(arrays, "statistics.rewards", 1)
        self.scaled_values = Scaling.of(arrays, "statistics.values", 1)
        self.encoder = MLP.of(arrays, "encoder", inputs, None)
        self.embeddings, self.trials, self.pooling = None, None, pooling
        m = self.encoder.outputs
        if pooling == "posterior":
            self.embeddings = take(arrays, "embeddings", m, None)
            self.trials = take(arrays, "trials", m, m) if trials else None
            m = self.embeddings.shape[1]
        elif pooling == "precision":
            if m % 2:
                raise CorruptError(f"'encoder' has {m} outputs, a mean and a precision each; export the policy again")
            m //= 2
        self.auxiliary = MLP.of(arrays, "auxiliary", s + a, None)
        self.prediction = MLP.of(arrays, "prediction", self.auxiliary.outputs + m, None)
        if self.prediction.outputs not in (1, 1 + s):
            raise CorruptError(f"'prediction' has {self.prediction.outputs} outputs, 1 or {1 + s} are needed")
        self.value = ConditionedMLP.of(arrays, "value", s + a, m, 1)
        self.candidate = self.correction = None
        self.latent_dim = 0
        if "candidate.0.weight" in arrays:
            self.latent_dim = max(0, sum(arrays["candidate.0.weight"].shape[:1]) - s)
            self.candidate = ConditionedMLP.of(arrays, "candidate", s + self.latent_dim, m, a)
        if "correction.0.weight" in arrays:
            self.correction = ConditionedMLP.of(arrays, "correction", s + a, m, a)
        self.action_dim, self.labels, self.mean_action = a, labels, mean_action
        self._max_correction, self._correction_identity = max_correction, correction_identity

    def evidence(self, s: Array, a: Array, r: Array, next_s: Array) -> Array:
        """What f makes of each transition [..., evidence]."""
        found = self.encoder(self.context(np.concatenate([s, a, r[..., None], next_s - s], axis=-1)))
        if self.pooling != "precision":
            return found
        mean, log_precision = np.split(found, 2, axis=-1)
        precision = np.exp(log_precision.clip(-MAX_LOG_PRECISION, MAX_LOG_PRECISION))
        return np.concatenate([mean * precision, precision], axis=-1)

    def identity(self, total: Array, size: Array) -> Array:
        """The identity [..., d_m] for the sum of the evidence of ``size`` transitions; zero if there is none."""
        if self.pooling == "precision":
            weighted, precision = np.split(total, 2, axis=-1)
            return weighted / (1 + precision)
        if self.embeddings is None:
            return total / np.maximum(size, np.float32(1))[..., None]
        return np.where(size[..., None] > 0, softmax(total) @ self.embeddings, np.float32(0))

    def proposers(self, total: Array) -> Array:
        """The train MDPs [proposers, n] under whose embeddings actions are proposed, for evidence [n, K]."""
        if self.trials is not None:
            return (softmax(TRUST * total) @ self.trials).argmax(-1)[None]
        return np.argsort(-total, axis=-1, kind="stable")[:, :PROPOSERS].T

    def values(self, s: Array, a: Array, modulation: Array) -> Array:
        """Q_S(s, a, m) [...], in the rewards' unit."""
        return self.scaled_values.inverse(self.value(self._join(s, a), modulation))[..., 0]

    def candidates(self, s: Array, z: Array, modulation: Array) -> Array:
        """G_S(s, z, m) [..., d_a]."""
        assert self.candidate is not None
        return np.tanh(self.candidate(self._join(s, z), modulation))

    def corrections(self, s: Array, a: Array, modulation: Array) -> Array:
        """xi_S(s, a, m) [..., d_a]."""
        assert self.correction is not None
        return np.float32(self._max_correction) * np.tanh(self.correction(self._join(s, a), modulation))

    def correction_modulation(self, m: Array) -> Array:
        """What m does to xi_S; that of no identity where it is withheld from xi_S."""
        assert self.correction is not None
        return self.correction.modulation(m if self._correction_identity else np.zeros_like(m))

    def errors(self, s: Array, a: Array, r: Array, next_s: Array, m: Array) -> Array:
        """By how much P(E(s, a), m) misses the reward, and s' - s if it predicts that, normalised: [..., outputs]."""
        features = np.maximum(self.auxiliary(self._join(s, a)), np.float32(0))
        predicted = self.prediction(np.concatenate([features, m], axis=-1))
        found = self.rewards(r[..., None])
        if predicted.shape[-1] > 1:
            d = s.shape[-1]
            change = (next_s - s - self.context.mean[-d:]) / self.context.scale[-d:]
            found = np.concatenate([found, change], axis=-1)
        return predicted - found

    def _join(self, s: Array, second: Array) -> Array:
        s = np.broadcast_to(self.observations(s), (*second.shape[:-1], s.shape[-1]))
        return np.concatenate([s, second], axis=-1)
