"""The one way to write and to read anything: directories that are whole or absent, and JSON files.

    parent/
      name/                what readers see: files and, written last, manifest.json
      .name.tmp-1a2b3c4d/  being written, or left by a killed writer
      .name.old/           the predecessor of ``name`` while it is being replaced

No rename replaces a directory that has files, so a replacement takes two: ``name`` -> ``.name.old``, then
``.name.tmp-...`` -> ``name``. Between them a reader takes ``.name.old``; at every other moment ``name``.
Readers change nothing; leftovers are removed by the next writer of the same name.
"""

import hashlib
import io
import json
import math
import os
import re
import resource
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from bmrl.errors import BmrlError, CorruptError, NotSavedError

MANIFEST = "manifest.json"
MAX_JSON_BYTES = 1 << 26  # no manifest, config or results file of ours comes near
MAX_JSON_DEPTH = 50  # nor this, so that what walks through one need not fear for its stack

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_LEFTOVER = re.compile(r"\.(?P<name>.+)\.(?P<kind>tmp-[0-9a-f]{8}|old)")
_REMEDY = "restore it from a copy, or remove its directory and make it again"


def commit_directory(path: Path, write: Callable[[Path], None], manifest: dict[str, Any]) -> None:
    """Writes a directory so that a kill at any moment leaves the old one or the new one, whole.

    ``write`` gets an empty temporary directory beside ``path`` and fills it with plain files, without
    subdirectories. They are flushed to the disk and hashed, the manifest is written last, then the directory
    is renamed to ``path``. A directory that this function made, or an empty one, is replaced. Each ``path``
    has one writer at a time.

    The manifest on the disk is ``manifest`` with ``files``, {name: {"sha256", "bytes"}} added to what
    ``manifest`` already says of a file there, and with ``manifest_sha256``, the hash of all the rest: it
    identifies the whole content of the directory.

    Raises ``BmrlError`` where the disk is full, the place cannot be written or holds anything else, or the
    manifest is no JSON; what was there then stays.
    """
    path = _absolute(path)
    if _SAFE_NAME.fullmatch(path.name) is None:
        raise BmrlError(f"{path} cannot be written: {path.name!r} may hold letters, digits, '.', '_', '-' only")
    has_result(path)
    # Through JSON and back, so that the hash is of what a reader will see (string keys, lists for tuples).
    manifest = json.loads(encode_json(manifest, path / MANIFEST))
    temporary = _temporary(path)
    try:
        _make_directory(path.parent)
        clean_leftovers(path.parent, path.name)
        temporary.mkdir()
        write(temporary)
        _write_synced(temporary / MANIFEST, encode_json(_seal(temporary, manifest), path / MANIFEST))
        _sync_directory(temporary)
        if path.exists():
            os.rename(path, _parked(path))
        os.rename(temporary, path)
        _sync_directory(path.parent)
        shutil.rmtree(_parked(path), ignore_errors=True)
    except OSError as error:
        raise _not_saved(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def verify_directory(path: Path, hashes: bool = True) -> dict[str, Any]:
    """The manifest of a committed directory, after checking every file against it.

    ``hashes=False`` checks the names and sizes of the files without reading them.

    Raises ``BmrlError`` where there is no such directory, and ``CorruptError``, naming the file, where the
    manifest is missing, unreadable or altered, or where a file is missing, not listed, a link, unsafely
    named, of another size or of another hash.
    """
    directory = locate(path)
    manifest = read_manifest(directory)
    check_listed(directory, manifest)
    for name, entry in manifest["files"].items():
        verify_file(directory / name, entry, hashes)
    return manifest


def read_manifest(directory: Path) -> dict[str, Any]:
    """The manifest of a committed directory, whose files nobody has looked at.

    Raises ``CorruptError`` where it is missing, unreadable or altered, or lists what is no name of a file.
    """
    manifest = read_json(directory / MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("manifest_sha256") != _digest(manifest):
        raise CorruptError(f"{directory / MANIFEST} was altered: it does not match its own hash; {_REMEDY}")
    files = manifest.get("files")
    if not isinstance(files, dict) or not all(isinstance(entry, dict) for entry in files.values()):
        raise CorruptError(f"{directory / MANIFEST} does not list the files; {_REMEDY}")
    for name in files:
        if _SAFE_NAME.fullmatch(name) is None or name == MANIFEST:
            raise CorruptError(f"{directory / MANIFEST} lists the unsafe file name {name!r}; {_REMEDY}")
    return manifest


def check_listed(directory: Path, manifest: dict[str, Any]) -> None:
    """Raises ``CorruptError`` where a directory holds what its manifest does not list."""
    for name in sorted(os.listdir(directory)):
        if name not in manifest["files"] and name != MANIFEST:
            raise CorruptError(f"{directory} holds {name!r}, which {MANIFEST} does not list; remove it")


def verify_file(path: Path, entry: dict[str, Any], hashes: bool = True) -> None:
    """Raises ``CorruptError`` unless a file has the size, and the SHA-256 if ``hashes``, of its manifest's entry."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size != entry.get("bytes"):
            raise CorruptError(f"{path} has {size} bytes, its manifest says {entry.get('bytes')!r}; {_REMEDY}")
        if hashes and hashlib.file_digest(file, "sha256").hexdigest() != entry.get("sha256"):
            raise CorruptError(f"{path} was altered: its SHA-256 is not its manifest's; {_REMEDY}")


def is_committed(path: Path) -> bool:
    """Whether ``commit_directory`` made the directory ``path``, sound or not, judging by its manifest."""
    try:
        manifest = read_json(path / MANIFEST)
    except CorruptError:
        return False
    return isinstance(manifest, dict) and "manifest_sha256" in manifest


def has_result(path: Path) -> bool:
    """Whether ``commit_directory`` made what is at ``path``; else it can be made there.

    Raises ``BmrlError`` where something else is there, or what is there has lost its manifest.
    """
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise BmrlError(f"{path} is not a directory; move it or choose another place")
    committed = is_committed(path)
    if not committed and path.exists() and any(path.iterdir()):
        raise BmrlError(
            f"{path} holds something else, or is damaged; choose another place, or remove it if nothing there is needed"
        )
    return committed


def require_format(path: Path, manifest: dict[str, Any], name: str, version: int) -> None:
    """Raises ``CorruptError`` unless the manifest of ``path`` declares this ``format`` and ``version``."""
    found = manifest.get("format"), manifest.get("version")
    if found != (name, version):
        raise CorruptError(f"{path} has format {found[0]!r} {found[1]!r}, {name!r} {version!r} is needed")


def locate(path: Path) -> Path:
    """Where the committed directory ``path`` is now: there or, if its replacement was cut short, beside it.

    Raises ``BmrlError`` where it is neither.
    """
    path = _absolute(path)
    for candidate in (path, _parked(path)):
        if candidate.is_dir():
            return candidate
    raise BmrlError(f"{path}: no such directory")


def refuse_links(root: Path) -> None:
    """Raises ``CorruptError`` at a symbolic link anywhere in a directory that a person named, a link or not.

    Whoever was given a run or batches by somebody else reads and writes nothing outside them.
    """
    for folder, directories, files in os.walk(root):
        for name in (*directories, *files):
            if os.path.islink(entry := os.path.join(folder, name)):
                raise CorruptError(f"{entry} is a symbolic link; replace it by what it points to")


def committed_names(root: Path) -> list[str]:
    """The sorted names of the directories committed in ``root``; none if ``root`` is absent."""
    names = set()
    for entry in root.iterdir() if root.is_dir() else ():
        leftover = _LEFTOVER.fullmatch(entry.name)
        if entry.is_dir() and (leftover is None or leftover["kind"] == "old"):
            names.add(leftover["name"] if leftover else entry.name)
    return sorted(names)


def leftover_of(name: str) -> str | None:
    """What a writer was writing when a kill left an entry ``name`` behind; None for what is no leftover."""
    leftover = _LEFTOVER.fullmatch(name)
    return leftover["name"] if leftover else None


def remove_directory(path: Path) -> None:
    """Removes a committed directory without leftovers of its own; a kill leaves it whole or absent.

    Raises ``BmrlError`` where the file system refuses.
    """
    path = _absolute(path)
    temporary = _temporary(path)
    try:
        os.rename(path, temporary)
    except OSError as error:
        raise BmrlError(f"{path} could not be removed ({error.strerror}); remove it yourself") from error
    shutil.rmtree(temporary, ignore_errors=True)


def move_directory(path: Path, target: Path) -> None:
    """Gives a committed directory another place on its file system, where none is; a kill leaves it here or there.

    Raises ``BmrlError`` where the file system refuses.
    """
    try:
        _make_directory(target.parent)
        os.rename(path, target)
        for parent in (target.parent, path.parent):
            _sync_directory(parent)
    except OSError as error:
        raise _not_saved(target, error) from error


def clean_leftovers(parent: Path, name: str | None = None) -> None:
    """Removes what killed writers of ``name`` left in ``parent``; of all names, for its only writer, if None.

    Raises ``BmrlError`` where the file system refuses.
    """
    for entry in sorted(parent.iterdir()) if parent.is_dir() else ():
        leftover = _LEFTOVER.fullmatch(entry.name)
        if leftover is None or (name is not None and leftover["name"] != name):
            continue
        current = parent / leftover["name"]
        try:
            if leftover["kind"] == "old" and not current.exists():
                os.rename(entry, current)
            elif entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        except OSError as error:
            raise BmrlError(f"{entry} could not be removed ({error.strerror}); remove it yourself") from error


def write_json(path: Path, data: Any) -> None:
    """Writes a JSON file, indented, keys sorted, so that a kill leaves the old file or the new one.

    Raises ``BmrlError`` where ``data`` holds NaN, an infinity or what JSON cannot hold, or where the disk is
    full or the place cannot be written; an old file then stays.
    """
    write_file(path, encode_json(data, path))


def write_file(path: Path, content: bytes) -> None:
    """Writes a file so that a kill leaves the old one or the new one; ``BmrlError`` where it cannot."""
    path = _absolute(path)
    temporary = _temporary(path)
    try:
        _make_directory(path.parent)
        clean_leftovers(path.parent, path.name)
        _write_synced(temporary, content)
        os.replace(temporary, path)
        _sync_directory(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _not_saved(path, error) from error


def read_json(path: Path, remedy: str = _REMEDY) -> Any:
    """Reads a JSON file; ``remedy`` is what an error advises where it is no JSON.

    Raises ``CorruptError``, naming the file, where it is missing, a link, larger than 64 MiB, nested deeper than
    50 levels or not JSON, or holds NaN, an infinity or a name twice in one object.
    """
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > MAX_JSON_BYTES:
            raise CorruptError(f"{path} is larger than {MAX_JSON_BYTES >> 20} MiB: no file of this program is")
        try:
            text = file.read().decode()
            data = json.loads(text, parse_constant=_finite, parse_float=_finite, object_pairs_hook=_distinct)
            _check_depth(data)
            return data
        except (ValueError, RecursionError) as error:
            raise CorruptError(f"{path} is not valid JSON ({error}); {remedy}") from error


def encode_json(data: Any, path: Path) -> bytes:
    """The bytes that ``write_json`` writes to ``path``; raises ``BmrlError`` where ``data`` is no JSON."""
    try:
        return (json.dumps(data, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BmrlError(f"{path} cannot be written as JSON: {error}") from error


def open_regular(path: Path) -> io.BufferedReader:
    """Opens a file to read; raises ``CorruptError`` where it is missing or is a link, a pipe or a device.

    Raises ``BmrlError`` where this user may not read it.
    """
    try:
        # O_NONBLOCK: a named pipe put in the place of a file must not make its reader wait.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError as error:
        raise BmrlError(f"{path} may not be read by this user: change its permissions") from error
    except OSError as error:
        reason = "is a symbolic link" if path.is_symlink() else f"cannot be opened ({error.strerror})"
        raise CorruptError(f"{path} {reason}; {_REMEDY}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CorruptError(f"{path} is not a regular file; {_REMEDY}")
    return os.fdopen(descriptor, "rb")


def open_log(path: Path) -> TextIO:
    """Opens a text file to append to; raises ``BmrlError`` where it cannot, or is a link, a pipe or a device."""
    flags = os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        file = open(path, "a", encoding="utf-8", opener=lambda name, mode: os.open(name, mode | flags, 0o666))  # noqa: SIM115
    except OSError as error:
        raise BmrlError(f"{path} cannot be written ({error.strerror}); move it away") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise BmrlError(f"{path} is not a regular file; move it away")
    return file


def raise_open_files_limit() -> int:
    """Let this process hold as many files open as the system allows; returns how many that are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != soft:
        with suppress(ValueError, OSError):  # macOS takes less than it says that it takes
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    now, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if now == resource.RLIM_INFINITY else now


class ScratchArray:
    """An array in a file that has no name, so that nothing is left of it, however the process ends.

    It takes the room on the disk that is written to, not that of its shape.
    """

    def __init__(self, directory: Path, shape: tuple[int, ...], dtype: DTypeLike):
        """Raises ``BmrlError`` where the directory cannot be written."""
        self._shape, self._dtype, self._directory = shape, np.dtype(dtype), directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - `read` closes it
            os.ftruncate(self._file.fileno(), math.prod(shape) * self._dtype.itemsize)
        except OSError as error:
            raise _not_saved(directory, error) from error

    def write(self, start: tuple[int, ...], rows: np.ndarray) -> None:
        """Put ``rows`` where the leading axes are at ``start``; raises ``BmrlError`` where the disk is full.

        Not by way of a mapped array, for then a full disk would end the process.
        """
        if not rows.size:
            return
        row = math.prod(self._shape[len(start) :]) * self._dtype.itemsize
        offset = int(np.ravel_multi_index(start, self._shape[: len(start)])) * row
        data = memoryview(np.ascontiguousarray(rows, self._dtype).tobytes())
        try:
            while data:
                written = os.pwrite(self._file.fileno(), data, offset)
                data, offset = data[written:], offset + written
        except OSError as error:
            raise _not_saved(self._directory, error) from error

    def __enter__(self) -> "ScratchArray":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, rows: np.ndarray) -> None:
        """Put ``rows`` after the last one: the array grows. Raises ``BmrlError`` where the disk is full."""
        first = self._shape[0]
        self._shape = (first + len(rows), *self._shape[1:])
        self.write((first,), rows)

    def read(self) -> np.ndarray:
        """The whole array, mapped and read-only; the last call, for the file is then held by the mapping alone."""
        with self._file:
            if not math.prod(self._shape):
                return np.zeros(self._shape, self._dtype)
            return np.asarray(np.memmap(self._file, self._dtype, mode="r", shape=self._shape))


Scratch: TypeAlias = Callable[[tuple[int, ...], DTypeLike], ScratchArray]
"""Makes scratch arrays of a shape and dtype, where its maker wants them and for as long."""


def _seal(directory: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Flushes and hashes the files of ``directory``; returns the manifest that describes them."""
    described = manifest.get("files", {})
    files = {}
    for name in sorted(os.listdir(directory)):
        if _SAFE_NAME.fullmatch(name) is None or name == MANIFEST:
            raise BmrlError(f"{name!r} cannot name a file here: letters, digits, '.', '_', '-' only")
        with open_regular(directory / name) as file:
            os.fsync(file.fileno())
            size = os.fstat(file.fileno()).st_size
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        files[name] = {**described.get(name, {}), "sha256": digest, "bytes": size}
    sealed = {**manifest, "files": files}
    return {**sealed, "manifest_sha256": _digest(sealed)}


def _digest(manifest: dict[str, Any]) -> str:
    content = {key: value for key, value in manifest.items() if key != "manifest_sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _write_synced(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _make_directory(path: Path) -> None:
    """Make a directory, and those above it, if need be; the names of the new ones are then on the disk, too."""
    new = [each for each in (path, *path.parents) if not each.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for each in new:
        _sync_directory(each.parent)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp-{secrets.token_hex(4)}")


def _parked(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _not_saved(path: Path, error: OSError) -> BmrlError:
    reason = error.strerror or error
    return NotSavedError(f"{path} could not be saved ({reason}); free space there or choose another place")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names are all different: of two values for one name, nobody can say which was meant."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice in one object")
    return found


def _check_depth(data: Any) -> None:
    level = [data]
    for _ in range(MAX_JSON_DEPTH):
        containers = [value.values() if isinstance(value, dict) else value for value in level if _is_container(value)]
        level = [child for container in containers for child in container]
    if level:
        raise ValueError(f"nested deeper than {MAX_JSON_DEPTH} levels")


def _is_container(value: Any) -> bool:
    return isinstance(value, dict | list)
