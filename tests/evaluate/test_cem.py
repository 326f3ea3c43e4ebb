"""CEM finds what is known to be the best."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bmrl.evaluate.cem import CEM

KEYS = jax.random.split(jax.random.PRNGKey(0), 5)


def search(cem, value, action_dim, keys=KEYS):
    """What CEM finds with each of the keys."""
    return np.asarray(jax.jit(jax.vmap(lambda key: cem.maximise(value, action_dim, key)))(keys))


@pytest.mark.parametrize(
    ("peak", "best"),
    [
        ((0.3, -0.7, 0.0), (0.3, -0.7, 0.0)),
        ((1.1, -1.1, 0.5), (1.0, -1.0, 0.5)),  # outside the box: its border is as good as can be
    ],
    ids=["inside", "at-the-border"],
)
def test_the_best_action_of_a_quadratic_is_found(peak, best):
    def value(actions):
        assert actions.shape == (400, 3)
        return -jnp.square(actions - jnp.array(peak)).sum(-1)

    found = search(CEM(), value, 3)
    np.testing.assert_allclose(found, np.broadcast_to(best, found.shape), atol=0.1)
    assert (np.abs(found) <= 1).all()


def test_iterations_and_elites_narrow_the_search():
    def miss(cem):
        found = search(cem, lambda actions: -jnp.abs(actions - 0.9).sum(-1), 6)
        return np.abs(found - 0.9).max(-1).mean()

    assert 3 * miss(CEM()) < min(miss(CEM(iterations=2)), miss(CEM(elites=400)))


def test_between_two_peaks_it_takes_one():
    found = search(CEM(), lambda actions: -jnp.square(jnp.abs(actions[:, 0]) - 0.6), 1)
    np.testing.assert_allclose(np.abs(found), 0.6, atol=0.01)


def test_the_same_key_finds_the_same():
    found = search(CEM(50, 5, 2), lambda actions: jnp.sin(5 * actions).sum(-1), 2, KEYS[jnp.array([1, 1, 2])])
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[1] != found[2]).all()
