"""Files made to do harm: to run code, to be read from elsewhere, or to fill the memory. Each has to be refused."""

import hashlib
import io
import json
import os
import pickle  # to make what must never be opened
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bmrl.runs import storage
from torture.mutations import HUGE, reseal


class Payload:
    """Makes a directory when it is unpickled."""

    def __init__(self, path: Path):
        self._path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self._path),)


class Hostile(NamedTuple):
    """A hostile file: what it is, in whose place, and its making of (file, a directory outside, a canary's path)."""

    what: str
    kind: str
    file: str
    make: Callable[[Path, Path, Path], None]


def _sealed(make: Callable[[Path, Path, Path], None]) -> Callable[[Path, Path, Path], None]:
    """With a manifest that matches."""

    def sealed(file: Path, outside: Path, canary: Path) -> None:
        make(file, outside, canary)
        reseal(file.parent)

    return sealed


def _pickle(file: Path, outside: Path, canary: Path) -> None:
    file.write_bytes(pickle.dumps(Payload(canary)))


def _object_array(file: Path, outside: Path, canary: Path) -> None:
    np.save(file, np.array([Payload(canary)] * 5), allow_pickle=True)


def _object_field(file: Path, outside: Path, canary: Path) -> None:
    np.save(file, np.array([(0, Payload(canary))] * 5, [("a", "<f4"), ("b", "O")]), allow_pickle=True)


def _archive(file: Path, outside: Path, canary: Path) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rewards.npy", bytes(1 << 24))
        archive.writestr("../../escaped", b"x")


def _hdf5(file: Path, outside: Path, canary: Path) -> None:
    file.write_bytes(b"\x89HDF\r\n\x1a\n" + os.fsencode(outside / "secret") + bytes(64))


def _huge_array(file: Path, outside: Path, canary: Path) -> None:
    with open(file, "wb") as target:
        np.lib.format.write_array_header_1_0(target, {"descr": "<f4", "fortran_order": False, "shape": (HUGE,)})


def _wide_array(file: Path, outside: Path, canary: Path) -> None:
    """Five rows of 2^26 numbers, all hole: the header, the size and the manifest are true, but for the hash."""
    with open(file, "wb") as target:
        np.lib.format.write_array_header_1_0(target, {"descr": "<f4", "fortran_order": False, "shape": (5, 1 << 26)})
        target.truncate(target.tell() + 5 * (4 << 26))
    path = file.parent / storage.MANIFEST
    manifest = json.loads(path.read_bytes())
    manifest["files"][file.name] |= {"shape": [5, 1 << 26], "bytes": file.stat().st_size}
    manifest["manifest_sha256"] = storage._digest(manifest)
    path.write_text(json.dumps(manifest))


def _huge_header(file: Path, outside: Path, canary: Path) -> None:
    file.write_bytes((1 << 62).to_bytes(8, "little") + b"{}")


def _huge_tensor(file: Path, outside: Path, canary: Path) -> None:
    header = json.dumps({"['n']": {"dtype": "F32", "shape": [HUGE], "data_offsets": [0, 4 * HUGE]}}).encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header)


def _hole(file: Path, outside: Path, canary: Path) -> None:
    os.truncate(file, HUGE)


def _link(file: Path, outside: Path, canary: Path) -> None:
    """To the very content that the manifest lists, elsewhere."""
    file.rename(outside / file.name)
    file.symlink_to(outside / file.name)


def _linked_directory(file: Path, outside: Path, canary: Path) -> None:
    file.parent.rename(outside / file.parent.name)
    file.parent.symlink_to(outside / file.parent.name)


def _parked_link(file: Path, outside: Path, canary: Path) -> None:
    """In the place of a predecessor that a replacement left."""
    file.parent.rename(outside / file.parent.name)
    file.parent.with_name(f".{file.parent.name}.old").symlink_to(outside / file.parent.name)


def _link_beside(name: str) -> Callable[[Path, Path, Path], None]:
    """A part of a run that lies elsewhere."""

    def make(file: Path, outside: Path, canary: Path) -> None:
        (file.parent / name).symlink_to(outside)

    return make


