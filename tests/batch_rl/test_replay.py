import jax
import numpy as np
import pytest
from batch_rl import toys

from bmrl.batch_rl import replay as replay_module
from bmrl.batch_rl.replay import best_episodes, gone_through, minibatches, pool, stack
from bmrl.batch_rl.teach import observation_normaliser, spec_of
from bmrl.errors import BmrlError
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


def test_a_log_has_the_transitions_of_the_files(batches, replay):
    assert len(replay) == 3
    assert replay.size.tolist() == [8, 2, 13]
    for k, batch in enumerate(batches):
        assert np.shares_memory(replay.logs[k].observations, batch.observations)  # nothing is copied
        for t in range(batch.size):
            assert_equal(replay.logs[k].take(np.array(t)), straight(batch, t))


def test_transitions_of_many_logs_come_in_the_order_that_was_asked_for(batches, replay):
    rng = np.random.default_rng(0)
    mdp = rng.integers(0, 3, (5, 7))
    index = rng.integers(0, replay.size[mdp])
    found, starts = replay.take_from(mdp, index), replay.starts_of(mdp, index)
    assert found.observations.shape == (5, 7, 2) and found.rewards.shape == starts.shape == (5, 7)
    for at in np.ndindex(5, 7):
        batch = batches[mdp[at]]
        assert_equal(Transition(*(x[at] for x in found)), straight(batch, index[at]))
        assert starts[at] == batch.episode_starts[(batch.episode_ends <= index[at]).sum()]
    some = replay.of([2, 0])
    assert some.size.tolist() == [13, 8]
    assert_equal(some.take_from(np.array(1), np.array(3)), straight(batches[0], 3))


def test_starts_are_the_first_transitions_of_the_episodes(replay):
    assert [log.starts(np.arange(log.size)).tolist() for log in replay.logs] == [
        [0, 0, 0, 3, 4, 4, 4, 4],
        [0, 0],
        [0] * 5 + [5] * 5 + [10] * 2 + [12],
    ]


def test_pooled_batches_are_their_concatenation(batches, replay):
    (pooled,) = pool(replay).logs
    assert pooled.size == 23 and pool(replay).size.tolist() == [23]
    t = 0
    for batch, offset in zip(batches, (0, 8, 10), strict=True):
        for i in range(batch.size):
            assert_equal(pooled.take(np.array(t)), straight(batch, i))
            start = batch.episode_starts[(batch.episode_ends <= i).sum()]
            assert pooled.starts(np.array(t)) == offset + start
            t += 1
    whole = pooled.take(np.arange(23))
    assert [x.dtype for x in whole] == [np.float32, np.float32, np.float32, np.float32, bool]


def test_a_log_is_gone_through_in_pieces(replay, monkeypatch):
    monkeypatch.setattr(replay_module, "BLOCK_BYTES", 3 * 28 + 1)  # a transition has 7 numbers
    for log in (*replay.logs, *pool(replay).logs):
        pieces = list(gone_through(log))
        assert max(len(piece.rewards) for piece in pieces) <= 3
        assert_equal(jax.tree.map(lambda *x: np.concatenate(x), *pieces), log.take(np.arange(log.size)))
    assert [len(x) for x in replay.logs[0].visited()] == [3, 3, 3, 2]


@pytest.mark.parametrize(("share", "kept"), [(0.1, [5]), (0.4, [2, 3, 4, 5]), (0.41, range(6)), (1, range(10))])
def test_the_best_episodes_have_the_highest_returns(share, kept, tmp_path):
    lengths, rewards = [2, 3, 1, 4], [1, 1, 2, 2, 2, 9, -1, 0, 0, 0]
    episodes = toys.numbered(lengths)
    paid = np.split(np.array(rewards), np.cumsum(lengths)[:-1])
    episodes = [(s, a, r, terminated) for (s, a, _, terminated), r in zip(episodes, paid, strict=True)]
    replay = toys.replay(tmp_path, [episodes, toys.numbered([2], 1)])
    best = best_episodes(replay, share)
    assert best.size.tolist() == [len(kept), 2]
    for log, whole, index in zip(best.logs, replay.logs, (np.array(kept), np.arange(2)), strict=True):
        assert_equal(log.take(np.arange(log.size)), whole.take(index))
    starts = np.array([0, 0, 2, 2, 2, 5, 6, 6, 6, 6])[kept]
    np.testing.assert_array_equal(np.array(kept)[best.logs[0].starts(np.arange(len(kept)))], starts)


@pytest.mark.parametrize("share", [0, -0.5, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(replay, share):
    with pytest.raises(BmrlError, match="share of the best episodes"):
        best_episodes(replay, share)


def test_minibatches_are_each_logs_own(batches, replay):
    index = np.array([[[7, 0]], [[1, 1]], [[12, 3]]])
    found = minibatches(replay, index)
    assert found.observations.shape == (3, 1, 2, 2)
    for k in range(3):
        for i in range(2):
            assert_equal(Transition(*(x[k, 0, i] for x in found)), straight(batches[k], index[k, 0, i]))


def test_the_sizes_are_read_off_the_data(replay):
    assert spec_of(replay) == spec_of(pool(replay)) == Spec(2, 1)


@pytest.mark.parametrize("size", [1, 84, 1 << 24])
def test_statistics_are_of_all_observations(batches, replay, size, monkeypatch):
    monkeypatch.setattr(replay_module, "BLOCK_BYTES", size)
    for batch, log in zip(batches, replay.logs, strict=True):
        normaliser, observations = observation_normaliser(log), batch.observations.astype(np.float64)
        np.testing.assert_allclose(normaliser.mean, observations.mean(0), rtol=1e-6)
        np.testing.assert_allclose(normaliser.scale, observations.std(0), rtol=1e-6)
    pooled = observation_normaliser(*pool(replay).logs)
    np.testing.assert_allclose(pooled.mean, np.concatenate([b.observations for b in batches]).mean(0), rtol=1e-5)
