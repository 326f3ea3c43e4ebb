"""Timing: a stage of bmrl as it runs, lap by lap, and other work in the breaks."""

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from numpy.typing import ArrayLike

from bmrl.runs.metrics import Metrics

Stage = Callable[[Path, Metrics], object]  # works in a directory of its own, and logs


class _Enough(Exception):
    """All laps are done."""


class _Stopwatch(Metrics):
    """A table of metrics that looks at the clock when a row comes; what precedes the first row is no lap."""

    def __init__(self, path: Path, name: str, laps: int, between: Callable[[], object]):
        super().__init__(path)
        self._name, self._laps, self._between = name, laps, between
        self._step, self._began = 0, 0.0
        self.rates: list[float] = []

    def log(self, stage: str, step: int, values: Mapping[str, ArrayLike]) -> None:
        """A lap ends; after the break the next one begins."""
        super().log(stage, step, values)
        if stage != self._name:
            return
        if self._began:
            self.rates.append((step - self._step) / (time.perf_counter() - self._began))
        if len(self.rates) == self._laps:
            raise _Enough
        self._between()
        self._step, self._began = step, time.perf_counter()


def steps_a_second(stage: Stage, name: str, laps: int, between: Callable[[], object] = lambda: None) -> list[float]:
    """Of each lap of the stage that logs as ``name``, from one logged step to the next.

    The first lap begins after the first logged step, when everything is compiled. ``between`` has its turn before
    each lap.
    """
    with tempfile.TemporaryDirectory() as directory:
        watch = _Stopwatch(Path(directory) / "metrics.csv", name, laps, between)
        try:
            stage(Path(directory), watch)
        except _Enough:
            return watch.rates
    raise RuntimeError(f"{name} ended after {len(watch.rates)} laps")


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
