"""SVG's rollouts and returns against slow references; what it may move, and where an episode ends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batch_rl import toys
from networks import reference

from bmrl.batch_rl import svg
from bmrl.batch_rl.teach import TeachConfig, teach
from bmrl.errors import BmrlError
from bmrl.networks import Normaliser
from bmrl.runs.metrics import Metrics
from bmrl.types import Transition

WINDOW, N = 5, 3
ALGORITHM = toys.ALGORITHMS["svg"]
NOISE = np.random.default_rng(1).normal(size=(WINDOW, N, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def windows():
    """[w, n, ...]: window 1 runs into the next episode after two transitions, window 2 terminates after three."""
    rng = np.random.default_rng(0)
    s = rng.normal(size=(WINDOW + 1, N, 3)).astype(np.float32)
    s_next = s[1:].copy()
    s_next[1, 1] += 1
    terminations = np.zeros((WINDOW, N), bool)
    terminations[2, 2] = True
    actions = rng.uniform(-1, 1, (WINDOW, N, 2)).astype(np.float32)
    return Transition(s[:-1], actions, rng.normal(size=(WINDOW, N)).astype(np.float32), s_next, terminations)


@pytest.fixture(scope="module")
def state():
    state = toys.state(ALGORITHM)
    seen = svg.Seen(jnp.array([0.1, 0.2, 0.3, 4.0]), jnp.full(3, -1.5), jnp.full(3, 1.5))
    return state._replace(seen=seen)


BEGINS = np.array([[1, 1, 1], [0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]], bool)


def test_windows_are_cut_where_another_episode_begins(windows):
    np.testing.assert_array_equal(svg.begins(windows), BEGINS)


def model(network, linear, scale, *inputs):
    x = np.concatenate(inputs)
    return (reference.mlp(network, x) + reference.mlp(linear, x)) * scale


@pytest.mark.parametrize("moved", [(), (0, 2)])
def test_a_rollout_equals_its_reference(windows, state, moved):
    @reference.jit
    def both(state, windows):
        return svg.rollout(state.model, state.seen, state.actor, state.normaliser, windows, NOISE, moved)

    path, m, scale = both(state, windows), state.model, np.sqrt([0.1, 0.2, 0.3, 4.0])
    for i in range(N):
        then = np.zeros(3)
        for t in range(WINDOW):
            own, own_next = (
                reference.normalise(state.normaliser, x[t, i])
                for x in (windows.observations, windows.next_observations)
            )
            own_action = windows.actions[t, i]
            s = own if BEGINS[t, i] else then
            a = np.clip(np.tanh(reference.mlp(state.actor, s)) + NOISE[t, i], -1, 1)
            a = own_action if BEGINS[t, i] and i % 2 == 0 else a
            np.testing.assert_allclose(path.observations[t, i], s, rtol=1e-3, atol=1e-4)
            np.testing.assert_allclose(path.actions[t, i], a, rtol=1e-3, atol=1e-4)
            change = [model(m.network, m.linear, scale[:3], *x) for x in ((s, a), (own, own_action))]
            then = np.clip(
                np.asarray(own_next) + (np.asarray(s) - np.asarray(own)) + (change[0] - change[1]), -1.5, 1.5
            )
            then = then if moved == () else np.where([True, False, True], then, own_next)
            both_ways = ((s, a, then), (own, own_action, own_next))
            earned = [model(m.reward_network, m.reward_linear, scale[3], *x)[0] for x in both_ways]
            expected = windows.rewards[t, i] + earned[0] - earned[1]
            assert path.rewards[t, i] == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_a_policy_that_acts_as_the_log_meets_the_log(windows, state):
    """Whatever the model says: only differences from the log are modelled."""
    still = jax.tree.map(jnp.zeros_like, state.actor)  # always the zero action
    batch = windows._replace(actions=np.zeros_like(windows.actions))
    wide = state.seen._replace(lowest=jnp.full(3, -50.0), highest=jnp.full(3, 50.0))
    path = svg.rollout(state.model, wide, still, Normaliser.identity(3), batch, np.zeros_like(NOISE), ())
    np.testing.assert_allclose(path.observations, batch.observations, atol=1e-5)
    np.testing.assert_allclose(path.rewards, batch.rewards, atol=1e-5)


def test_out_of_the_range_the_gradient_lives():
    slope = jax.grad(lambda x: svg.within(x, -1.0, 1.0))
    assert [svg.within(x, -1.0, 1.0) for x in (-3.0, 0.5, 2.0)] == [-1.0, 0.5, 1.0]
    assert [slope(x) for x in (-3.0, 0.5, 2.0)] == [1.0, 1.0, 1.0]


def test_the_model_learns_before_actor_and_critics_improve(state, windows):
    """One kind of update after the other, told by what changes."""
    batch = jax.tree.map(lambda x: np.tile(np.moveaxis(x, 0, 1)[:, :3], (6, *[1] * (x.ndim - 1)))[:16], windows)
    update = toys.update(ALGORITHM)
    first = ALGORITHM.model_updates

    def changed(updates):
        old = state._replace(updates=jnp.int32(updates))
        new = update(old, batch, jax.random.PRNGKey(0))[0]
        assert new.updates == updates + 1
        return {
            name
            for name in ("model", "actor", "critics", "target_critics")
            if any(
                (x != y).any()
                for x, y in zip(*map(jax.tree.leaves, (getattr(old, name), getattr(new, name))), strict=True)
            )
        }

    assert changed(0) == changed(first - 1) == {"model"}
    assert changed(first) == changed(first + 1) == {"actor", "critics", "target_critics"}


def test_returns_stop_at_ends_and_terminations(windows):
    following = 10.0 + np.arange(WINDOW * N, dtype=np.float32).reshape(WINDOW, N)
    found = svg.path_returns(windows.rewards, following, windows, 0.5)
    for i in range(N):
        later = following[-1, i]
        for t in reversed(range(WINDOW)):
            if t + 1 < WINDOW and BEGINS[t + 1, i]:
                later = following[t, i]
            later = windows.rewards[t, i] + 0.5 * (0.0 if windows.terminations[t, i] else later)
            assert found[t, i] == pytest.approx(later, rel=1e-5)


def test_windows_that_do_not_fit_are_refused(tmp_path):
    replay = toys.replay(tmp_path / "batches", [toys.numbered([2], observation_dim=3)])
    with pytest.raises(BmrlError, match="windows of 3 transitions do not fit a batch of 2"):
        teach(replay, TeachConfig(ALGORITHM, 1), 0, tmp_path, Metrics(tmp_path / "metrics.csv"), "teach", 1e9)
