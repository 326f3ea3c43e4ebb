import errno
import subprocess
import sys

import pytest

from bmrl.errors import BmrlError, NotSavedError
from bmrl.runs.lock import lock_directory

HOLD = """
import sys
from pathlib import Path
from bmrl.runs.lock import lock_directory
with lock_directory(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_fails_at_once_and_names_the_holder(tmp_path):
    path = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(BmrlError, match=f"run is in use by process {holder.pid} on "),
            lock_directory(path),
        ):
            pass
        holder.kill()  # no chance to release it
        holder.wait()
        with lock_directory(path):
            pass


def test_the_lock_is_free_again_after_use_and_after_an_error(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyError), lock_directory(tmp_path):
            raise KeyError
    with lock_directory(tmp_path), pytest.raises(BmrlError, match="in use"), lock_directory(tmp_path):
        pass


def test_a_bad_place(tmp_path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(BmrlError, match="cannot be written"), lock_directory(tmp_path / "file"):
        pass
    (tmp_path / ".lock").symlink_to(tmp_path / "file")
    with pytest.raises(BmrlError, match="cannot be written"), lock_directory(tmp_path):
        pass
    assert (tmp_path / "file").read_text() == "precious"


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.write", refuse)
    with pytest.raises(NotSavedError, match=r"cannot be written \(No space left on device\)"), lock_directory(tmp_path):
        pass


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    says = r"cannot be locked \(No locks available\); choose a directory on a file system with locks: .* NFS 4"
    with pytest.raises(BmrlError, match=says), lock_directory(tmp_path):
        pass
