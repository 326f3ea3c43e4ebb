"""What a user sees: warnings, printed lines, progress bars with rate and time left, silent without a terminal."""

import logging
import os
import sys
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
    """``with Progress("teach", total, done) as progress: progress.update(done)``."""

    def __init__(self, stage: str, total: int, done: int = 0):
        console = Console(stderr=True)
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

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
