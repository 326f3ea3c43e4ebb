"""What a user sees: warnings, printed lines, progress with rate and time left."""

import logging
import os
import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

_log = logging.getLogger(__name__)
EVERY = 60.0  # seconds between two lines of progress


def warn_on_terminal() -> None:
    """From now on warnings go to the standard error output; a run's log.txt has more."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.getLogger("bmrl").setLevel(logging.INFO)
    for handler in logging.getLogger().handlers:
        handler.setLevel(logging.WARNING)


class Screen(Console):
    """Prints for the user. Where nobody reads on (``| head``), the work goes on unseen."""

    def on_broken_pipe(self) -> None:
        """Nothing is printed from now on."""
        hush()


def hush() -> None:
    """Print nothing from now on, nor at the end what could not be printed."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "-/s", style="progress.data.speed")


class Progress:
    """``with Progress("teach", total, done) as progress: progress.update(done)``.

    A bar on a terminal, elsewhere a line a minute; a line a minute in a run's log.txt, too.
    """

    def __init__(self, stage: str, total: int, done: int = 0):
        console = self._console = Console(stderr=True, soft_wrap=True)
        self._stage, self._total, self._first = stage, total, done
        self._started = self._told = time.monotonic()
        self._bar = RichProgress(
            TextColumn("{task.description:>10}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(stage, total=total, completed=done)

    def update(self, done: int) -> None:
        """Set the number of finished steps."""
        self._bar.update(self._task, completed=done)
        now = time.monotonic()
        if now - self._told < EVERY:
            return
        self._told, rate = now, (done - self._first) / (now - self._started)
        left = f"{(self._total - done) / rate / 60:,.0f} min left" if rate else "no end in sight"
        line = f"{self._stage}: {done:,} of {self._total:,}, {rate:,.3g}/s, {left}"
        _log.info(line)
        if not self._console.is_terminal:
            self._console.print(line, markup=False, highlight=False)

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
