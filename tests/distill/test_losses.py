"""The student and its losses against slow references."""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batch_rl import toys
from networks import reference

from bmrl.batch_rl import Targets
from bmrl.distill.distill import Minibatch, losses, scaled_loss, train_statistics
from bmrl.distill.student import Statistics, Student, StudentConfig
from bmrl.networks import Normaliser
from bmrl.types import Spec, Transition

SPEC, LATENT, MAX_CORRECTION = Spec(2, 1), 2, 0.2
CONTEXTS, SIZE, QUERIES = 3, 4, 5
MDPS = 4
CONFIG = StudentConfig(3, "posterior", (6,), (5,), 4, (3,), (6, 5), (6,), (6,))
TERMS = ("value", "candidate", "correction", "mdp", "reward", "next_observation")


def normaliser(*mean_and_scale):
    mean, scale = np.array(mean_and_scale, np.float32).T
    return Normaliser(jnp.asarray(mean), jnp.asarray(scale))


STATISTICS = Statistics(
    observations=normaliser((0.5, 2), (-1, 0.5)),
    context=normaliser((0.5, 2), (-1, 0.5), (0.1, 0.6), (-2, 3), (0.3, 0.2), (-0.1, 0.4)),
    rewards=normaliser((-2, 3)),
    values=normaliser((-20, 5)),
)


@pytest.fixture(scope="module", params=["posterior", "precision", "mean"])
def student(request):
    config = dataclasses.replace(CONFIG, pooling=request.param)

    def make():
        key, bounds = jax.random.PRNGKey(0), {"max_correction": MAX_CORRECTION, "predict_next": True}
        return Student(key, SPEC, STATISTICS, config, mdps=MDPS, latent_dim=LATENT, **bounds)

    where = lambda student: (student.statistics, student.encoder.inputs)  # noqa: E731
    return eqx.tree_at(where, reference.filled(make), (STATISTICS, STATISTICS.context))


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.normal(size=shape).astype(np.float32)

    def transitions(n):
        n = (CONTEXTS, n)
        return Transition(normal(*n, 2), np.tanh(normal(*n, 1)), normal(*n), normal(*n, 2), np.zeros(n, bool))

    n = (CONTEXTS, QUERIES)
    targets = Targets(
        5 * normal(*n) - 20, normal(*n, LATENT), np.tanh(normal(*n, 1)), MAX_CORRECTION * np.tanh(normal(*n, 1))
    )
    mask = np.array([[1, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]], bool)
    weights = np.ones(n, np.float32)
    weights[0, 1] = weights[2, 4] = 0
    mdp = np.array([1, 3, 0])
    sources = mdp, np.repeat(mdp[:, None], QUERIES, axis=1)
    return Minibatch(mdp, transitions(SIZE), sources[0], mask, transitions(QUERIES), sources[1], targets, weights)


def element(student, batch, m, proposer, c, q):
    """All terms of one element, before the mean."""
    queries, targets = (
        jax.tree.map(lambda x: np.asarray(x[c, q], np.float64), t) for t in (batch.queries, batch.targets)
    )
    s = reference.normalise(STATISTICS.observations, queries.observations)
    value = 5 * reference.conditioned_mlp(student.value, [*s, *queries.actions], m)[0] - 20
    candidate = np.tanh(reference.conditioned_mlp(student.candidate, [*s, *targets.latents], proposer))
    correction = MAX_CORRECTION * np.tanh(
        reference.conditioned_mlp(student.correction, [*s, *targets.candidates], proposer)
    )
    features = [max(x, 0) for x in reference.mlp(student.auxiliary, [*s, *queries.actions])]
    predicted = reference.mlp(student.prediction, [*features, *m])
    change = queries.next_observations - queries.observations
    scaled = [(change[i] - (0.3, -0.1)[i]) / (0.2, 0.4)[i] for i in range(2)]
    return {
        "value": ((value - targets.values) / 5) ** 2,
        "candidate": sum((candidate - targets.candidates) ** 2) / 1,
        "correction": sum((correction - targets.corrections) ** 2) / 1,
        "reward": (predicted[0] - (queries.rewards + 2) / 3) ** 2,
        "next_observation": sum((predicted[1 + i] - scaled[i]) ** 2 for i in range(2)) / 2,
    }


@pytest.fixture(scope="module")
def expected(student, batch):
    posterior = student.encoder.embeddings is not None
    total = {name: 0.0 for name in TERMS if name != "mdp" or posterior}
    for c in range(CONTEXTS):
        context = jax.tree.map(lambda x, c=c: x[c], batch.context)
        m = reference.identity(student.encoder, context, batch.mask[c])
        proposer = m
        if posterior:
            probabilities = reference.softmax(reference.evidence(student.encoder, context, batch.mask[c]))
            total["mdp"] -= math.log(probabilities[batch.mdp[c]]) / CONTEXTS
            embedding = np.asarray(student.encoder.embeddings[batch.mdp[c]], np.float64)
            proposer = embedding if batch.mask[c].any() else np.zeros(3)
        for q in range(QUERIES):
            if batch.weights[c, q]:
                for name, x in element(student, batch, m, proposer, c, q).items():
                    total[name] += x / 13  # 15 elements, of which 2 lie in their own context
    return total


