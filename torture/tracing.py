"""Where a program changes the disk, by strace, and the same program killed there."""

import re
import signal
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

# Every system call that can change a file or a directory.
CALLS = (
    *("open", "openat", "openat2", "creat", "mkdir", "mkdirat", "mknod", "mknodat"),
    *("write", "pwrite64", "writev", "pwritev", "pwritev2", "sendfile", "splice", "copy_file_range", "mmap"),
    *("truncate", "ftruncate", "fallocate", "fsync", "fdatasync", "msync", "sync", "syncfs", "sync_file_range"),
    *("rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "unlink", "unlinkat", "rmdir"),
)
# Without --seccomp-bpf, under which strace 6.1 injects no signals.
STRACE = ("strace", "--follow-forks", "--quiet=all", "--decode-fds=path", "--string-limit=0")

_LINE = re.compile(r"(?P<process>\d+) +(?P<call>\w+)\((?P<rest>.*)")
# Names that differ from run to run: ours, safetensors', and those of files without a name.
_RANDOM = re.compile(r"\.tmp-[0-9a-f]{8}|\.tmp\w{6}|#\d+(?: \(deleted\))?")
_REMOVES = re.compile(r"unlink|rmdir")


class Boundary(NamedTuple):
    """A system call that changes something in the run directory."""

    call: str
    number: int  # among the calls of that name of its thread, on files anywhere; from 1
    what: str  # the call and the paths below the directory, without what is random in them


def boundaries(command: Sequence[str], environment: Mapping[str, str], directory: Path, log: Path) -> list[Boundary]:
    """Run a command to its end; every successful call by which it changes ``directory``, in their order.

    Raises RuntimeError where the command fails, or where another thread than its first changes the directory.
    """
    tracing = [*STRACE, f"--output={log}", f"--trace={','.join(CALLS)}"]
    subprocess.run([*tracing, *command], env=environment, check=True, capture_output=True)
    return read_trace(log, directory)


def read_trace(log: Path, directory: Path) -> list[Boundary]:
    """The boundaries in strace's output. Raises RuntimeError where one is not the first thread's."""
    counts: Counter[tuple[str, str]] = Counter()
    found, first = [], ""
    for match in filter(None, map(_LINE.match, log.read_text().splitlines())):
        process, call, rest = match.groups()
        first = first or process
        counts[process, call] += 1
        if _paths(rest, directory) and _changes(call, rest):
            if process != first:
                raise RuntimeError(f"a second thread changes the directory: {match[0]}")
            found.append(Boundary(call, counts[process, call], describe(call, rest, directory)))
    return found


def kill_at(
    call: str, number: int, command: Sequence[str], environment: Mapping[str, str], directory: Path, log: Path
) -> tuple[bool, list[Boundary]]:
    """Run a command and kill it as it enters its ``number``-th call of that name.

    Whether it was killed, for it may have made fewer such calls; and the boundaries of that name to which it came,
    the one that it was killed at included, if it is one.
    """
    tracing = [*STRACE, f"--output={log}", f"--trace={call}", f"--inject={call}:signal=KILL:when={number}"]
    done = subprocess.run([*tracing, *command], env=environment, capture_output=True)
    return done.returncode == -signal.SIGKILL, read_trace(log, directory)


def describe(call: str, rest: str, directory: Path) -> str:
    """A call and the paths below the directory that it is about, without what differs from run to run."""
    paths = _paths(rest.split(" = ")[0], directory)
    if _REMOVES.match(call) and (name := re.search(r'>, "([^"/]+)"', rest)):
        paths = [f"{paths[0]}/{name[1]}"]  # relative to a directory that is open
    return f"{call} {' '.join(_RANDOM.sub('.tmp-*', path).lstrip('/') or '.' for path in paths)}"


def _paths(text: str, directory: Path) -> list[str]:
    """The paths in a call's arguments that are the directory's or below it, relative to it."""
    return re.findall(rf'["<]{re.escape(str(directory))}(|/[^"<>]*)[">]', text)


def _changes(call: str, rest: str) -> bool:
    if " = -1 " in rest:
        return False
    if call.startswith("open"):
        return re.search("O_CREAT|O_TRUNC", rest) is not None
    if call == "mmap":
        return "MAP_SHARED" in rest and "PROT_WRITE" in rest
    return True
