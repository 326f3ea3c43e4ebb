import signal
import subprocess
import sys

import numpy as np
import pytest

from bmrl.errors import BmrlError
from bmrl.runs import stopping
from bmrl.runs.checkpoint import latest_checkpoint
from bmrl.runs.metrics import Metrics, read_metrics
from bmrl.runs.training import train


def run(directory, updates, losses, state=0, step=0, seconds=1e9, watch=None):
    """Counts its updates; ``losses`` says what is logged of a step."""

    def advance(state, step, steps):
        return state + steps, {"loss": np.asarray(losses(step + steps))}

    metrics = Metrics(directory / "metrics.csv")
    return train("stage", updates, state, step, advance, np.array, directory / "checkpoints", metrics, seconds, watch)


@pytest.fixture
def listening():
    handlers = {number: signal.getsignal(number) for number in stopping.SIGNALS}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may have it ignored
    stopping.listen()
    yield
    stopping.listen()  # forgets what came
    for number, handler in handlers.items():
        signal.signal(number, handler)


def logged(directory):
    return [(row.step, row.learner, row.name, row.value) for row in read_metrics(directory / "metrics.csv")]


def test_every_update_is_done_once_and_what_is_seen_is_logged(tmp_path):
    assert run(tmp_path, 25, float, watch=lambda step, state: {"state": np.asarray(-state)}) == 25
    steps = (10, 20, 25)
    assert logged(tmp_path) == [x for n in steps for x in ((n, None, "loss", n), (n, None, "state", -n))]
    assert latest_checkpoint(tmp_path / "checkpoints", np.array(0)) is None  # the stage's result takes its place


def test_it_goes_on_from_where_it_is_told(tmp_path):
    assert run(tmp_path, 25, float, state=15, step=15) == 25
    assert [row[0] for row in logged(tmp_path)] == [20, 25]


def test_the_newest_checkpoint_is_of_the_last_interval(tmp_path):
    run(tmp_path, 25, float, seconds=0.0)
    step, state = latest_checkpoint(tmp_path / "checkpoints", np.array(0))
    assert step == state == 20


def test_it_is_saved_by_the_clock_and_not_when_it_is_logged(tmp_path):
    def losses(step):
        if step == 75:
            raise KeyboardInterrupt
        return 1.0

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, 40_000, losses, seconds=0.0)  # logged every 100 updates
    assert latest_checkpoint(tmp_path / "checkpoints", np.array(0))[0] == 50


@pytest.mark.parametrize(
    "loss",
    [
        lambda n: [np.nan, np.inf, -np.inf] if n == 20 else [0.0, np.nan, 2.0],
        lambda n: np.nan if n == 20 else 1.0,
    ],
)
def test_it_ends_where_nothing_is_finite_and_the_last_checkpoint_stays(tmp_path, loss):
    with pytest.raises(BmrlError, match="stage: diverged before step 20"):
        run(tmp_path, 30, loss, seconds=0.0)
    assert latest_checkpoint(tmp_path / "checkpoints", np.array(0))[0] == 10
    assert {row[0] for row in logged(tmp_path)} == {10, 20}


@pytest.mark.parametrize("number", stopping.SIGNALS)
def test_a_signal_ends_it_with_its_state_saved(tmp_path, listening, number):
    def losses(step):
        if step == 75:
            signal.raise_signal(number)
        return 1.0

    with pytest.raises(stopping.Stopped):
        run(tmp_path, 40_000, losses)  # logged every 100 updates
    step, state = latest_checkpoint(tmp_path / "checkpoints", np.array(0))
    assert step == state == 75
    assert logged(tmp_path) == []
    stopping.listen()
    assert run(tmp_path, 200, lambda _: 1.0, state=75, step=75) == 200


def test_a_signal_in_the_last_updates_lets_their_result_be_kept(tmp_path, listening):
    def losses(step):
        if step == 20:
            signal.raise_signal(signal.SIGTERM)
        return 1.0

    assert run(tmp_path, 20, losses) == 20
    with pytest.raises(stopping.Stopped):
        stopping.stop_if_asked()


def test_outside_of_training_a_signal_ends_it_at_once(listening):
    stopping.stop_if_asked()
    with pytest.raises(stopping.Stopped):
        signal.raise_signal(signal.SIGINT)


def test_a_second_signal_ends_the_process_at_once():
    code = (
        "import signal, time\n"
        "from bmrl.runs import stopping\n"
        "stopping.listen()\n"
        "with stopping.saving_first():\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "    print('goes on', flush=True)\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    print('never')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (-signal.SIGINT, "goes on\n")


def test_nohup_keeps_a_hang_up_ignored(listening):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    stopping.listen()
    signal.raise_signal(signal.SIGHUP)
    assert not stopping.asked()
