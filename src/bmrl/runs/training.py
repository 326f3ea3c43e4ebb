"""The loop of every stage whose state is arrays: progress, metrics, checkpoints, and the end where a loss diverges."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bmrl.errors import BmrlError
from bmrl.runs.checkpoint import save_checkpoint
from bmrl.runs.metrics import Metrics
from bmrl.runs.progress import Progress

State = TypeVar("State")


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
        advance: (state, step, steps) -> the state after ``steps`` more, and its losses, each of all or one a learner.
        snapshot: the state as numpy arrays, for a checkpoint.
        checkpoints: the directory of the stage's checkpoints.
        metrics: where the losses are logged, about 400 times.
        checkpoint_seconds: between two checkpoints.
        watch: (step, state) -> what is to be logged too.

    Raises:
        BmrlError: a loss is not finite; the last checkpoint stays.
    """
    interval, saved = max(10, updates // 400), time.monotonic()
    with Progress(stage, updates, step) as progress:
        while step < updates:
            steps = min(interval, updates - step)
            state, losses = advance(state, step, steps)
            step += steps
            seen = watch(step, state) if watch else {}
            metrics.log(stage, step, {**losses, **seen})
            finite = np.logical_and.reduce([np.isfinite(x) for x in losses.values()])
            if not np.all(finite):
                which = (
                    f"the learner of batch {finite.argmin()} diverged" if np.ndim(finite) else "a loss is not finite"
                )
                raise BmrlError(f"{stage}: {which} before step {step}; nothing was written")
            progress.update(step)
            if time.monotonic() - saved > checkpoint_seconds and step < updates:
                save_checkpoint(checkpoints, step, snapshot(state), {})
                saved = time.monotonic()
    return state