@pytest.fixture(scope="module")
def evaluate():
    return reference.jit(jax.value_and_grad(scaled_loss, has_aux=True))


def test_every_term_equals_its_reference(student, batch, expected):
    found = reference.jit(losses)(student, batch)
    assert found.keys() == expected.keys()
    for name in expected:
        assert float(found[name]) == pytest.approx(expected[name], rel=1e-4), name


def test_the_terms_are_scaled_by_running_means_and_bounded_ratios(student, batch, expected, evaluate):
    # At the first step the means are the terms: every term is scaled to Q_S's, up to the bound.
    old = {name: jnp.float32(1e9) for name in expected}
    (total, (terms, averages)), _ = evaluate(student, batch, old, 0)
    for name in expected:
        assert float(terms[name]) == pytest.approx(expected[name], rel=1e-4)
        assert float(averages[name]) == pytest.approx(expected[name], rel=1e-4)
    assert all(1 / 1000 < expected["value"] / expected[name] < 1000 for name in expected)
    assert float(total) == pytest.approx(len(expected) * expected["value"], rel=1e-4)

    # Later: a plain mean of the first 100 steps, then an exponential one.
    mixed = {"value": 2.0, "candidate": 0.3, "correction": 5.0, "mdp": 1.0, "reward": 0.5, "next_observation": 4.0}
    small, large = dict.fromkeys(expected, 0.1), dict.fromkeys(expected, 1e9)
    for step, rate, old in (
        (3, 1 / 4, mixed),
        (99, 0.01, mixed),
        (100_000, 0.01, small | {"value": 1e9}),  # the ratios are at most 1000 ...
        (100_000, 0.01, large | {"value": 0.1}),  # ... and at least 1 / 1000
    ):
        (total, (terms, averages)), _ = evaluate(student, batch, {k: jnp.float32(old[k]) for k in expected}, step)
        mean = {name: (1 - rate) * old[name] + rate * expected[name] for name in expected}
        weighted = {n: min(max(mean["value"] / mean[n], 1e-3), 1e3) * expected[n] for n in expected}
        for name in expected:
            assert float(averages[name]) == pytest.approx(mean[name], rel=1e-4), name
        assert float(total) == pytest.approx(sum(weighted.values()), rel=1e-4)


def test_ratios_are_constants_to_the_gradient_and_statistics_are_not_trained(student, batch, expected, evaluate):
    old = {name: jnp.float32(0) for name in expected}
    _, gradient = evaluate(student, batch, old, 0)

    def fixed(student):
        return sum(expected["value"] / expected[name] * x for name, x in losses(student, batch).items())

    for one, other in zip(
        jax.tree.leaves(gradient), jax.tree.leaves(reference.jit(jax.grad(fixed))(student)), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)
    # A trained scale would shrink the loss by growing the unit in which it is measured.
    assert all(np.all(g == 0) for g in jax.tree.leaves((gradient.statistics, gradient.encoder.inputs)))
    for network in ("encoder", "auxiliary", "prediction", "value", "candidate", "correction"):
        assert max(np.abs(g).max() for g in jax.tree.leaves(getattr(gradient, network))) > 0, network


def test_outputs_stay_in_their_bounds(student):
    s, m = 1e3 * np.ones((1, 2), np.float32), np.ones((1, 3), np.float32)
    assert np.abs(student.candidates(s, np.ones((1, 2), np.float32), m)).max() <= 1
    assert np.abs(student.corrections(s, np.ones((1, 1), np.float32), m)).max() <= MAX_CORRECTION + 1e-7


def test_statistics_weigh_every_mdp_alike(tmp_path):
    lengths = [[3, 1, 4], [2]]
    replay = toys.replay(tmp_path, [toys.numbered(x, k) for k, x in enumerate(lengths)])
    values = np.where(np.arange(8) < replay.size[:, None], toys.padded(replay).rewards * 2, 1e9).astype(np.float32)
    # Learners may be asked about every batch: only what they say of their own counts.
    everywhere = np.stack([[v if i == j else 1e9 + v for j in range(2)] for i, v in enumerate(values)])
    statistics = train_statistics(replay, Targets(values))
    jax.tree.map(np.testing.assert_array_equal, train_statistics(replay, Targets(everywhere)), statistics)
    rewards = [np.arange(1, 9), 1000 + np.arange(1, 3)]
    mean = sum(r.mean() for r in rewards) / 2
    std = np.sqrt(sum(((r - mean) ** 2).mean() for r in rewards) / 2)
    for found, unit in ((statistics.rewards, 1), (statistics.values, 2)):
        np.testing.assert_allclose(found.mean, [unit * mean], rtol=1e-5)
        np.testing.assert_allclose(found.scale, [unit * std], rtol=1e-5)
    assert statistics.observations.mean.shape == (2,)
    # Every transition of these batches moves each observation by 1: a constant column keeps scale 1.
    np.testing.assert_allclose(statistics.context.mean[-2:], 1, rtol=1e-5)
    np.testing.assert_allclose(statistics.context.scale[-2:], 1)
    np.testing.assert_allclose(statistics.context.mean[3], mean, rtol=1e-5)
