import jax
import numpy as np
import pytest
from batch_rl import toys
from networks import reference

from bmrl.batch_rl.replay import pool, stack
from bmrl.batch_rl.teach import batch_normaliser, spec_of
from bmrl.types import Spec, Transition

LENGTHS = [[3, 1, 4], [2], [5, 5, 2, 1]]


@pytest.fixture(scope="module")
def batches(tmp_path_factory):
    mdps = [toys.numbered(lengths, k) for k, lengths in enumerate(LENGTHS)]
    return toys.write(tmp_path_factory.mktemp("batches"), mdps)


@pytest.fixture(scope="module")
def replay(batches):
    return stack(batches)


def straight(batch, t):
    """Transition t as the layout of a batch defines it."""
    episode = int((batch.episode_ends <= t).sum())
    return Transition(
        batch.observations[t + episode],
        batch.actions[t],
        batch.rewards[t],
        batch.observations[t + episode + 1],
        batch.terminations[t],
    )


def assert_equal(one, other):
    for field, a, b in zip(Transition._fields, one, other, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=field)


def test_stacked_batches_hold_the_transitions_of_the_files(batches, replay):
    assert replay.rewards.shape == (3, 13)
    assert replay.size.tolist() == [8, 2, 13]
    for k, batch in enumerate(batches):
        one = jax.tree.map(lambda x, k=k: x[k], replay)
        for t in range(batch.size):
            assert_equal(one.take(t), straight(batch, t))
            assert_equal(replay.take_from(np.array(k), np.array(t)), straight(batch, t))


def test_starts_are_the_first_transitions_of_the_episodes(replay):
    assert replay.starts[0, :8].tolist() == [0, 0, 0, 3, 4, 4, 4, 4]
    assert replay.starts[1, :2].tolist() == [0, 0]
    assert replay.starts[2].tolist() == [0] * 5 + [5] * 5 + [10] * 2 + [12]


def test_pooled_batches_are_their_concatenation(batches, replay):
    pooled = pool(replay)
    assert pooled.size.tolist() == [23]
    one = jax.tree.map(lambda x: x[0], pooled)
    assert len(one.rewards) == 23
    t = 0
    for batch, offset in zip(batches, (0, 8, 10), strict=True):
        for i in range(batch.size):
            assert_equal(one.take(t), straight(batch, i))
            start = batch.episode_starts[(batch.episode_ends <= i).sum()]
            assert one.starts[t] == offset + start
            t += 1
    assert {x.dtype for x in pooled} == {x.dtype for x in replay}


def test_every_transition_is_sampled_and_padding_never(batches, replay):
    samples = reference.jit(jax.vmap(lambda r, key: r.sample(key, 1000)))(
        replay, jax.random.split(jax.random.PRNGKey(0), 3)
    )
    for k, batch in enumerate(batches):
        assert set(np.asarray(samples.rewards[k]).tolist()) == set(batch.rewards.tolist())


def test_the_sizes_are_read_off_the_data(replay):
    assert spec_of(replay) == Spec(2, 1)


def test_statistics_of_one_batch_leave_out_padding(batches, replay):
    normaliser = reference.jit(jax.vmap(batch_normaliser))(replay)
    for k, batch in enumerate(batches):
        observations = batch.observations.astype(np.float64)
        np.testing.assert_allclose(normaliser.mean[k], observations.mean(0), rtol=1e-5)
        np.testing.assert_allclose(normaliser.scale[k], observations.std(0), rtol=1e-4)
