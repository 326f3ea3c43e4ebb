"""Contextual SAC: PEARL's inference by hand, who teaches f, training that resumes exactly, and how it acts."""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batch_rl import toys
from networks import reference

from bmrl.baselines import contextual_sac
from bmrl.baselines.contextual_sac import ContextualSAC, GaussianEncoder, Minibatch, train_contextual_sac
from bmrl.batch_rl import SAC
from bmrl.distill.contexts import PAPER, ContextConfig
from bmrl.distill.reward_model import RewardModelConfig
from bmrl.errors import BmrlError
from bmrl.evaluate.agents import ContextualAgent
from bmrl.networks import Normaliser
from bmrl.networks.set_encoder import Evidence
from bmrl.runs.metrics import Metrics, read_metrics
from bmrl.types import Spec, Transition

SPEC, LATENT, KEY = Spec(2, 1), 3, jax.random.PRNGKey(5)
CONTEXTS, SIZE, QUERIES = 4, 3, 2
MASK = np.array([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]], bool)
CONFIG = ContextualSAC(
    sac=SAC((16,), batch_size=16, learning_rate=1e-2, discount=0.9),
    context=ContextConfig(3, draw="transitions", relabel=True),
    queries=4,
    encoder_hidden=(16,),
    latent_dim=2,
    reward_model=RewardModelConfig((16,), embedding_dim=2, updates=200, batch_size=32, learning_rate=1e-2),
    updates=600,
)


def transitions(*shape, seed=0, terminations=False):
    rng = np.random.default_rng(seed)
    s, s_next = rng.normal(size=(2, *shape, 2)).astype(np.float32)
    actions = rng.uniform(-1, 1, (*shape, 1)).astype(np.float32)
    return Transition(s, actions, rng.normal(size=shape).astype(np.float32), s_next, np.full(shape, terminations))


def minibatch(terminations=False):
    queries, mdp = transitions(CONTEXTS, QUERIES, seed=1, terminations=terminations), np.zeros(CONTEXTS, int)
    return Minibatch(transitions(CONTEXTS, SIZE), MASK, queries, mdp, mdp)


@pytest.fixture(scope="module")
def encoder():
    inputs = Normaliser(jnp.array([0.5, -1, 0, 2, 0, 0]), jnp.array([1.0, 2, 1, 3, 0.5, 0.5]))
    filled = reference.filled(lambda: GaussianEncoder(KEY, SPEC, inputs, (5,), LATENT))
    return eqx.tree_at(lambda f: f.inputs, filled, inputs)


def posteriors(encoder, context, mask):
    """Mean and variance of every context's posterior, one Gaussian after the other."""
    means, variances = np.zeros((2, len(mask), LATENT))
    for c in range(len(mask)):
        mean, variance = np.zeros(LATENT), np.full(LATENT, np.inf)
        for i in np.flatnonzero(mask[c]):
            s, s_next = context.observations[c, i], context.next_observations[c, i]
            row = [*s, *context.actions[c, i], context.rewards[c, i], *(s_next - s)]
            out = reference.mlp(encoder.network, reference.normalise(encoder.inputs, row))
            for d in range(LATENT):
                m, v = out[d], math.log1p(math.exp(out[LATENT + d]))
                # The product of N(mean, variance) and N(m, v), as a precision-weighted mean.
                share = 1.0 if math.isinf(variance[d]) else variance[d] / (variance[d] + v)
                mean[d] += share * (m - mean[d])
                variance[d] = share * v
        means[c], variances[c] = (mean, variance) if mask[c].any() else (np.zeros(LATENT), np.ones(LATENT))
    return means, variances


