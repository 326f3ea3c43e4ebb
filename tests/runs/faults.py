"""Runs a write with a fault at each of its file-system calls in turn, and reads what is left each time.

Usage: python faults.py WRITE FAULT; prints the number of calls. Python itself reports the calls (audit
events), so none is forgotten. A process of its own, since a hook cannot be removed and the kills need forks.
"""

import errno
import functools
import itertools
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bmrl.errors import BmrlError
from bmrl.runs import checkpoint, storage
from bmrl.runs.metrics import Metrics, read_metrics

CALLS = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "fsync")


class Write(NamedTuple):
    write: Callable[[Path, float], None]
    read: Callable[[Path], Any]


def commit(root: Path, value: float) -> None:
    def fill(directory: Path) -> None:
        for name in ("a", "b"):
            (directory / name).write_text(f"{value}")

    storage.commit_directory(root / "it", fill, {"value": value})


def committed(root: Path) -> float:
    value = storage.verify_directory(root / "it")["value"]
    assert storage.committed_names(root) == ["it"]
    assert {(storage.locate(root / "it") / name).read_text() for name in ("a", "b")} == {f"{value}"}
    return value


def save(root: Path, value: float) -> None:
    checkpoint.save_checkpoint(root, int(value), {"x": np.full(3, value)}, keep=1)


def saved(root: Path) -> float:
    found = checkpoint.latest_checkpoint(root, {"x": np.zeros(3)})
    assert found is not None
    step, tree = found
    assert step == tree["x"][2]
    return float(step)


def put(root: Path, value: float) -> None:
    storage.write_json(root / "x.json", value)


def get(root: Path) -> float:
    return storage.read_json(root / "x.json")


def truncate(root: Path, value: float) -> None:
    metrics = Metrics(root / "metrics.csv")
    if value == 1.0:
        metrics.log("teach", 1, {"loss": 1.0})
        metrics.log("teach", 2, {"loss": 2.0})
    else:
        metrics.truncate("teach", 1)


def truncated(root: Path) -> float:
    return {2: 1.0, 1: 2.0}[len(read_metrics(root / "metrics.csv"))]


WRITES = {
    "commit": Write(commit, committed),
    "checkpoint": Write(save, saved),
    "json": Write(put, get),
    "metrics": Write(truncate, truncated),
}


def kill() -> None:
    os._exit(9)


def fill_disk() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


FAULTS = {"kill": kill, "disk full": fill_disk}


def arm(root: Path, number: int, fault: Callable[[], None]) -> Callable[[], bool]:
    """The fault strikes once, before the ``number``-th call below ``root``; returns whether it has struck."""
    calls = itertools.count()
    struck = False

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal struck
        if event not in CALLS or (event == "open" and isinstance(arguments[0], int)):
            return
        path = str(arguments[0])  # relative where shutil works from an open directory
        if (event == "fsync" or not os.path.isabs(path) or str(root) in path) and next(calls) == number:
            struck = True
            fault()

    sys.addaudithook(hook)
    return lambda: struck


def attempt(root: Path, write: Callable[[Path, float], None], number: int, fault: Callable[[], None]) -> int:
    """The child's part: 0 written, fault or not; 1 refused with a BmrlError; 2 the fault never struck."""
    struck = arm(root, number, fault)
    try:
        write(root, 2.0)
    except BmrlError:
        return 1
    return 0 if struck() else 2


def main(write: Write, fault: Callable[[], None]) -> int:
    for number in itertools.count():
        with tempfile.TemporaryDirectory() as directory:
            root = Path(directory)
            write.write(root, 1.0)
            child = os.fork()
            if child == 0:
                code = 3
                try:
                    code = attempt(root, write.write, number, fault)
                finally:
                    os._exit(code)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            value = write.read(root)
            assert code in (0, 1, 2, 9), code
            assert value == 2.0 if code in (0, 2) else value in (1.0, 2.0), (number, code, value)
            if code == 1:
                left = [entry.name for entry in root.iterdir() if ".tmp-" in entry.name]
                assert not left, (number, left)
            write.write(root, 2.0)
            assert write.read(root) == 2.0
            left = [entry.name for entry in root.iterdir() if entry.name.startswith(".")]
            assert not left, (number, left)
            if code == 2:
                return number
    raise AssertionError


if __name__ == "__main__":
    # A process that dies loses nothing that it has written: the flush is a place to die at, and slow.
    os.fsync = functools.partial(sys.audit, "fsync")
    checkpoint.arithmetic = lambda: "here"  # forks and the threads of JAX do not go together
    print(main(WRITES[sys.argv[1]], FAULTS[sys.argv[2]]))
