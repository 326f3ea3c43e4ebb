import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import reference

from bmrl.errors import BmrlError
from bmrl.networks import MLP, ConditionedMLP, Normaliser

KEY = jax.random.PRNGKey(0)


@pytest.mark.parametrize("hidden", [(), (6, 5)])
def test_an_mlp_equals_its_reference_over_any_leading_axes(hidden):
    network = reference.filled(lambda: MLP(KEY, 3, hidden, 2))
    x = np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)
    out = np.asarray(network(x))
    assert out.shape == (4, 2, 2)
    for index in np.ndindex(4, 2):
        np.testing.assert_allclose(out[index], reference.mlp(network, x[index]), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(network(x[index]), out[index], rtol=1e-5, atol=1e-6)


def test_weights_and_biases_start_uniform_within_the_inverse_root_of_the_fan_in():
    start = reference.jit(lambda key: MLP(key, 100, (400,), 50))
    network = start(KEY)
    for layer, fan_in in enumerate((100, 400)):
        for values in (network.weights[layer], network.biases[layer]):
            bound = fan_in**-0.5
            assert np.abs(values).max() <= bound
            assert np.abs(values).max() > 0.8 * bound
            assert abs(np.mean(values)) < 0.2 * bound
    # No layer repeats another's numbers, and no key another's.
    assert not np.allclose(network.weights[0][:50, :50], network.weights[1][:50, :50] * 2)
    assert not np.allclose(network.weights[0], start(jax.random.PRNGKey(1)).weights[0])


def test_a_conditioned_mlp_equals_its_reference_and_its_condition_broadcasts():
    network = reference.filled(lambda: ConditionedMLP(KEY, 3, 2, (6, 5), 2))
    rng = np.random.default_rng(0)
    x, m = rng.normal(size=(4, 7, 3)).astype(np.float32), rng.normal(size=(4, 1, 2)).astype(np.float32)
    out = np.asarray(network(x, m))
    assert out.shape == (4, 7, 2)
    for i, j in np.ndindex(4, 7):
        np.testing.assert_allclose(
            out[i, j], reference.conditioned_mlp(network, x[i, j], m[i, 0]), rtol=1e-4, atol=1e-5
        )


def test_a_condition_that_would_do_nothing_is_refused():
    with pytest.raises(BmrlError, match="hidden layer"):
        ConditionedMLP(KEY, 3, 2, (), 1)


def test_a_normaliser_shifts_and_scales_and_back():
    x = np.random.default_rng(0).normal([5, -2], [10, 0.01], size=(50, 2)).astype(np.float32)
    normaliser = Normaliser(jnp.asarray(x.mean(0)), jnp.asarray(x.std(0)))
    for row in (x[0], x[:2], x.reshape(5, 10, 2)):
        np.testing.assert_allclose(normaliser.inverse(normaliser(row)), row, rtol=1e-4)
    np.testing.assert_allclose(normaliser(x[0]), reference.normalise(normaliser, x[0]), rtol=1e-4)
    np.testing.assert_allclose(normaliser(x).mean(0), 0, atol=2e-3)
    np.testing.assert_allclose(normaliser(x).std(0), 1, atol=1e-3)


def test_the_identity_normaliser_changes_nothing():
    x = np.arange(4, dtype=np.float32)
    normaliser = Normaliser.identity(4)
    assert np.array_equal(normaliser(x), x)
    assert np.array_equal(normaliser.inverse(x), x)


def test_no_gradient_reaches_a_normaliser():
    normaliser = Normaliser(jnp.array([1.0]), jnp.array([2.0]))
    gradient = jax.grad(lambda n: (n(jnp.array([3.0])) ** 2 + n.inverse(jnp.array([3.0])) ** 2).sum())(normaliser)
    assert jax.tree.leaves(gradient) == [0.0, 0.0]