def test_the_posterior_is_the_product_of_gaussians_and_the_prior_without_any(encoder):
    context = transitions(CONTEXTS, SIZE)
    found = reference.jit(lambda c: encoder.posterior(Evidence.of(encoder.observe(c), MASK)))(context)
    for one, other in zip(found, posteriors(encoder, context, MASK), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_kl_and_samples_are_those_of_the_posterior(encoder):
    batch = minibatch()
    draw = jax.jit(jax.vmap(lambda key: contextual_sac.sample_identity(encoder, batch, key)))
    z, kl = draw(jax.random.split(KEY, 5000))
    means, variances = posteriors(encoder, batch.context, MASK)
    np.testing.assert_allclose(z.mean(0), means, atol=0.08)
    np.testing.assert_allclose(z.std(0), np.sqrt(variances), rtol=0.05)
    x = np.linspace(-12, 12, 20_001)

    def density(mean, variance):
        return np.exp(-0.5 * (x - mean) ** 2 / variance) / np.sqrt(2 * np.pi * variance)

    for c in range(CONTEXTS):
        expected = 0.0
        for mean, variance in zip(means[c], variances[c], strict=True):
            q, p = density(mean, variance), density(0.0, 1.0)
            expected += np.sum(np.where(q > 1e-30, q * np.log(np.maximum(q, 1e-30) / p), 0.0)) * (x[1] - x[0])
        np.testing.assert_allclose(kl[:, c], expected, rtol=1e-3, atol=1e-4)
    assert np.all(np.asarray(kl)[:, 3] == 0)  # nothing is known: the prior


def test_no_evidence_gives_no_gradient_and_no_nan(encoder):
    batch = minibatch()._replace(mask=np.zeros_like(MASK))
    gradient = reference.jit(jax.grad(lambda f: sum(x.sum() for x in contextual_sac.sample_identity(f, batch, KEY))))(
        encoder
    )
    assert all(np.all(np.asarray(x) == 0) for x in jax.tree.leaves(gradient))


# ---------------------------------------------------------------------- who teaches f


@pytest.fixture(scope="module")
def algorithm():
    return dataclasses.replace(CONFIG, latent_dim=LATENT, encoder_hidden=(5,), sac=SAC((6,), batch_size=8))


@pytest.fixture(scope="module")
def state(algorithm, encoder):
    unit = (Normaliser(jnp.zeros(n), jnp.ones(n)) for n in (2, 6))
    state = reference.filled(lambda: algorithm.init(KEY, SPEC, *unit))
    sac = {name: reference.zeros(getattr(state.sac, name)) for name in state.sac._fields if "optimiser" in name}
    normaliser = Normaliser(jnp.array([0.1, -0.2, 0, 0, 0]), jnp.array([1.5, 0.5, 1, 1, 1]))
    sac = state.sac._replace(normaliser=normaliser, **sac)
    return state._replace(sac=sac, encoder=encoder, encoder_optimiser=reference.zeros(state.encoder_optimiser))


@pytest.fixture(scope="module")
def update(algorithm):
    return reference.jit(algorithm.update)


def gradient_of(updated):
    """The gradient of f that the first step of Adam has seen."""
    return jax.tree.map(lambda x: np.asarray(x) / 0.1, updated.encoder_optimiser[0].mu.network)


def close(one, other, **tolerance):
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(x, y, **tolerance)


def test_f_learns_from_the_critic_loss_and_the_kl_and_sac_reads_z_as_data(algorithm, state, update):
    batch = minibatch()
    updated, metrics = update(state, batch, KEY)
    z_key, sac_key = jax.random.split(KEY)
    noise = np.asarray(jax.random.normal(z_key, (CONTEXTS, LATENT)))

    def posterior(network):
        encoder = eqx.tree_at(lambda f: f.network, state.encoder, network)
        return encoder.posterior(Evidence.of(encoder.observe(batch.context), MASK))

    mean, variance = posterior(state.encoder.network)
    z = np.repeat(mean + np.sqrt(variance) * noise, QUERIES, axis=0)
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch.queries)
    joined = flat._replace(
        observations=np.concatenate([flat.observations, z], 1),
        next_observations=np.concatenate([flat.next_observations, z], 1),
    )
    y = np.asarray(algorithm.sac.regression_target(state.sac, joined, sac_key))  # a number: f is not to change it

    def loss(network):
        mean, variance = posterior(network)
        z = jnp.repeat(mean + jnp.sqrt(variance) * noise, QUERIES, axis=0)
        s = (flat.observations - state.sac.normaliser.mean[:2]) / state.sac.normaliser.scale[:2]
        q = state.sac.critics(jnp.concatenate([s, z], 1), flat.actions)
        kl = (0.5 * (variance + mean**2 - 1 - jnp.log(variance))).sum(1).mean()
        return ((q[0] - y) ** 2).mean() + ((q[1] - y) ** 2).mean() + 0.1 * kl, kl

    expected, kl = reference.jit(jax.grad(loss, has_aux=True))(state.encoder.network)
    close(gradient_of(updated), expected, rtol=1e-3, atol=1e-4)
    assert float(metrics["kl"]) == pytest.approx(float(kl), rel=1e-4)
    close(updated.encoder.inputs, state.encoder.inputs)
    sac, _ = toys.update(algorithm.sac)(state.sac, joined, sac_key)
    close(updated.sac.actor, sac.actor, rtol=1e-4, atol=1e-5)
    close(updated.sac.critics, sac.critics, rtol=1e-4, atol=1e-5)


def test_the_actor_and_its_entropy_teach_f_nothing(state, update):
    batch = minibatch(terminations=True)  # the targets are the rewards, whatever the actor would do next
    whole = gradient_of(update(state, batch, KEY)[0])
    other_actor = state.sac._replace(actor=jax.tree.map(lambda x: -2 * x, state.sac.actor), log_alpha=jnp.float32(1.0))
    close(gradient_of(update(state._replace(sac=other_actor), batch, KEY)[0]), whole, rtol=1e-5, atol=1e-6)
    other_critics = state.sac._replace(critics=jax.tree.map(lambda x: -x, state.sac.critics))
    changed = gradient_of(update(state._replace(sac=other_critics), batch, KEY)[0])
    assert max(np.abs(x - y).max() for x, y in zip(*map(jax.tree.leaves, (changed, whole)), strict=True)) > 0.01


