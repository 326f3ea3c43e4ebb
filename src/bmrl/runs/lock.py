"""One writer a run directory, by a lock that the kernel holds and frees, however the process ends."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bmrl.errors import BmrlError


@contextmanager
def lock_directory(path: Path) -> Iterator[None]:
    """Makes the directory if need be and holds it for this process.

    The file ``.lock`` in it says who holds it; it stays behind and means nothing by itself.

    Raises ``BmrlError``, naming the holder, at once where another process holds the directory.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise BmrlError(f"{path} cannot be written ({error.strerror}); choose another directory") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(descriptor, 200).decode(errors="replace").strip()
            raise BmrlError(
                f"{path} is in use by {holder or 'another process'}; wait for it or choose another directory"
            ) from error
        except OSError as error:  # some file systems of networks have no locks
            raise BmrlError(f"{path} cannot be locked ({error.strerror}); choose one on a local disk") from error
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield
    finally:
        os.close(descriptor)
