"""SIGINT, SIGTERM, SIGHUP: the first ends a stage once its state is saved, a second one ends the program at once."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
EXIT_CODE = 75  # EX_TEMPFAIL: what was done is saved, and goes on when it is asked for again

_asked = False
_saving = False


class Stopped(BaseException):
    """The user asked for it. Like KeyboardInterrupt no Exception, so that nothing takes it for a failure."""


def listen() -> None:
    """From now on the first of `SIGNALS` raises `Stopped`: at once, or within `saving_first` when that is ready."""
    global _asked
    _asked = False
    for number in SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup has it ignored
            signal.signal(number, _handle)


@contextmanager
def saving_first() -> Iterator[None]:
    """What runs inside polls `asked`, saves its state and raises `Stopped` itself."""
    global _saving
    _saving = True
    try:
        yield
    finally:
        _saving = False


def asked() -> bool:
    """Whether a signal has come."""
    return _asked


def stop_if_asked() -> None:
    """Raises `Stopped` if a signal has come: for where everything is on the disk."""
    if _asked:
        raise Stopped


def _handle(number: int, _: FrameType | None) -> None:
    global _asked
    if _asked:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    _asked = True
    if not _saving:
        raise Stopped
