"""SAC's losses against slow references, and how an update puts them together."""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batch_rl import toys
from networks import reference

from bmrl.batch_rl import sac
from bmrl.batch_rl.base import polyak
from bmrl.networks import MLP

N = 32
ALGORITHM = toys.ALGORITHMS["sac"]
KEY, ALPHA = jax.random.PRNGKey(3), 0.7


@pytest.fixture(scope="module")
def batch():
    return toys.minibatch(N)


@pytest.fixture(scope="module")
def state():
    return toys.state(ALGORITHM)._replace(log_alpha=jnp.log(ALPHA))


def policy(actor, s, noise):
    """Action and log density of one row, the density by the change of variables a = tanh(u)."""
    out = reference.mlp(actor, s)
    half = len(out) // 2
    actions, log_prob = [], 0.0
    for mean, log_std, epsilon in zip(out[:half], out[half:], noise, strict=True):
        std = math.exp(min(max(log_std, -20), 2))
        u = mean + std * float(epsilon)
        gaussian = math.exp(-0.5 * ((u - mean) / std) ** 2) / (std * math.sqrt(2 * math.pi))
        log_prob += math.log(gaussian) + 2 * math.log(math.cosh(u))  # 1 - tanh^2 = cosh^-2
        actions.append(math.tanh(u))
    return actions, log_prob


def noise_of(key):
    return np.asarray(jax.random.normal(key, (N, 2)))


def test_every_loss_equals_its_reference(state, batch):
    log_probs, y, *next_values = np.random.default_rng(1).normal(size=(4, N)).astype(np.float32)
    next_values = np.array(next_values)

    @reference.jit
    def everything(state):
        s, a = batch.observations, batch.actions
        return {
            "target": sac.critic_target(batch.rewards, batch.terminations, next_values, log_probs, ALPHA, 0.9),
            "critics": sac.critics_loss_fn(state.critics, s, a, y),
            "actor": sac.actor_loss_fn(state.actor, state.critics, s, ALPHA, KEY),
            "alpha": sac.alpha_loss_fn(jnp.log(ALPHA), log_probs, -2.0),
        }

    found = everything(state)
    s, noise = batch.observations, noise_of(KEY)
    q = [[reference.critic(state.critics, k, s[i], batch.actions[i]) for i in range(N)] for k in range(2)]
    sampled = [policy(state.actor, s[i], noise[i]) for i in range(N)]
    actor_loss = 0.0
    for i, (a, log_prob) in enumerate(sampled):
        smaller = min(reference.critic(state.critics, k, s[i], a) for k in range(2))
        actor_loss += (ALPHA * log_prob - smaller) / N
    target = [
        batch.rewards[i] + (0 if batch.terminations[i] else 0.9 * (min(next_values[:, i]) - ALPHA * log_probs[i]))
        for i in range(N)
    ]
    expected = {
        "target": np.array(target),
        "critics": (sum(sum((q[k][i] - y[i]) ** 2 for i in range(N)) / N for k in range(2)), np.array(q)),
        "actor": (actor_loss, np.array([log_prob for _, log_prob in sampled])),
        "alpha": -sum(math.log(ALPHA) * (log_probs[i] - 2.0) for i in range(N)) / N,
    }
    for name in expected:
        for one, other in zip(jax.tree.leaves(found[name]), jax.tree.leaves(expected[name]), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5, err_msg=name)


def constant_actor(mean, log_std):
    """An actor of one action that says the same of every observation."""
    actor = reference.filled(lambda: MLP(KEY, 1, (), 2))
    return eqx.tree_at(lambda a: (a.weights, a.biases), actor, ((jnp.zeros((1, 2)),), (jnp.array([mean, log_std]),)))