def _file_for_a_batch(file: Path, outside: Path, canary: Path) -> None:
    (file.parent.parent / "mdp-002").write_bytes(b"PK")


def _pipe(file: Path, outside: Path, canary: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _listing(name: Callable[[Path], str]) -> Callable[[Path, Path, Path], None]:
    """A manifest, sealed anew, that lists a file outside with its true size and hash."""

    def make(file: Path, outside: Path, canary: Path) -> None:
        secret = outside / "secret"
        manifest = json.loads(file.read_bytes())
        content = secret.read_bytes()
        entry = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        manifest["files"][name(secret)] = entry
        manifest["manifest_sha256"] = storage._digest(manifest)
        file.write_text(json.dumps(manifest))

    return make


def _stowaway(name: str) -> Callable[[Path, Path, Path], None]:
    """Code beside the data, where an import could find it."""

    def make(file: Path, outside: Path, canary: Path) -> None:
        (file.parent / name).write_text(f"import os\nos.mkdir({str(canary)!r})\n")

    return make


def _text(content: str) -> Callable[[Path, Path, Path], None]:
    def make(file: Path, outside: Path, canary: Path) -> None:
        file.write_text(content.replace("CANARY", str(canary)))

    return make


def _family(name: str) -> Callable[[Path, Path, Path], None]:
    def make(file: Path, outside: Path, canary: Path) -> None:
        file.write_text(json.dumps({**json.loads(file.read_bytes()), "family": name}))

    return make


def _npz_of_objects(file: Path, outside: Path, canary: Path) -> None:
    columns: Any = {**np.load(file), "r": np.array([Payload(canary)] * 12)}
    np.savez(file, **columns)


def _npz_of_another_size(file: Path, outside: Path, canary: Path) -> None:
    """An array that declares 2^40 numbers."""
    columns = dict(np.load(file))
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (HUGE,)})
    with zipfile.ZipFile(file, "w") as archive:
        for name, values in columns.items():
            content = io.BytesIO()
            np.save(content, values)
            archive.writestr(f"{name}.npy", header.getvalue() if name == "r" else content.getvalue())


def _bomb(file: Path, outside: Path, canary: Path) -> None:
    """An array of 256 MiB that packs into 256 KiB, and the others as they were."""
    columns = dict(np.load(file))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, values in columns.items():
            with archive.open(f"{name}.npy", "w") as member:
                rows = 1 << 26 if name == "r" else len(values)
                header = {"descr": values.dtype.str, "fortran_order": False, "shape": (rows,)}
                np.lib.format.write_array_header_1_0(member, header)
                for start in range(0, rows, 1 << 20):
                    size = min(1 << 20, rows - start)
                    member.write(bytes(4 * size) if name == "r" else values[start : start + size].tobytes())


def _hdf5_with(change: Callable[[Any, Path], None]) -> Callable[[Path, Path, Path], None]:
    """Another array of rewards in an HDF5 file."""

    def make(file: Path, outside: Path, canary: Path) -> None:
        import h5py

        with h5py.File(file, "a") as opened:
            del opened["r"]
            change(opened, outside)

    return make


def _external_link(file: Any, outside: Path) -> None:
    import h5py

    file["r"] = h5py.ExternalLink(str(outside / "secret"), "r")


def _external_data(file: Any, outside: Path) -> None:
    file.create_dataset("r", (12,), "f4", external=[(str(outside / "secret"), 0, 48)])


def _huge_dataset(file: Any, outside: Path) -> None:
    file.create_dataset("r", (HUGE,), "f4", chunks=(1 << 20,), compression="gzip")


def _objects(file: Any, outside: Path) -> None:
    import h5py

    file.create_dataset("r", (12,), h5py.string_dtype())


ARRAY, BATCH = "mdp-001/rewards.npy", "mdp-001/manifest.json"
WEIGHTS = {
    "checkpoint arrays": "step-000000005/arrays.safetensors",
    "learners' weights": "default/arrays.safetensors",
    "student's weights": "default/arrays.safetensors",
    "policy's weights": "policy/arrays.safetensors",
}
LOGS = {"CSV log": "log.csv", "Parquet log": "log.parquet", "NPZ log": "log.npz", "HDF5 log": "log.h5"}
PLAIN = {
    "config.json": "config.json",
    "results.json of a run": "results.json",
    "results.json of a study": "results.json",
    "metrics.csv": "metrics.csv",
}

