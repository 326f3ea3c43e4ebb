"""The errors that a user can cause, and can mend."""

from collections.abc import Sequence


class BmrlError(Exception):
    """A user's mistake or a damaged input.

    The message is one line: what is wrong, where (file, MDP, row, field), and what to do. The command line
    prints it after ``error:`` and exits with ``exit_code``.
    """

    exit_code = 2

    def __init__(self, message: str):
        # It may quote a file, a name in it, or what a parser says of both.
        super().__init__(printable(message))


class NotSavedError(BmrlError):
    """The disk is full, or does not take a file; what was there before stays."""

    exit_code = 74  # EX_IOERR


class CorruptError(BmrlError):
    """A file whose hash, size or format does not match its manifest."""


def printable(text: str) -> str:
    """A text of anyone's as one line that moves no terminal's cursor."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(text.splitlines()))


def told(error: BaseException) -> str:
    """What a user's code raised, as one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def shortened(names: Sequence[str], most: int = 12) -> str:
    """Names in a row as a message has them: "a, b, c and 5 more"."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