def test_the_log_density_is_that_of_the_squashed_action():
    mean, log_std, n = 0.3, -0.5, 200
    sample = reference.jit(lambda actor: sac.sample_action(actor, jnp.zeros((n, 1)), KEY))
    actions, log_probs = sample(constant_actor(mean, log_std))

    def cdf(a):  # P(tanh(u) <= a)
        return 0.5 * (1 + math.erf((math.atanh(a) - mean) / math.exp(log_std) / math.sqrt(2)))

    h = 1e-5
    for a, log_prob in zip(np.asarray(actions, np.float64)[:, 0], log_probs, strict=True):
        if abs(a) < 0.99:  # beyond, a float32 action is too coarse to invert
            assert math.exp(log_prob) == pytest.approx((cdf(a + h) - cdf(a - h)) / (2 * h), rel=1e-2)

    # Far in the tails tanh(u) is 1 in float32: the density must stay finite and right.
    _, far = sample(constant_actor(15.0, -2.0))
    u = 15 + math.exp(-2) * np.asarray(jax.random.normal(KEY, (n, 1)), np.float64)[:, 0]
    log_jacobian = math.log(4) - 2 * u - 2 * np.log1p(np.exp(-2 * u))
    gaussian = -0.5 * ((u - 15) / math.exp(-2)) ** 2 + 2 - 0.5 * math.log(2 * math.pi)
    np.testing.assert_allclose(far, gaussian - log_jacobian, rtol=1e-4)

    # The standard deviation is clipped to [e^-20, e^2].
    wide, narrow = sample(constant_actor(0.0, 50.0))[0], sample(constant_actor(0.4, -50.0))[0]
    noise = np.asarray(jax.random.normal(KEY, (n, 1)), np.float64)
    np.testing.assert_allclose(wide, np.tanh(math.exp(2) * noise), atol=1e-5)
    np.testing.assert_allclose(narrow, math.tanh(0.4), rtol=1e-5)


def test_polyak_moves_a_step_towards_the_online_network():
    old, new = {"a": np.array([1.0, 2.0]), "b": np.array(3.0)}, {"a": np.array([2.0, -2.0]), "b": np.array(3.0)}
    moved = polyak(old, new, 0.1)
    np.testing.assert_allclose(moved["a"], [1.1, 1.6])
    np.testing.assert_allclose(moved["b"], 3.0)


def test_an_update_puts_the_losses_together(state, batch):
    updated, metrics = toys.update(ALGORITHM)(state, batch, KEY)
    next_key, actor_key = jax.random.split(KEY)
    next_noise, noise = noise_of(next_key), noise_of(actor_key)
    critics_loss, actor_loss, q_sum, entropy = 0.0, 0.0, 0.0, 0.0
    for i in range(N):
        s, s_next = (reference.normalise(state.normaliser, x[i]) for x in (batch.observations, batch.next_observations))
        a_next, log_prob_next = policy(state.actor, s_next, next_noise[i])
        soft = min(reference.critic(state.target_critics, k, s_next, a_next) for k in range(2)) - ALPHA * log_prob_next
        y = batch.rewards[i] + (0.0 if batch.terminations[i] else ALGORITHM.discount * soft)
        q = [reference.critic(state.critics, k, s, batch.actions[i]) for k in range(2)]
        a, log_prob = policy(state.actor, s, noise[i])
        critics_loss += sum((value - y) ** 2 for value in q) / N
        q_sum += sum(q) / (2 * N)
        actor_loss += (ALPHA * log_prob - min(reference.critic(state.critics, k, s, a) for k in range(2))) / N
        entropy -= log_prob / N
    expected = {
        "critics_loss": critics_loss,
        "actor_loss": actor_loss,
        "q_mean": q_sum,
        "alpha": ALPHA,
        "entropy": entropy,
    }
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        assert float(metrics[name]) == pytest.approx(value, rel=1e-4, abs=1e-5), name

    # Adam's first step has the size of the learning rate; alpha rises where the entropy is below its target, -d_a.
    step = float(updated.log_alpha - state.log_alpha)
    assert step == pytest.approx(math.copysign(1e-2, -2 - entropy), rel=1e-3)
    # Any other target: one just below the entropy, one just above. An action has two components.
    for target in ((entropy - 0.1) / 2, (entropy + 0.1) / 2):
        algorithm = dataclasses.replace(ALGORITHM, target_entropy=target)
        step = float(toys.update(algorithm)(state, batch, KEY)[0].log_alpha - state.log_alpha)
        assert step == pytest.approx(math.copysign(1e-2, 2 * target - entropy), rel=1e-3)
    for online, old, target, new in zip(
        *map(jax.tree.leaves, (updated.critics, state.target_critics, updated.target_critics, state.critics)),
        strict=True,
    ):
        np.testing.assert_allclose(target, 0.9 * np.asarray(old) + 0.1 * np.asarray(online), rtol=1e-5, atol=1e-6)
        assert 0 < np.abs(online - new).max() < 1.01e-2
    for one, other in zip(jax.tree.leaves(updated.normaliser), jax.tree.leaves(state.normaliser), strict=True):
        np.testing.assert_array_equal(one, other)
