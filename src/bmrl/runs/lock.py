"""One writer a run directory, by a lock that the kernel holds and frees, however the process ends."""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bmrl.errors import BmrlError, NotSavedError


@contextmanager
def lock_directory(path: Path, patience: float = 0.0) -> Iterator[None]:
    """Makes the directory if need be and holds it for this process.

    The file ``.lock`` in it says who holds it; it stays behind and means nothing by itself.

    Raises ``BmrlError``, naming the holder, where another process holds the directory: at once, or once it has done so
    for ``patience`` seconds more (a file server takes a while to see that a holder's machine is gone).
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise BmrlError(f"{path} cannot be written ({error.strerror}); choose another directory") from error
    try:
        give_up = time.monotonic() + patience
        while not _lock(path, descriptor):
            if time.monotonic() >= give_up:
                holder = os.read(descriptor, 200).decode(errors="replace").strip()
                raise BmrlError(
                    f"{path} is in use by {holder or 'another process'}; wait for it or choose another directory"
                )
            time.sleep(1.0)
        _sign(path, descriptor)
        yield
    finally:
        os.close(descriptor)


def _sign(path: Path, descriptor: int) -> None:
    """Say who holds the lock."""
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    except OSError as error:
        raise NotSavedError(f"{path} cannot be written ({error.strerror}); free space there") from error


def _lock(path: Path, descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # some file systems of networks have no locks
        raise BmrlError(
            f"{path} cannot be locked ({error.strerror}); choose a directory on a file system with locks: a local disk "
            "or, where several machines need it, NFS 4, CephFS or Lustre mounted with flock"
        ) from error
    return True
