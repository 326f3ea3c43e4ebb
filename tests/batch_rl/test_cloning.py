"""Behaviour cloning's loss against a slow reference, and what it learns."""

import jax
import numpy as np
import pytest
from batch_rl import toys
from networks import reference

from bmrl.batch_rl import Cloning
from bmrl.batch_rl.cloning import cloning_loss_fn
from bmrl.errors import BmrlError

ALGORITHM = Cloning((32,), batch_size=32, learning_rate=1e-2)
KEY = jax.random.PRNGKey(3)


@pytest.fixture(scope="module")
def state():
    return toys.state(ALGORITHM)


def squared_error(actor, s, actions):
    chosen = [np.tanh(reference.mlp(actor, row)) for row in s]
    return np.mean((np.array(chosen) - actions) ** 2)


def test_the_loss_equals_its_reference_and_an_update_lowers_it(state):
    batch = toys.minibatch(32)
    s = np.array([reference.normalise(state.normaliser, row) for row in batch.observations], np.float32)
    before = squared_error(state.actor, s, batch.actions)
    assert float(cloning_loss_fn(state.actor, s, batch.actions)) == pytest.approx(before, rel=1e-4)
    updated, metrics = toys.update(ALGORITHM)(state, batch, KEY)
    assert float(metrics["cloning_loss"]) == pytest.approx(before, rel=1e-4)
    assert squared_error(updated.actor, s, batch.actions) < before


def test_it_does_what_was_logged_whatever_that_earned(state):
    rng, update = np.random.default_rng(0), toys.update(ALGORITHM)
    for _ in range(300):
        batch = toys.minibatch(32)
        observations = rng.uniform(-1, 1, batch.observations.shape).astype(np.float32)
        actions = 0.6 * observations[:, :1] * np.ones_like(batch.actions)
        rewards = -np.abs(actions).sum(1)
        state, _ = update(state, batch._replace(observations=observations, actions=actions, rewards=rewards), KEY)
    s = np.eye(3, dtype=np.float32)[:1] * np.array([[0.8], [-0.8]], np.float32)
    np.testing.assert_allclose(ALGORITHM.act(state, s, KEY), [[0.48, 0.48], [-0.48, -0.48]], atol=0.1)


def test_there_is_nothing_to_distil(state):
    batch = toys.minibatch(32)
    with pytest.raises(BmrlError, match="learns no value"):
        ALGORITHM.targets(state, batch.observations, batch.actions, KEY)
