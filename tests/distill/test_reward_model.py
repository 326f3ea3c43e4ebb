import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from distill import toy
from networks import reference

from bmrl.distill.distill import train_statistics
from bmrl.distill.reward_model import RewardModel, fit_reward_model, reward_loss_fn
from bmrl.networks import Normaliser
from bmrl.types import Spec, Transition

SPEC, N = Spec(2, 1), 500


def transitions(mdp, n=N, noise=0.0):
    """Transitions that no batch holds."""
    rng = np.random.default_rng(99)
    s, actions = np.stack([rng.uniform(-0.7, 0.7, n), rng.normal(size=n)], 1), rng.uniform(-1, 1, (n, 1))
    s_next = np.stack([s[:, 0] + 0.3 * actions[:, 0], rng.normal(size=n)], 1)
    rewards = toy.reward(s_next[:, 0], mdp) + noise * rng.normal(size=n)
    return jax.tree.map(
        lambda x: jnp.asarray(x, jnp.float32), Transition(s, actions, rewards, s_next, np.zeros(n, bool))
    )


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    replay = toy.replay(tmp_path_factory.mktemp("batches"))
    statistics = train_statistics(replay, toy.targets(replay))
    replay, key = jax.tree.map(jnp.asarray, replay), jax.random.PRNGKey(0)
    return fit_reward_model(replay, statistics.context, statistics.rewards, SPEC, toy.REWARD_MODEL, key)


def test_the_model_and_its_loss_equal_their_references():
    inputs = Normaliser(jnp.array([0.1, 0.2, 0.3, -5, 0.4, 0.5]), jnp.array([1.0, 2, 0.5, 7, 0.3, 0.2]))
    rewards, key = Normaliser(jnp.array([-1.0]), jnp.array([2.0])), jax.random.PRNGKey(0)
    model = reference.filled(lambda: RewardModel(key, SPEC, inputs, rewards, 3, toy.REWARD_MODEL))
    model = eqx.tree_at(lambda m: (m.inputs, m.rewards), model, (inputs, rewards))
    n, batch = 20, transitions(1, n=20)
    mdp = np.arange(n) % 3
    expected = []
    for i in range(n):
        s, s_next = np.asarray(batch.observations[i]), np.asarray(batch.next_observations[i])
        row = reference.normalise(inputs, [*s, *batch.actions[i], 0, *(s_next - s)])
        row = [*row[:3], *row[4:], *model.embeddings[mdp[i]]]  # without the reward
        expected.append(2 * reference.mlp(model.network, row)[0] - 1)
    loss = sum(((e - float(r)) / 2) ** 2 for e, r in zip(expected, batch.rewards, strict=True)) / n

    predicted = reference.jit(lambda m, t: m(t, mdp))
    np.testing.assert_allclose(predicted(model, batch), expected, rtol=1e-4, atol=1e-5)
    # It must not see the answer.
    told = batch._replace(rewards=batch.rewards + 100)
    np.testing.assert_array_equal(predicted(model, told), predicted(model, batch))

    found, gradient = reference.jit(jax.value_and_grad(reward_loss_fn))(model, batch, mdp)
    assert float(found) == pytest.approx(loss, rel=1e-4)
    # Trained statistics would shrink the loss by growing the unit in which it is measured.
    assert all(np.all(g == 0) for g in jax.tree.leaves((gradient.inputs, gradient.rewards)))
    assert np.abs(gradient.embeddings).min() > 0


def test_a_fitted_model_relabels_transitions_that_it_never_saw(fitted):
    model, loss = fitted
    relabel = reference.jit(lambda t, source, target: model.relabel(t, source, target).rewards)
    # Rewards lie in [-2, 0]. The error is at most 0.3 (the reward has a kink), and 0.05 in the root mean square.
    assert float(loss) < 0.01
    for source in range(3):
        for target in range(3):
            indices = jnp.full(N, source), jnp.full(N, target)
            error = relabel(transitions(source), *indices) - transitions(target).rewards
            assert np.abs(error).max() < 0.3, (source, target)
            assert np.sqrt((error**2).mean()) < 0.05, (source, target)
            # What the source's model does not explain stays as it was logged.
            noisy = relabel(transitions(source, noise=0.5), *indices)
            residual = np.asarray(transitions(source, noise=0.5).rewards - transitions(source).rewards)
            np.testing.assert_allclose(noisy - relabel(transitions(source), *indices), residual, atol=1e-5)
            if source == target:
                np.testing.assert_array_equal(noisy, transitions(source, noise=0.5).rewards)
