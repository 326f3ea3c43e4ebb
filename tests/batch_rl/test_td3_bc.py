"""TD3+BC's losses against slow references, and how an update puts them together."""

import jax
import numpy as np
import pytest
from batch_rl import toys
from networks import reference

from bmrl.batch_rl import td3_bc

N = 32
ALGORITHM = toys.ALGORITHMS["td3_bc"]
KEY = jax.random.PRNGKey(3)


@pytest.fixture(scope="module")
def batch():
    return toys.minibatch(N)


@pytest.fixture(scope="module")
def state():
    return toys.state(ALGORITHM)


def actor_loss(actor, critics, s, actions):
    """Equations 3 and 5 of the paper, row by row."""
    chosen = [np.tanh(reference.mlp(actor, row)) for row in s]
    q = np.array([reference.critic(critics, 0, row, a) for row, a in zip(s, chosen, strict=True)])
    return -ALGORITHM.greed / np.abs(q).mean() * q.mean() + np.mean((np.array(chosen) - actions) ** 2)


def test_every_loss_equals_its_reference(state, batch):
    rng = np.random.default_rng(1)
    next_values, y = rng.normal(size=(2, N)).astype(np.float32), rng.normal(size=N).astype(np.float32)
    s, a = batch.observations, batch.actions

    @reference.jit
    def everything(state):
        return (
            td3_bc.critic_target(batch.rewards, batch.terminations, next_values, 0.9),
            td3_bc.critics_loss_fn(state.critics, s, a, y)[0],
            td3_bc.actor_loss_fn(state.actor, state.critics, s, a, ALGORITHM.greed),
        )

    target, critics_loss, loss = everything(state)
    expected = [batch.rewards[i] + (0 if batch.terminations[i] else 0.9 * min(next_values[:, i])) for i in range(N)]
    np.testing.assert_allclose(target, expected, rtol=1e-5)
    q = np.array([[reference.critic(state.critics, k, s[i], a[i]) for i in range(N)] for k in range(2)])
    assert critics_loss == pytest.approx(np.mean((q - y) ** 2, axis=1).sum(), rel=1e-4)
    assert loss == pytest.approx(actor_loss(state.actor, state.critics, s, a), rel=1e-4)


def test_an_update_puts_the_losses_together(state, batch):
    updated, metrics = toys.update(ALGORITHM)(state, batch, KEY)
    noise = np.clip(0.2 * np.asarray(jax.random.normal(KEY, (N, 2))), -0.5, 0.5)
    loss = 0.0
    for i in range(N):
        s, s_next = (reference.normalise(state.normaliser, x[i]) for x in (batch.observations, batch.next_observations))
        a_next = np.clip(np.tanh(reference.mlp(state.target_actor, s_next)) + noise[i], -1, 1)
        value = min(reference.critic(state.target_critics, k, s_next, a_next) for k in range(2))
        y = batch.rewards[i] + (0.0 if batch.terminations[i] else ALGORITHM.discount * value)
        loss += sum((reference.critic(state.critics, k, s, batch.actions[i]) - y) ** 2 for k in range(2)) / N
    assert metrics["critics_loss"] == pytest.approx(loss, rel=1e-4)
    assert updated.updates == 1


def weights(network):
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(network)])


def test_the_actor_and_the_targets_learn_at_every_second_update(state, batch):
    first, _ = toys.update(ALGORITHM)(state, batch, KEY)
    second, metrics = toys.update(ALGORITHM)(first, batch, KEY)
    for name in ("actor", "target_actor", "target_critics"):
        np.testing.assert_array_equal(weights(getattr(first, name)), weights(getattr(state, name)))
        assert (weights(getattr(second, name)) != weights(getattr(first, name))).any()
    for old, new in ((state, first), (first, second)):
        assert (weights(new.critics) != weights(old.critics)).any()
    # The targets move a step of the rate towards the updated networks; the actor climbs the updated critic.
    for target, online in (("target_actor", "actor"), ("target_critics", "critics")):
        moved = 0.9 * weights(getattr(first, target)) + 0.1 * weights(getattr(second, online))
        np.testing.assert_allclose(weights(getattr(second, target)), moved, rtol=1e-5, atol=1e-7)
    s = [reference.normalise(state.normaliser, row) for row in batch.observations]
    assert metrics["actor_loss"] == pytest.approx(actor_loss(first.actor, second.critics, s, batch.actions), rel=1e-4)
