"""What training draws from where the memory is smaller than the logs."""

import itertools

import jax
import numpy as np
import pytest
from batch_rl import toys

from bmrl.batch_rl import windows as windows_module
from bmrl.batch_rl.fqe import Pairs
from bmrl.batch_rl.replay import Replay, pool
from bmrl.batch_rl.teach import TeachConfig, teach
from bmrl.batch_rl.windows import Windows, cuts
from bmrl.runs.metrics import Metrics

LENGTHS = [[7, 3] * 20, [30] * 10, [90, 1, 2, 3, 4, 50, 50]]  # of episodes; 200, 300 and 200 transitions
KEYS = np.array([[1, 2], [3, 4], [5, 6]], np.uint32)
ROW = 4 * (2 + 1 + 1) + 1  # bytes of a transition of theirs
PIECE = 20  # transitions


@pytest.fixture(scope="module")
def replay(tmp_path_factory):
    mdps = [toys.numbered(lengths, k) for k, lengths in enumerate(LENGTHS)]
    return toys.replay(tmp_path_factory.mktemp("batches"), mdps)


@pytest.fixture
def short_of_memory(monkeypatch):
    """Room for two pieces of each log in a window."""
    memory = 2 * 3 * PIECE * ROW / windows_module.SHARE
    monkeypatch.setattr(windows_module, "memory_limit", lambda: memory)
    monkeypatch.setattr(windows_module, "PIECE_BYTES", PIECE * ROW)
    return memory


def one_after_the_other(windows, updates=25):
    """The windows from the first on, without end."""
    last = None
    for step in itertools.count(0, updates):
        if (window := windows.at(step)) is not last:
            last = window
            yield window


def test_where_there_is_room_everything_is_drawn_from_and_nothing_copied(replay, monkeypatch):
    total = ROW * int(replay.size.sum())
    for memory, whole in ((1.5 * total, True), (1.5 * total - 2, False)):
        monkeypatch.setattr(windows_module, "memory_limit", lambda memory=memory: memory)
        assert (Windows(replay, KEYS, 8).at(0).replay is replay) == whole


def test_what_lies_beside_the_logs_counts(replay, monkeypatch):
    beside = np.zeros((3, 3, 300, 5), np.float32)
    total = (ROW + 3 * 5 * 4) * int(replay.size.sum())
    for memory, whole in ((1.5 * total, True), (1.5 * total - 2, False)):
        monkeypatch.setattr(windows_module, "memory_limit", lambda memory=memory: memory)
        assert (Windows(replay, KEYS, 8, beside, everywhere=True).at(0).beside is beside) == whole


def test_every_transition_comes_once_before_one_comes_again(replay, short_of_memory):
    number = np.arange(300)
    beside = np.stack([1000 * k + number for k in range(3)])
    everywhere = beside + 10_000 * np.arange(3)[:, None, None]
    one = one_after_the_other(Windows(replay, KEYS, 8, {"own": beside}))
    all_learners = one_after_the_other(Windows(replay, KEYS, 8, everywhere, everywhere=True))
    seen = [[] for _ in LENGTHS]
    for window, other in itertools.islice(zip(one, all_learners, strict=True), 12):
        for k, log in enumerate(window.replay.logs):
            taken = log.take(np.arange(log.size))
            t = (taken.rewards - 1000 * k - 1).astype(int)  # as `toys.numbered` counts
            for field, found, known in zip(taken._fields, taken, replay.logs[k].take(t), strict=True):
                np.testing.assert_array_equal(found, known, err_msg=field)
            # An episode's transitions follow each other; what is cut of one is an episode of its own.
            assert (np.diff(t)[np.diff(log.starts(np.arange(log.size))) == 0] == 1).all()
            np.testing.assert_array_equal(window.beside["own"][k, : log.size], beside[k, t])
            seen[k].append(t)
        for k, log in enumerate(other.replay.logs):
            t = (log.rewards - 1000 * k - 1).astype(int)
            np.testing.assert_array_equal(other.beside[:, k, : log.size], everywhere[:, k, t])
    for log, of in zip(replay.logs, seen, strict=True):
        assert max(map(len, of)) < log.size / 2  # a window holds a part
        counts = [np.bincount(np.concatenate(of[: n + 1]), minlength=log.size) for n in range(len(of))]
        assert all(np.ptp(x) <= 1 for x in counts) and counts[-1].min() >= 1
        assert (np.diff(np.concatenate(of)[: log.size]) < 0).any()  # in a random order


def test_pieces_are_whole_episodes_unless_these_are_longer(replay):
    for log, lengths in zip(replay.logs, LENGTHS, strict=True):
        found = cuts(log, PIECE)
        assert found[0] == 0 and found[-1] == log.size
        assert np.diff(found).min() >= PIECE / 2 and np.diff(found).max() <= 2.5 * PIECE
        if max(lengths) < PIECE:
            assert set(found[:-1]) <= set(log.starts(np.arange(log.size)))
    assert cuts(replay.logs[0], 1000).tolist() == [0, 200]


def test_a_window_lasts_until_its_transitions_were_drawn_twice(replay, short_of_memory):
    windows = Windows(replay, KEYS, 4)
    first = windows.at(0)
    size, updates = int(first.replay.size.sum()), next(step for step in range(1000) if windows.at(step) is not first)
    assert 0.7 * 2 * size < 4 * updates < 1.3 * 2 * size


def test_logs_that_are_pooled_come_in_pieces_too(replay, short_of_memory):
    windows = one_after_the_other(Windows(pool(replay), KEYS[:1], 8))
    rewards = np.concatenate([next(windows).replay.logs[0].rewards for _ in range(5)])
    assert len(np.unique(rewards)) == len(rewards) > 500


def test_pairs_that_the_log_does_not_continue_stay_what_they_are(replay, short_of_memory):
    """What is judged is followed by the policy's action, the next pair of the log by the logged one."""
    chosen = [np.full((len(log.observations), 1), 0.5, np.float32) for log in replay.logs]
    logs = [Pairs(log, own, np.arange(len(log.ends))[::-1], 0.9) for log, own in zip(replay.logs, chosen, strict=True)]
    window = Windows(Replay(tuple(logs)), KEYS, 8).at(0).replay
    for log, copy in zip(logs, window.logs, strict=True):
        known, found = ({row.tobytes() for row in rows(of.take(np.arange(of.size)))} for of in (log, copy))
        assert copy.size < log.size and found <= known


def rows(transitions):
    """Each transition as one row of numbers."""
    return np.column_stack([transitions.observations, transitions.rewards, transitions.next_observations])


def test_training_window_by_window_goes_on_exactly_where_it_was_killed(
    replay, short_of_memory, tmp_path, monkeypatch, caplog
):
    def train(directory, seconds=1e9):
        config, metrics = TeachConfig(toys.ALGORITHMS["td3_bc"], 150), Metrics(directory / "metrics.csv")
        taught = teach(replay, config, 0, directory / "checkpoints", metrics, "teach", seconds)
        return [np.asarray(x).tobytes() for x in jax.tree.leaves(taught)]

    whole = train(tmp_path / "whole")
    with pytest.MonkeyPatch.context() as killing, pytest.raises(toys.Killed):
        toys.kill_at_log(killing, 4)
        train(tmp_path / "killed", 0)
    resumed = []
    assert toys.compiled(caplog, lambda: resumed.append(train(tmp_path / "killed"))) == []
    assert resumed[0] == whole
    monkeypatch.undo()
    assert train(tmp_path / "all") != whole
