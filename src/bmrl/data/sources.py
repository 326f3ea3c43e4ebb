"""Which files a person means: files, patterns, directories, Minari datasets; and the reader of each."""

import glob
import json
import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from bmrl.data.mapping import Mapping
from bmrl.data.readers import Reader, Source, natural
from bmrl.errors import BmrlError
from bmrl.runs.storage import read_json

FORMATS = {
    **dict.fromkeys((".csv", ".tsv", ".txt"), "csv"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    ".npz": "npz",
    **dict.fromkeys((".hdf5", ".h5", ".hdf"), "hdf5"),
}
ONLY = {  # keys of a mapping -> the formats that they are about
    "axes": ("npz", "hdf5"),
    "groups": ("hdf5",),
    "time_format": ("csv", "parquet"),
    **dict.fromkeys(("separator", "decimal", "thousands", "encoding", "header", "skip"), ("csv",)),
}
REMEDIES = {
    **dict.fromkeys((".gz", ".zip", ".xz", ".bz2", ".zst", ".7z", ".tar"), "unpack it first"),
    **dict.fromkeys((".xlsx", ".xls", ".ods"), "save each sheet as CSV"),
    **dict.fromkeys((".npy", ".mat", ".pkl", ".pickle", ".pt", ".joblib"), "save its arrays by numpy.savez as .npz"),
    **dict.fromkeys((".json", ".jsonl", ".feather", ".arrow", ".db", ".sqlite"), "save it as Parquet or CSV"),
}
_log = logging.getLogger(__name__)
MINARI_DATA, MINARI_METADATA = "main_data.hdf5", "metadata.json"


def find_sources(words: Sequence[str | Path]) -> list[Source]:
    """The files that are meant by names, patterns, directories of files and directories of Minari datasets.

    Raises ``BmrlError`` where there is none, or one of a format that is not read.
    """
    if not words:
        raise BmrlError("name the files to import")
    found: dict[Path, Source] = {}  # a file that is named twice is read once
    for word in map(str, words):
        matches = [word] if os.path.exists(word) else sorted(glob.glob(word, recursive=True), key=natural)
        if not matches:
            raise BmrlError(f"{word}: there is no such file")
        for path in map(Path, matches):
            for source in _in_directory(path) if path.is_dir() else [_source(path)]:
                found.setdefault(source.path.resolve(), source)
    return list(found.values())


def open_reader(source: Source, mapping: Mapping) -> Reader:
    """The reader of a file.

    Raises ``BmrlError`` where it cannot be read, packages are missing, or the mapping is for another format.
    """
    for key, formats in ONLY.items():
        if key in mapping.lines and source.format not in formats:
            raise mapping.error(key, f"this is for {' and '.join(formats)}, and {source.path} is {source.format}")
    if mapping.time is not None and len(mapping.time) > 1 and source.format not in ("csv", "parquet"):
        raise mapping.error("time", f"two columns are for csv and parquet, and {source.path} is {source.format}")
    with needing_extra():
        if source.format in ("csv", "parquet"):
            from bmrl.data.tables import CsvReader, ParquetReader

            return CsvReader(source, mapping) if source.format == "csv" else ParquetReader(source, mapping)
        from bmrl.data.arrays import Hdf5Reader, NpzReader

        return NpzReader(source, mapping) if source.format == "npz" else Hdf5Reader(source, mapping)


@contextmanager
def needing_extra() -> Iterator[None]:
    """Imports within need packages of the extra: raises ``BmrlError`` where one is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise BmrlError(f"{error.name} is not installed: install bmrl with its extra 'data'") from error


def minari_metadata(data: Path) -> dict[str, Any]:
    """What a Minari dataset says of itself; ``data`` is its main_data.hdf5. Nothing that it names is imported.

    Raises ``BmrlError`` where it is damaged, or its data is in another format.
    """
    path = data.with_name(MINARI_METADATA)
    metadata = read_json(path)
    if not isinstance(metadata, dict):
        raise BmrlError(f"{path} describes no Minari dataset")
    if metadata.get("data_format", "hdf5") != "hdf5":
        raise BmrlError(f"{path}: its data is in {metadata['data_format']!r}; make the dataset with data_format='hdf5'")
    return metadata


def minari_space(metadata: dict[str, Any], name: str) -> dict[str, Any]:
    """The action or observation space, as Minari writes it: {"type": "Box", ...}; empty if it does not say."""
    try:
        space = json.loads(metadata[name])
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return space if isinstance(space, dict) else {}


def discrete_arrays(source: Source, key: Literal["observations", "actions"]) -> dict[str, str]:
    """The arrays of a Minari dataset whose numbers are choices, by its space: {name: the space's type}."""
    if not source.minari:
        return {}
    choices = ["Discrete", "MultiDiscrete"]
    if key == "actions":  # as an observation, 0 or 1 is an amount, too
        choices.append("MultiBinary")
    found = {}
    waiting: list[tuple[str, Any]] = [(key, minari_space(minari_metadata(source.path), f"{key[:-1]}_space"))]
    while waiting:
        name, space = waiting.pop()
        if not isinstance(space, dict):
            continue
        if space.get("type") in choices:
            found[name] = space["type"]
        within = space.get("subspaces")
        if isinstance(within, list):  # of a Tuple
            within = {f"_index_{number}": each for number, each in enumerate(within)}
        if isinstance(within, dict):
            waiting += [(f"{name}/{part}", each) for part, each in within.items()]
    return found


def _in_directory(path: Path) -> list[Source]:
    datasets = sorted(path.rglob(MINARI_DATA), key=lambda found: natural(str(found)))
    if datasets:
        return [_minari(data) for data in datasets]
    files = sorted((each for each in path.iterdir() if each.suffix.lower() in FORMATS), key=lambda f: natural(f.name))
    if not files:
        arrow = any(path.rglob("*.arrow"))
        hint = ": its data is in 'arrow'; make the dataset with data_format='hdf5'" if arrow else ""
        raise BmrlError(f"{path} holds no file that can be read ({', '.join(FORMATS)}) and no Minari dataset{hint}")
    for each in sorted(path.iterdir()):
        if each.suffix.lower() in REMEDIES and each.suffix.lower() != ".json":  # which mostly describes the others
            _log.warning("%s is left out: %s", each, REMEDIES[each.suffix.lower()])
    if below := [each for each in path.rglob("*") if each.parent != path and each.suffix.lower() in FORMATS]:
        _log.warning("%s and what else lies below %s is left out: name it, too, to import it", min(below), path)
    return [_source(file) for file in files]


def _source(path: Path) -> Source:
    if path.name == MINARI_DATA and path.with_name(MINARI_METADATA).exists():
        return _minari(path)
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        remedy = REMEDIES.get(suffix, f"the endings that are read are {', '.join(FORMATS)}")
        raise BmrlError(f"{path} is of a kind that is not read: {remedy}")
    if not path.is_file():  # a pipe would wait for a writer
        raise BmrlError(f"{path} is no regular file")
    return Source(path, path.stem, FORMATS[suffix])


def _minari(data: Path) -> Source:
    metadata = minari_metadata(data)
    directory = data.parent.parent if data.parent.name == "data" else data.parent
    name = metadata.get("mdp_id", directory.name)
    family, parameters = metadata.get("family"), metadata.get("mdp_params")
    if not isinstance(name, str) or not (family is None or isinstance(family, str)):
        raise BmrlError(f"{data.with_name(MINARI_METADATA)}: mdp_id and family are to be texts")
    if parameters is not None and not (
        isinstance(parameters, dict) and all(type(value) in (int, float) for value in parameters.values())
    ):
        raise BmrlError(f"{data.with_name(MINARI_METADATA)}: mdp_params are to be numbers")
    return Source(data, name, "hdf5", True, family, parameters, exported="mdp_id" in metadata)


def name_from_file(source: Source, mapping: Mapping) -> str:
    """The MDP's name in a file's name, by the mapping's pattern; else the source's own."""
    if mapping.files is None:
        return source.name
    before, after = (re.escape(part).replace(r"\*", ".*").replace(r"\?", ".") for part in mapping.files.split("{mdp}"))
    match = re.fullmatch(f"{before}(?P<mdp>.+?){after}", source.path.name)
    if match is None:
        raise mapping.error("files", f"{source.path.name!r} is not named like {mapping.files!r}")
    return match["mdp"]