# ---------------------------------------------------------------------- training


def bandit(directory):
    """Two MDPs of one step: what is paid is the action, or minus the action. Observations say nothing."""
    rng, mdps = np.random.default_rng(0), []
    for sign in (1.0, -1.0):
        actions = rng.uniform(-1, 1, (150, 1, 1))
        mdps.append([(rng.normal(size=(2, 2)), a, sign * a[:, 0], True) for a in actions])
    return toys.replay(directory, mdps)


@pytest.fixture(scope="module")
def replay(tmp_path_factory):
    return bandit(tmp_path_factory.mktemp("bandit"))


def train(replay, directory, checkpoint_seconds=1e9, config=CONFIG):
    directory.mkdir(exist_ok=True)
    metrics, checkpoints = Metrics(directory / "metrics.csv"), directory / "checkpoints"
    return train_contextual_sac(replay, config, 0, checkpoints, metrics, "contextual", checkpoint_seconds)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("whole")


@pytest.fixture(scope="module")
def learned(replay, directory):
    return train(replay, directory)


def test_every_mdp_has_its_share_of_the_minibatch(tmp_path):
    replay = toys.replay(tmp_path, [toys.numbered([3, 4], 0), toys.numbered([5], 1), toys.numbered([2, 2], 2)])
    config = dataclasses.replace(CONFIG, context=PAPER)
    drawn = jax.jit(lambda key, sizes: contextual_sac.draw_minibatch(key, sizes, config))(KEY, replay.size)
    batch = contextual_sac.read_minibatch(jax.tree.map(np.asarray, drawn), replay)
    assert batch.context.rewards.shape == batch.mask.shape == (3 * 4, 1)
    assert batch.queries.rewards.shape == (3 * 4, 4)
    of = np.repeat(np.arange(3), 4)[:, None]
    assert np.all(batch.context.rewards // 1000 == of) and np.all(batch.queries.rewards // 1000 == of)
    assert len(np.unique(batch.queries.rewards[:4])) > 4  # not the same ones for every context


def test_contexts_must_share_the_minibatch_evenly(replay, tmp_path):
    with pytest.raises(BmrlError, match="3 queries a context do not divide 16"):
        train(replay, tmp_path, config=dataclasses.replace(CONFIG, queries=3))


def test_a_killed_training_goes_on_exactly(replay, learned, directory, tmp_path, monkeypatch):
    toys.kill_at_log(monkeypatch, 7)
    with pytest.raises(toys.Killed):
        train(replay, tmp_path, checkpoint_seconds=0)
    monkeypatch.undo()
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == ["step-000000050", "step-000000060"]
    again = train(replay, tmp_path)
    assert [np.asarray(x).tobytes() for x in jax.tree.leaves(again)] == [
        np.asarray(x).tobytes() for x in jax.tree.leaves(learned)
    ]
    assert read_metrics(tmp_path / "metrics.csv") == read_metrics(directory / "metrics.csv")


def steps_of(sign, actions):
    n = len(actions)
    s = np.zeros((n, 2), np.float32)
    return Transition(s, actions, sign * actions[:, 0], s, np.ones(n, bool))


def test_it_acts_as_its_context_says(learned):
    actions = np.array([[0.8], [-0.6], [0.5]], np.float32)
    agent, zeros = ContextualAgent(CONFIG, learned), np.zeros((3, 2), np.float32)
    blank = agent.start(3)
    np.testing.assert_array_equal(agent.identity(blank), 0)
    for sign in (1.0, -1.0):
        memory = agent.observe(blank, steps_of(sign, actions))
        assert np.all(sign * agent.act(memory, zeros, KEY) > 0.5)


def test_a_context_of_several_transitions_equals_the_product_one_after_the_other(learned):
    actions = np.array([[[0.8], [-0.6]], [[0.1], [0.3]], [[-0.9], [0.2]]], np.float32)
    whole = ContextualAgent(CONFIG, learned)
    latest = ContextualAgent(dataclasses.replace(CONFIG, context=PAPER), learned)
    memory, last = whole.start(2), latest.start(2)
    for a in actions:
        memory, last = (agent.observe(x, steps_of(1.0, a)) for agent, x in ((whole, memory), (latest, last)))
    context = jax.tree.map(lambda *x: np.stack(x, 1), *(steps_of(1.0, a) for a in actions))
    evidence = Evidence.of(learned.encoder.observe(context), np.ones((2, 3), bool))
    np.testing.assert_allclose(whole.identity(memory), learned.encoder.posterior(evidence)[0], rtol=1e-4, atol=1e-5)
    one = Evidence(learned.encoder.observe(steps_of(1.0, actions[-1])), jnp.ones(2))
    np.testing.assert_allclose(latest.identity(last), learned.encoder.posterior(one)[0], rtol=1e-4, atol=1e-5)
