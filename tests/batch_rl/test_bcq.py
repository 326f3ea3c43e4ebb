"""BCQ's losses against slow references, and how an update puts them together."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batch_rl import toys
from networks import reference

from bmrl.batch_rl import bcq

N, LATENT = 32, 4
ALGORITHM = toys.ALGORITHMS["bcq"]
KEY = jax.random.PRNGKey(3)


@pytest.fixture(scope="module")
def batch():
    return toys.minibatch(N)


@pytest.fixture(scope="module")
def state():
    return toys.state(ALGORITHM)


def latents(key, *shape):
    """z as it is sampled: a normal clipped to half a unit."""
    return np.clip(np.asarray(jax.random.normal(key, (*shape, LATENT)), np.float64), -0.5, 0.5)


def decode(generator, s, z):
    return [math.tanh(x) for x in reference.mlp(generator.decoder, [*s, *z])]


def correction(perturbation, s, a):
    return [0.05 * math.tanh(x) for x in reference.mlp(perturbation, [*s, *a])]


def perturb(perturbation, s, a):
    return [min(max(x + dx, -1.0), 1.0) for x, dx in zip(a, correction(perturbation, s, a), strict=True)]


def vae_loss(generator, s, actions, noise):
    reconstruction, kl = 0.0, 0.0
    for i in range(len(s)):
        out = reference.mlp(generator.encoder, [*s[i], *actions[i]])
        mean, log_std = out[:LATENT], [min(max(x, -4.0), 15.0) for x in out[LATENT:]]
        z = [m + math.exp(x) * e for m, x, e in zip(mean, log_std, noise[i], strict=True)]
        for decoded, action in zip(decode(generator, s[i], z), actions[i], strict=True):
            reconstruction += (decoded - float(action)) ** 2 / (len(s) * 2)
        for m, x in zip(mean, log_std, strict=True):
            variance = math.exp(x) ** 2
            kl += -0.5 * (1 + math.log(variance) - m**2 - variance) / (len(s) * LATENT)
    return reconstruction + 0.5 * kl


def test_every_loss_equals_its_reference(state, batch):
    rng = np.random.default_rng(1)
    y, next_values = rng.normal(size=N).astype(np.float32), rng.normal(size=(2, 5, N)).astype(np.float32)
    # At the border of [-1, 1] a correction must be clipped.
    candidates = np.where(rng.random((N, 2)) < 0.3, 1, rng.uniform(-1, 1, (N, 2))).astype(np.float32)
    # Encoders whose log std leaves [-4, 15], on either side.
    low, high = (
        eqx.tree_at(lambda g: g.encoder.biases[-1], state.generator, jnp.array([0.1, -0.2, 0.3, 0.5, x, 0.2, x, -1]))
        for x in (-30.0, 30.0)
    )

    @reference.jit
    def everything(state, low, high):
        s, a = batch.observations, batch.actions
        return {
            "latents": bcq.clipped_latents(KEY, (5, N, 4)),
            "vae": bcq.vae_loss_fn(state.generator, s, a, KEY),
            "vae, low": bcq.vae_loss_fn(low, s, a, KEY),
            "vae, high": bcq.vae_loss_fn(high, s, a, KEY),
            "target": bcq.critic_target(batch.rewards, batch.terminations, next_values, 0.9, 0.75),
            "critics": bcq.critics_loss_fn(state.critics, s, a, y),
            "correction": bcq.correction(state.perturbation, s, candidates, 0.05),
            "perturb": bcq.perturb(state.perturbation, s, candidates, 0.05),
            "perturbation": bcq.perturbation_loss_fn(state.perturbation, state.critics, s, candidates, 0.05),
        }

    found = everything(state, low, high)
    s, actions = batch.observations, batch.actions
    noise = np.asarray(jax.random.normal(KEY, (N, LATENT)), np.float64)
    q = [[reference.critic(state.critics, k, s[i], actions[i]) for i in range(N)] for k in range(2)]
    perturbed = [perturb(state.perturbation, s[i], candidates[i]) for i in range(N)]
    target = []
    for i in range(N):
        soft = [0.75 * min(pair) + 0.25 * max(pair) for pair in next_values[:, :, i].T.astype(float)]
        target.append(batch.rewards[i] + (0.0 if batch.terminations[i] else 0.9 * max(soft)))
    expected = {
        "latents": latents(KEY, 5, N),
        "vae": vae_loss(state.generator, s, actions, noise),
        "vae, low": vae_loss(low, s, actions, noise),
        "vae, high": vae_loss(high, s, actions, noise),
        "target": np.array(target),
        "critics": (sum(sum((q[k][i] - y[i]) ** 2 for i in range(N)) / N for k in range(2)), np.array(q)),
        "correction": np.array([correction(state.perturbation, s[i], candidates[i]) for i in range(N)]),
        "perturb": np.array(perturbed),
        "perturbation": -sum(reference.critic(state.critics, 0, s[i], perturbed[i]) for i in range(N)) / N,
    }
    for name in expected:
        for one, other in zip(jax.tree.leaves(found[name]), jax.tree.leaves(expected[name]), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5, err_msg=name)
    assert np.abs(found["latents"]).max() == 0.5
    assert np.abs(found["perturb"]).max() == 1.0


def test_an_update_puts_the_losses_together(state, batch):
    updated, metrics = toys.update(ALGORITHM)(state, batch, KEY)
    vae_key, target_key, perturbation_key = jax.random.split(KEY, 3)
    s, s_next = (
        [reference.normalise(state.normaliser, row) for row in x] for x in (batch.observations, batch.next_observations)
    )
    noise = np.asarray(jax.random.normal(vae_key, (N, LATENT)), np.float64)
    z_next, z = latents(target_key, ALGORITHM.candidates, N), latents(perturbation_key, N)

    # The target reads the updated generator, and the target critics and perturbation.
    critics_loss, q_sum, perturbation_loss = 0.0, 0.0, 0.0
    for i in range(N):
        soft = []
        for m in range(ALGORITHM.candidates):
            candidate = decode(updated.generator, s_next[i], z_next[m, i])
            action = perturb(state.target_perturbation, s_next[i], candidate)
            values = [reference.critic(state.target_critics, k, s_next[i], action) for k in range(2)]
            soft.append(0.75 * min(values) + 0.25 * max(values))
        y = batch.rewards[i] + (0.0 if batch.terminations[i] else ALGORITHM.discount * max(soft))
        q = [reference.critic(state.critics, k, s[i], batch.actions[i]) for k in range(2)]
        critics_loss += sum((value - y) ** 2 for value in q) / N
        q_sum += sum(q) / (2 * N)
        # The perturbation reads the updated generator and the updated first critic.
        action = perturb(state.perturbation, s[i], decode(updated.generator, s[i], z[i]))
        perturbation_loss -= reference.critic(updated.critics, 0, s[i], action) / N
    expected = {
        "vae_loss": vae_loss(state.generator, s, batch.actions, noise),
        "critics_loss": critics_loss,
        "perturbation_loss": perturbation_loss,
        "q_mean": q_sum,
    }
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        assert float(metrics[name]) == pytest.approx(value, rel=1e-4, abs=1e-5), name

    for name in ("critics", "perturbation"):
        online, old = getattr(updated, name), getattr(state, name)
        target, old_target = getattr(updated, f"target_{name}"), getattr(state, f"target_{name}")
        leaves = zip(*map(jax.tree.leaves, (online, old, target, old_target)), strict=True)
        for new, before, moved, from_where in leaves:
            assert 0 < np.abs(new - before).max() < 1.01 * ALGORITHM.learning_rate
            np.testing.assert_allclose(
                moved, 0.9 * np.asarray(from_where) + 0.1 * np.asarray(new), rtol=1e-5, atol=1e-6
            )
    for one, other in zip(jax.tree.leaves(updated.normaliser), jax.tree.leaves(state.normaliser), strict=True):
        np.testing.assert_array_equal(one, other)
