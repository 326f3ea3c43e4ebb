import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batch_rl import toys
from distill import toy
from networks import reference

from bmrl.batch_rl import Targets
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
    return fit_reward_model(replay, statistics.context, SPEC, toy.REWARD_MODEL, jax.random.PRNGKey(0))


@pytest.mark.parametrize("next_observations", [False, True])
def test_the_model_and_its_loss_equal_their_references(next_observations):
    inputs = Normaliser(jnp.array([0.1, 0.2, 0.3, -1, 0.4, 0.5]), jnp.array([1.0, 2, 0.5, 2, 0.3, 0.2]))
    config, key = dataclasses.replace(toy.REWARD_MODEL, next_observations=next_observations), jax.random.PRNGKey(0)
    model = reference.filled(lambda: RewardModel(key, SPEC, inputs, 3, config))
    model = eqx.tree_at(lambda m: m.inputs, model, inputs)
    n, batch = 20, transitions(1, n=20)
    mdp, other = np.arange(n) % 3, (np.arange(n) + 1) % 3
    loss, rewards, changes = 0.0, [], []
    for i in range(n):
        s, s_next = np.asarray(batch.observations[i]), np.asarray(batch.next_observations[i])
        row = reference.normalise(inputs, [*s, *batch.actions[i], batch.rewards[i], *(s_next - s)])
        known, told = (row[:3], row[3:]) if next_observations else ([*row[:3], *row[4:]], row[3:4])
        found, elsewhere = (reference.mlp(model.network, [*known, *model.embeddings[k[i]]]) for k in (mdp, other))
        loss += sum((np.array(found) - told) ** 2) / len(told) / n
        difference = np.subtract(elsewhere, found) * np.asarray(inputs.scale)[3 : 3 + len(told)]
        rewards.append(batch.rewards[i] + difference[0])
        changes.append(difference[1:] if next_observations else np.zeros(2))

    found, gradient = reference.jit(jax.value_and_grad(reward_loss_fn))(model, batch, mdp)
    assert float(found) == pytest.approx(float(loss), rel=1e-4)
    # Trained statistics would shrink the loss by growing the unit in which it is measured.
    assert all(np.all(g == 0) for g in jax.tree.leaves(gradient.inputs))
    assert np.abs(gradient.embeddings).min() > 0

    relabelled = reference.jit(lambda m, t: m.relabel(t, mdp, other))(model, batch)
    np.testing.assert_allclose(relabelled.rewards, np.array(rewards), rtol=1e-4, atol=1e-4)
    moved = np.asarray(relabelled.next_observations - batch.next_observations)
    np.testing.assert_allclose(moved, np.array(changes), rtol=1e-4, atol=1e-4)
    for name in ("observations", "actions", "terminations"):
        np.testing.assert_array_equal(getattr(relabelled, name), getattr(batch, name))

    # It must not see the answer.
    told = batch._replace(rewards=batch.rewards + 100)
    if next_observations:
        told = told._replace(next_observations=batch.next_observations + 100)
    np.testing.assert_array_equal(model.split(told)[0], model.split(batch)[0])


def test_a_fitted_model_relabels_transitions_that_it_never_saw(fitted):
    model, losses = fitted
    relabel = reference.jit(lambda t, source, target: model.relabel(t, source, target).rewards)
    # Rewards lie in [-2, 0]. The error is at most 0.3 (the reward has a kink), and 0.05 in the root mean square.
    assert losses.shape == (toy.REWARD_MODEL.updates,) and losses[-100:].mean() < 0.01 < losses[0]
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


GAINS = np.array([0.1, 0.3, -0.3])  # by which three MDPs move x


def moves(mdp, episodes, seed):
    """Random walks of x, and beside it noise of deviation 1, which no model can explain; what is paid is x'."""
    rng, found = np.random.default_rng([mdp, seed]), []
    for _ in range(episodes):
        actions = rng.uniform(-1, 1, (5, 1))
        x = rng.uniform(-1, 1) + np.concatenate([[0], GAINS[mdp] * actions[:, 0].cumsum()])
        found.append((np.stack([x, rng.normal(size=6)], 1), actions, x[1:], False))
    return found


def test_where_transitions_vary_the_next_observation_is_relabelled_too(tmp_path):
    replay = toys.replay(tmp_path, [moves(mdp, 100, 0) for mdp in range(3)])
    statistics = train_statistics(replay, Targets(toys.padded(replay).rewards))
    config = dataclasses.replace(toy.REWARD_MODEL, next_observations=True, updates=800)
    model, _ = fit_reward_model(replay, statistics.context, SPEC, config, jax.random.PRNGKey(0))
    for source, target in ((0, 1), (1, 2), (2, 2)):
        logged = toys.replay(tmp_path / f"{source}", [moves(source, 40, 1)]).logs[0].take(np.arange(200))
        found = model.relabel(logged, jnp.full(200, source), jnp.full(200, target))
        x = logged.observations[:, 0] + GAINS[target] * logged.actions[:, 0]
        # Actions move x by 0.06 (gain 0.1) or 0.17 in the root mean square.
        for values in (found.next_observations[:, 0], found.rewards):
            assert np.sqrt(np.square(values - x).mean()) < 0.05, (source, target)
        # What the model does not explain stays: the noise.
        change = found.next_observations[:, 1] - logged.next_observations[:, 1]
        assert np.sqrt(np.square(change).mean()) < 0.2, (source, target)
