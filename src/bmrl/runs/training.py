"""The loop of every stage whose state is arrays: progress, metrics, checkpoints, and the end where a loss diverges."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import numpy as np

from bmrl.errors import BmrlError
from bmrl.runs.checkpoint import save_checkpoint
from bmrl.runs.metrics import Metrics
from bmrl.runs.progress import Progress
from bmrl.runs.stopping import Stopped, asked, saving_first

CHUNK = 25  # updates between two looks at the clock and for a signal: some seconds at the paper's sizes

State = TypeVar("State")
Data = TypeVar("Data")


class DivergedError(BmrlError):
    """Nothing is left to train; ``state`` is the last finite one, as a checkpoint has it."""

    def __init__(self, message: str, state: Any):
        super().__init__(message)
        self.state = state


def sound(losses: Mapping[str, np.ndarray]) -> np.ndarray:
    """Of all, or of each learner [K]: whether every loss is finite."""
    found: np.ndarray = np.logical_and.reduce([np.isfinite(x) for x in losses.values()])
    return found


class ReadAhead(Generic[Data]):
    """Reads what an update needs while the one before it is computed."""

    def __init__(self, read: Callable[[int], Data]):
        """``read`` has the data of the updates from a step on."""
        self._read = read
        self._step, self._data = -1, cast(Data, None)

    def at(self, step: int) -> Data:
        """The data from ``step`` on."""
        if step != self._step:
            self.prepare(step)
        return self._data

    def prepare(self, step: int) -> None:
        """Read them now. Call it while a device computes."""
        self._step, self._data = step, self._read(step)


def train(
    stage: str,
    updates: int,
    state: State,
    step: int,
    advance: Callable[[State, int, int], tuple[State, Mapping[str, np.ndarray]]],
    snapshot: Callable[[State], Any],
    checkpoints: Path,
    metrics: Metrics,
    checkpoint_seconds: float,
    watch: Callable[[int, State], Mapping[str, np.ndarray]] | None = None,
) -> State:
    """The state after ``updates`` updates, of which ``step`` are done.

    Args:
        stage: its name, for the metrics and errors.
        updates: their number in all.
        state: after ``step`` updates.
        step: where to go on.
        advance: (state, step, steps) -> the state after ``steps`` more, and its losses, each of all or one a learner;
            NaN for what diverged and therefore did not advance.
        snapshot: the state as numpy arrays, for a checkpoint.
        checkpoints: the directory of the stage's checkpoints.
        metrics: where the losses of the last updates are logged, about 400 times.
        checkpoint_seconds: between two checkpoints, by the clock; it is looked at after `CHUNK` updates at most.
        watch: (step, state) -> what is to be logged too.

    Raises:
        DivergedError: all has diverged; the last checkpoint stays.
        Stopped: a signal asked for it; the state is saved.
    """
    # Even: at the updates between, the actor of TD3+BC waits, and has no loss.
    interval, saved = max(10, updates // 800 * 2), time.monotonic()
    with Progress(stage, updates, step) as progress, saving_first():
        while step < updates:
            log_at = min(updates, (step // interval + 1) * interval)
            steps = min(CHUNK, log_at - step)
            state, losses = advance(state, step, steps)
            step += steps
            if step == log_at:
                seen = watch(step, state) if watch else {}
                metrics.log(stage, step, {**losses, **seen})
                progress.update(step)
            if not np.any(sound(losses)):
                message = f"{stage}: diverged before step {step} (a loss or a weight is not finite)"
                raise DivergedError(message, snapshot(state))
            due = time.monotonic() - saved > checkpoint_seconds
            if (due or asked()) and step < updates:
                save_checkpoint(checkpoints, step, snapshot(state))
                saved = time.monotonic()
                if asked():
                    raise Stopped
    return state
