"""HDF5 files that nobody vouches for: what may be read of them is found without following a link or taking memory."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import h5py

from bmrl.data.mapping import one_line
from bmrl.data.readers import natural
from bmrl.errors import BmrlError

MAX_CHUNK_BYTES = 1 << 26  # of one compressed chunk, which HDF5 unpacks whole
MAX_RATIO = 1100  # of declared to stored bytes: no compression that HDF5 brings along does better by much
MAX_DEPTH, MAX_NAMES = 8, 100_000

# Those that HDF5 and h5py bring along: another one would be loaded from a library that the environment names.
_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 4: "szip", 5: "nbit", 6: "scale-offset", 32000: "lzf"}


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """What HDF5 raises within, as ``BmrlError``."""
    try:
        yield
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise BmrlError(f"{path} cannot be read as HDF5: {one_line(error)}") from error


def open_file(path: Path) -> Any:
    """The file, open for reading; raises ``BmrlError`` where it is none."""
    if not path.is_file():
        raise BmrlError(f"{path} is no file")
    with reading(path):
        return h5py.File(path, "r", locking=False)


def array_names(group: Any, path: Path, depth: int = 0) -> list[str]:
    """The names of the arrays in a group and in the groups within, as "infos/qpos".

    Raises ``BmrlError`` where anything points to another file, or there are too many names.
    """
    names: list[str] = []
    if depth == MAX_DEPTH:
        raise BmrlError(f"{path} has groups within groups, more than {MAX_DEPTH} deep")
    for name in group:
        member = _member(group, name, path)
        if isinstance(member, h5py.Dataset):
            names.append(name)
        elif isinstance(member, h5py.Group):
            names += [f"{name}/{inner}" for inner in array_names(member, path, depth + 1)]
        if len(names) > MAX_NAMES:
            raise BmrlError(f"{path} has more than {MAX_NAMES} arrays; if each episode is a group, say so by 'groups'")
    return names


def groups(file: Any, path: Path, pattern: str) -> list[tuple[str, Any]]:
    """The groups whose names fit a pattern ("data/demo_*"), by their numbers; only its last part may have signs."""
    parent, _, last = pattern.strip("/").rpartition("/")
    place = member(file, parent, path) if parent else file
    if not isinstance(place, h5py.Group):
        return []
    names = sorted((name for name in place if fnmatchcase(name, last)), key=natural)
    found = [(f"{parent}/{name}".lstrip("/"), _member(place, name, path)) for name in names]
    return [(name, group) for name, group in found if isinstance(group, h5py.Group)]


def member(group: Any, name: str, path: Path) -> Any:
    """What lies in a group under a name with slashes; None where nothing does, or a link within the file."""
    for part in name.split("/"):
        if not isinstance(group, h5py.Group) or part not in group:
            return None
        group = _member(group, part, path)
    return group


def check_array(array: Any, name: str, path: Path) -> Any:
    """The array itself; raises ``BmrlError`` where reading it could run code, leave the file or fill the memory."""
    where = f"{path}: the array {name!r}"
    if array.dtype.kind not in "biufS" or array.dtype.names is not None:
        texts = "; write texts by numpy's astype('S')" if h5py.check_string_dtype(array.dtype) else ""
        raise BmrlError(f"{where} has dtype {array.dtype}, numbers or texts of one length are needed{texts}")
    if array.shape is None or len(array.shape) == 0:
        raise BmrlError(f"{where} has no rows: it is a single value")
    if array.is_virtual or array.external:
        raise BmrlError(f"{where} has its data in other files; write it into this one")
    properties = array.id.get_create_plist()
    for number in range(properties.get_nfilters()):
        code = properties.get_filter(number)[0]
        if code not in _FILTERS:
            raise BmrlError(f"{where} is packed by filter {code}; write it with one of {', '.join(_FILTERS.values())}")
    if array.chunks and math.prod(array.chunks) * array.dtype.itemsize > MAX_CHUNK_BYTES:
        raise BmrlError(f"{where} has chunks of more than {MAX_CHUNK_BYTES >> 20} MiB; write it with smaller ones")
    declared, stored = math.prod(array.shape) * array.dtype.itemsize, array.id.get_storage_size()
    if declared > MAX_RATIO * stored + MAX_CHUNK_BYTES // 64:
        raise BmrlError(f"{where} declares {declared} bytes but holds {stored}; write it whole")
    return array


def _member(group: Any, name: str, path: Path) -> Any:
    link = group.get(name, getlink=True)
    if isinstance(link, h5py.ExternalLink):
        raise BmrlError(f"{path}: {name!r} is a link to another file; put the data itself there")
    return group[name] if isinstance(link, h5py.HardLink) else None
