"""The batch of one MDP: a directory of memory-mapped arrays and a manifest.

Names are Minari's. Episodes lie one after the other. An episode of T transitions has T + 1 observations, so N
transitions in E episodes have N + E observations:

    transition        0   1   2   |   3   4          N = 5, E = 2
    observation     0   1   2   3 | 4   5   6        N + E = 7
    ends                      x           x          termination or truncation

Transition t of episode e (both counted from 0) has its observation in row t + e and its next observation in
row t + e + 1.
"""

import math
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bmrl.data.checks import FIELDS, Array, Problems, check_arrays, check_width, dtype_of
from bmrl.data.npy import open_npy, write_npy
from bmrl.errors import BmrlError, CorruptError
from bmrl.runs.storage import (
    MANIFEST,
    check_listed,
    commit_directory,
    committed_names,
    locate,
    raise_open_files_limit,
    read_manifest,
    refuse_links,
    require_format,
    verify_file,
)

FORMAT, VERSION = "bmrl-batch", 1

_INFO = re.compile(r"infos\.[A-Za-z0-9_-]{1,100}")


@dataclass(frozen=True, eq=False)
class Batch:
    """The transitions of one MDP, N in E episodes. The stored arrays are memory-mapped and read-only.

    Attributes:
        name: the directory's name, "mdp-000".
        observations: [N + E, d_s] float32.
        actions: [N, d_a] float32, in [-1, 1].
        rewards: [N] float32.
        terminations: [N] bool, the MDP reached a terminal state.
        truncations: [N] bool, the episode was cut: a time limit, or the end of the data.
        infos: {name: [N, ...] float32}.
        manifest: the MDP's parameters ``mdp``, ``family``, ``provenance``, ``counts``, ``files``.
        episode_starts: [E] int64, the first transition of every episode.
        episode_ends: [E] int64, one past the last transition of every episode.
    """

    name: str
    observations: NDArray[np.float32]
    actions: NDArray[np.float32]
    rewards: NDArray[np.float32]
    terminations: NDArray[np.bool_]
    truncations: NDArray[np.bool_]
    infos: dict[str, NDArray[np.float32]]
    manifest: dict[str, Any]
    episode_starts: NDArray[np.int64]
    episode_ends: NDArray[np.int64]

    @property
    def imported(self) -> str | None:
        """The MDP's name in the logs that `bmrl data import` made the batch of, None if it did not."""
        name = self.manifest["provenance"].get("imported")
        return name if isinstance(name, str) else None

    @property
    def bounds(self) -> tuple[list[float], list[float]] | None:
        """The actions in the logs' unit that -1 and 1 stand for, as `bmrl data import` was told; else None."""
        actions = self.manifest["provenance"].get("actions")
        known = isinstance(actions, dict) and actions.keys() >= {"low", "high"}
        return (actions["low"], actions["high"]) if known else None

    def rows(self, transitions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of their observations; the rows after these have their next observations."""
        return transitions + np.searchsorted(self.episode_ends, transitions, side="right")

    @property
    def size(self) -> int:
        """N, the number of transitions."""
        return len(self.actions)

    @property
    def episodes(self) -> int:
        """E, the number of episodes."""
        return len(self.episode_ends)

    @property
    def observation_dim(self) -> int:
        """d_s."""
        return self.observations.shape[1]

    @property
    def action_dim(self) -> int:
        """d_a."""
        return self.actions.shape[1]


def write_batch(
    path: str | os.PathLike[str],
    *,
    observations: ArrayLike,
    actions: ArrayLike,
    rewards: ArrayLike,
    terminations: ArrayLike,
    truncations: ArrayLike,
    infos: Mapping[str, ArrayLike] | None = None,
    mdp: Mapping[str, float] | None = None,
    family: str | None = None,
    provenance: Mapping[str, Any],
) -> None:
    """Writes the batch of one MDP to the directory ``path``, whole or not at all.

    Numbers are stored as float32, terminations and truncations (bool, or 0 and 1) as bool.

    Args:
        path: ``.../mdp-000``; a batch that is there is replaced.
        observations: [N + E, d_s], with the last observation of every episode.
        actions: [N, d_a], in [-1, 1].
        rewards: [N].
        terminations: [N], set where the MDP reached a terminal state.
        truncations: [N], set where an episode was cut: by a time limit, or by the end of the data.
        infos: {name: [N, ...]}, what else was logged.
        mdp: the MDP's parameters, None if unknown.
        family: the name of the MDP's family, None if unknown.
        provenance: how the data was made, JSON values.

    Raises ``BmrlError``, naming the MDP, field and row, for what ``read_batch`` would refuse, and where the
    disk is full or the place cannot be written. A batch that was there then stays.
    """
    path = Path(path)
    given = {
        "observations": observations,
        "actions": actions,
        "rewards": rewards,
        "terminations": terminations,
        "truncations": truncations,
        **{f"infos.{info}": values for info, values in (infos or {}).items()},
    }
    arrays = {field: _numbers(path, field, values) for field, values in given.items()}
    problems = Problems()
    check_width(path, arrays)
    ends = check_arrays(path, arrays, problems)
    problems.refuse()

    def write(directory: Path) -> None:
        for field, array in arrays.items():
            with open(directory / f"{field}.npy", "wb") as file:
                write_npy(file, array, dtype_of(field))

    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "family": family,
        "mdp": None if mdp is None else {key: _parameter(path, key, mdp[key]) for key in mdp},
        "mdp_id": path.absolute().name,
        "provenance": dict(provenance),
        "counts": {"transitions": len(arrays["actions"]), "episodes": len(ends)},
        "files": {
            f"{field}.npy": {"dtype": dtype_of(field).name, "shape": array.shape} for field, array in arrays.items()
        },
    }
    commit_directory(path, write, manifest)


def read_batch(path: str | os.PathLike[str], verify: bool = True) -> Batch:
    """Opens the batch of one MDP after checking every file and value.

    ``verify=False`` leaves out one check: the files' SHA-256.

    Raises ``CorruptError`` where a file does not match the manifest, and ``BmrlError``, naming the MDP, field
    and row, where an array is missing or has a wrong dtype or shape, a value is NaN or too large, an action
    lies outside [-1, 1], the counts do not match, the last transition ends no episode, or there is none.
    """
    batch, problems = examine_batch(path, verify)
    problems.refuse()
    assert batch is not None
    return batch


def examine_batch(path: str | os.PathLike[str], verify: bool = True) -> tuple[Batch | None, Problems]:
    """The batch of one MDP, and all that `read_batch` would refuse in it; then there is none."""
    path, problems = Path(path), Problems()
    with problems.noted():
        directory = locate(path)
        manifest = read_manifest(directory)
        require_format(directory, manifest, FORMAT, VERSION)
    if problems:  # nothing is known of the files
        return None, problems
    with problems.noted():
        check_listed(directory, manifest)
    _check_manifest(directory, manifest, problems)
    opened = {}
    for file, entry in manifest["files"].items():
        with problems.noted():
            if not _is_array(file):
                raise CorruptError(f"{directory / file} is no array of a batch; remove the batch and make it again")
            verify_file(directory / file, entry, hashes=False)
            opened[file.removesuffix(".npy")] = open_npy(directory / file, entry)
    for field in FIELDS:
        if f"{field}.npy" not in manifest["files"]:
            problems.append(BmrlError(f"{path}: {field}.npy is missing; make the batch again with it"))
    arrays = {}
    with problems.noted():
        check_width(path, opened)  # before anything of them is read
        for field, array in opened.items():
            with problems.noted():
                verify_file(directory / f"{field}.npy", manifest["files"][f"{field}.npy"], hashes=verify)
                arrays[field] = array
    ends = check_arrays(path, arrays, problems)
    if problems:
        return None, problems
    counts = {"transitions": len(arrays["actions"]), "episodes": len(ends)}
    if manifest.get("counts") != counts:
        said = manifest.get("counts")
        problems.append(BmrlError(f"{path}: the arrays hold {counts}, the manifest says {said}"))
        return None, problems
    batch = Batch(
        name=path.absolute().name,
        **{field: arrays.pop(field) for field in FIELDS},
        infos={field.removeprefix("infos."): array for field, array in arrays.items()},
        manifest=manifest,
        episode_starts=np.concatenate([[0], ends[:-1]]),
        episode_ends=ends,
    )
    return batch, problems


def read_batches(directory: str | os.PathLike[str]) -> list[Batch]:
    """Opens the batches mdp-000, mdp-001, ... of ``directory``, in this order; other names are ignored.

    Raises ``BmrlError`` for what ``read_batch`` refuses, where there is no batch or a number is left out,
    and, naming two MDPs, where they differ in family or in dimensions.
    """
    root = locate(Path(directory))
    refuse_links(root)
    names = batch_names(root)
    check_names(root, names)
    raise_open_files_limit()  # as many as the system allows: large arrays are mapped, and a mapping holds a file open
    batches = [read_batch(root / name) for name in names]
    if found := differences(root, {batch.name: traits(batch) for batch in batches}):
        raise BmrlError(found[0])
    return batches


def batches_of(directory: Path) -> Path:
    """The directory of batches that a person means: a run's, or the directory itself."""
    inner = directory / "batches"
    return inner if inner.is_dir() else directory


def batch_names(root: Path) -> list[str]:
    """The names mdp-... in a directory, by number. Raises ``BmrlError`` where there is none."""
    names = [name for name in committed_names(root) if name.startswith("mdp-")]
    if not names:
        raise BmrlError(f"{root} holds no batches: directories named mdp-000, mdp-001, ...")
    return sorted(names, key=_by_number)


def check_names(root: Path, names: Sequence[str]) -> None:
    """Raises ``BmrlError`` unless the names are mdp-000, mdp-001, ..., and nothing else is named like them."""
    for entry in sorted(root.glob("mdp-*")):
        if not entry.is_dir():
            raise BmrlError(f"{entry} is named like a batch, which is a directory; unpack it, or give it another name")
    wanted = {f"mdp-{number:03d}" for number in range(len(names))}
    if odd := set(names) - wanted:
        lacking = min(wanted.difference(names), key=_by_number)
        raise BmrlError(f"{root} holds {max(odd)} but not {lacking}; number the MDPs from mdp-000 on")


def _by_number(name: str) -> tuple[int, str]:
    return len(name), name


def traits(batch: Batch) -> dict[str, Any]:
    """What has to be the same in all MDPs of one training; without what the batch does not tell."""
    found = {
        "family": batch.manifest["family"],
        "observation dimension": batch.observation_dim,
        "action dimension": batch.action_dim,
    }
    if batch.bounds is not None and not batch.manifest["provenance"].get("exported"):  # that has another batch's bounds
        found["the actions' low and high (import both with the same)"] = list(batch.bounds)
    return found | {f"the order of the {what}' columns": names for what, names in columns(batch).items()}


def columns(batch: Batch) -> dict[str, tuple[str, ...]]:
    """The columns of "observations" and "actions" in the logs, where `bmrl data import` made the batch."""
    provenance = batch.manifest["provenance"]
    actions = provenance.get("actions")
    names = {"observations": provenance.get("observations")}
    names["actions"] = actions.get("names") if isinstance(actions, dict) else None
    return {what: tuple(map(str, found)) for what, found in names.items() if isinstance(found, list)}


def differences(root: Path, mdps: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """In what MDPs differ from the first that tells it, a line each; ``mdps`` is {name: {what: value}}."""
    known: dict[str, tuple[str, Any]] = {}
    told = []
    for name, found in mdps.items():
        for what, value in found.items():
            first, wanted = known.setdefault(what, (name, value))
            if _differ(value, wanted):
                told.append(f"{root}: {first} and {name} differ in {what}: {wanted!r} and {value!r}")
    return told


def _differ(one: Any, other: Any) -> bool:
    """Columns of other names may mean the same; the same ones in another order do not."""
    return one != other and (not isinstance(one, tuple) or sorted(one) == sorted(other))


def _numbers(where: Path, field: str, values: ArrayLike) -> Array:
    if field not in FIELDS and _INFO.fullmatch(field) is None:
        raise BmrlError(f"{where}: {field!r} cannot name an array; use letters, digits, '_', '-'")
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise BmrlError(f"{where}: {field} is no array: {error}") from error
    if array.dtype.kind not in "biuf":
        raise BmrlError(f"{where}: {field} has dtype {array.dtype}, numbers are needed")
    return array


def _parameter(where: Path, key: str, value: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise BmrlError(f"{where}: the MDP's parameter {key!r} is {value!r}, a finite number is needed")
    return number


def _check_manifest(directory: Path, manifest: dict[str, Any], problems: Problems) -> None:
    def is_mdp(value: Any) -> bool:
        return isinstance(value, dict) and all(map(is_number, value.values()))

    def is_number(value: Any) -> bool:
        return type(value) in (int, float) and abs(value) <= sys.float_info.max  # JSON's integers have no bound

    kinds: dict[str, Callable[[Any], bool]] = {
        "family": lambda value: value is None or isinstance(value, str),
        "mdp": lambda value: value is None or is_mdp(value),
        "provenance": lambda value: isinstance(value, dict),
    }
    for key, holds in kinds.items():
        if key not in manifest or not holds(manifest[key]):
            problems.append(CorruptError(f"{directory / MANIFEST}: {key!r} is missing or of a wrong type"))


def _is_array(file: str) -> bool:
    field, _, suffix = file.rpartition(".")
    return suffix == "npy" and (field in FIELDS or _INFO.fullmatch(field) is not None)