FILES = (
    Hostile("an array of pickled objects", "batch arrays", ARRAY, _sealed(_object_array)),
    Hostile("an array with a field of pickled objects", "batch arrays", ARRAY, _sealed(_object_field)),
    Hostile("an archive that expands and escapes", "batch arrays", ARRAY, _sealed(_archive)),
    Hostile("HDF5 with a name outside", "batch arrays", ARRAY, _sealed(_hdf5)),
    Hostile("an array of 2^40 numbers", "batch arrays", ARRAY, _sealed(_huge_array)),
    Hostile("a row of 2^26 numbers", "batch arrays", "mdp-001/actions.npy", _wide_array),
    Hostile("a file named like a batch", "batch arrays", ARRAY, _file_for_a_batch),
    *(
        Hostile(what, kind, file, _sealed(make))
        for what, make in (
            ("a pickle", _pickle),
            ("a header of 2^62 bytes", _huge_header),
            ("2^40 numbers", _huge_tensor),
        )
        for kind, file in {"batch arrays": ARRAY, **WEIGHTS}.items()
    ),
    *(
        Hostile(what, kind, file, make)
        for what, make in (
            ("a link to the same content elsewhere", _link),
            ("a named pipe", _pipe),
            ("a hole of 2^40 bytes", _hole),
        )
        for kind, file in {"batch arrays": ARRAY, "batch manifest": BATCH, **WEIGHTS, **PLAIN}.items()
    ),
    Hostile("a directory that is a link", "batch manifest", BATCH, _linked_directory),
    Hostile("a parked directory that is a link", "batch manifest", BATCH, _parked_link),
    *(
        Hostile(f"{name} that is a link", "config.json", "config.json", _link_beside(name))
        for name in ("batches", "teachers", "pooled", "students", "checkpoints", "figures")
    ),
    Hostile("a manifest that lists an absolute path", "batch manifest", BATCH, _listing(str)),
    Hostile("a manifest that lists ../", "batch manifest", BATCH, _listing(lambda secret: "../../outside/secret")),
    *(
        Hostile(f"{name} beside the data", "batch manifest", BATCH, _stowaway(name))
        for name in ("__init__.py", "conftest.py", "sitecustomize.py", "numpy.py")
    ),
    *(
        Hostile(what, kind, file, _text(text))
        for what, text in (
            ("tags of YAML", "!!python/object/apply:os.mkdir ['CANARY']"),
            ("names of classes", '{"py/object": "os.mkdir", "py/reduce": ["os.mkdir", ["CANARY"]], "__class__": "os"}'),
            ("code", "__import__('os').mkdir('CANARY')"),
        )
        for kind, file in {"batch manifest": BATCH, **PLAIN}.items()
    ),
    *(Hostile("a pickle", kind, file, _pickle) for kind, file in LOGS.items()),
    *(Hostile("a named pipe", kind, file, _pipe) for kind, file in LOGS.items()),
    *(Hostile("a hole of 2^40 bytes", kind, file, _hole) for kind, file in LOGS.items() if kind != "HDF5 log"),
    Hostile("pickled objects", "NPZ log", "log.npz", _npz_of_objects),
    Hostile("an archive that expands and escapes", "NPZ log", "log.npz", _archive),
    Hostile("an array of 2^40 numbers", "NPZ log", "log.npz", _npz_of_another_size),
    Hostile("an array that unpacks to 256 MiB", "NPZ log", "log.npz", _bomb),
    *(
        Hostile(what, "HDF5 log", "log.h5", _hdf5_with(change))
        for what, change in (
            ("a link to another file", _external_link),
            ("data in another file", _external_data),
            ("2^40 numbers, none of them stored", _huge_dataset),
            ("texts of any length", _objects),
        )
    ),
    *(
        Hostile(f"the family {name!r}", "config.json", "config.json", _family(name))
        for name in ("os:mkdir", "../../../etc/passwd", "bmrl.cli", "gymnasium:HalfCheetah-v5")
    ),
)
