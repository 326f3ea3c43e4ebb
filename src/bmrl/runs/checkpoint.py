"""Pytrees of arrays on the disk: safetensors keyed by pytree path, and numbered checkpoints."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from bmrl.errors import BmrlError, CorruptError
from bmrl.runs.machine import arithmetic
from bmrl.runs.storage import (
    clean_leftovers,
    commit_directory,
    committed_names,
    is_committed,
    locate,
    remove_directory,
    require_format,
    verify_directory,
)

ARRAYS = "arrays.safetensors"
FORMAT, VERSION = "bmrl-checkpoint", 2

_STEP = re.compile(r"step-(\d{9,18})")
_DTYPES = ("bool", "int8", "int32", "int64", "uint8", "uint32", "uint64", "float32", "float64")

_log = logging.getLogger(__name__)


def save_tree(directory: Path, tree: Any) -> None:
    """Writes a pytree's arrays to arrays.safetensors in ``directory``, keyed by ``jax.tree_util.keystr``.

    Functions among the leaves (a module's activation) are no data and are left out. This is for the ``write``
    of ``commit_directory``.

    Raises ``TypeError``, naming the leaf, for any other leaf that is no array of bools, integers, float32 or
    float64 (typed PRNG keys: save ``jax.random.key_data``), and ``OSError`` where the disk is full.
    """
    save_arrays(directory, _arrays(tree))


def save_arrays(directory: Path, arrays: Mapping[str, Any]) -> None:
    """Writes arrays to arrays.safetensors in ``directory`` under their names; for ``commit_directory``, as `save_tree`.

    Raises ``OSError`` where the disk is full.
    """
    path = directory / ARRAYS
    path.touch()
    mode = path.stat().st_mode  # as the user's umask has it; the library lets nobody else read
    try:
        save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, path)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    path.chmod(mode)


def load_tree(directory: Path, like: Any) -> Any:
    """The pytree saved in ``directory``, as writable numpy arrays in the structure of ``like``.

    The leaves of ``like`` need ``shape`` and ``dtype`` only (arrays or ``jax.ShapeDtypeStruct``); functions
    among them are taken over. Call ``verify_directory`` before: hashes are not checked here.

    Raises ``CorruptError`` where the file is unreadable, and ``BmrlError``, naming the leaf, where a leaf of
    ``like`` is missing, has another shape or dtype, or where there is one more.
    """
    import jax

    path = locate(directory) / ARRAYS
    try:
        arrays = load_file(path)
    except (SafetensorError, OSError, KeyError) as error:
        raise CorruptError(f"{path} cannot be read as safetensors ({error}); restore it from a copy") from error
    expected = {name: _describe(leaf) for name, leaf in _arrays(like).items()}
    found = {name: _describe(array) for name, array in arrays.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise BmrlError(
                f"{path} was saved with another configuration: array {name!r} is "
                f"{found.get(name, 'missing')}, {expected.get(name, 'no such array')} is needed"
            )

    def restore(key: Any, leaf: Any) -> Any:
        return leaf if callable(leaf) else np.require(arrays[jax.tree_util.keystr(key)], requirements="W")

    return jax.tree_util.tree_map_with_path(restore, like)


def save_checkpoint(root: Path, step: int, tree: Any, keep: int = 2) -> None:
    """Saves ``tree`` as ``root``/step-XXXXXXXXX, then removes all but the newest.

    The newest ``keep`` stay. Checkpoints of later steps are removed too: the newest good one was resumed
    from, so they are damaged. For the only writer of ``root``.

    Raises ``BmrlError`` where the disk is full; the earlier checkpoints then stay.
    """
    manifest = {"format": FORMAT, "version": VERSION, "step": step, "machine": arithmetic()}
    path = root / _name(step)
    clean_leftovers(root)
    if path.is_dir() and not is_committed(path):
        remove_directory(path)  # damaged beyond recognition, and so not replaced
    commit_directory(path, lambda directory: save_tree(directory, tree), manifest)
    steps = _steps(root)
    kept = [other for other in steps if other <= step][-keep:]
    for other in steps:
        if other not in kept:
            remove_directory(root / _name(other))


def latest_checkpoint(root: Path, like: Any) -> tuple[int, Any] | None:
    """(step, tree) of the newest checkpoint in ``root`` that verifies, or None.

    ``tree`` comes from ``load_tree``. A damaged checkpoint is passed over with a warning.

    Raises ``BmrlError`` where the checkpoint is sound but does not fit ``like``.
    """
    for step in reversed(_steps(root)):
        directory = root / _name(step)
        try:
            manifest = verify_directory(directory)
            require_format(directory, manifest, FORMAT, VERSION)
            if manifest.get("step") != step or not isinstance(manifest.get("machine"), str):
                raise CorruptError(f"{directory} is not the checkpoint of step {step}")
        except BmrlError as error:
            _log.warning("passing over a damaged checkpoint: %s", error)
        else:
            _log.info("going on from %s", directory)
            if manifest["machine"] != arithmetic():
                _log.warning(
                    "%s was saved on another machine (%s) than this (%s): the results will differ from those of an "
                    "undisturbed run as much as another seed's would",
                    directory,
                    manifest["machine"],
                    arithmetic(),
                )
            return step, load_tree(directory, like)
    return None


def _name(step: int) -> str:
    return f"step-{step:09d}"


def _steps(root: Path) -> list[int]:
    return sorted(int(match[1]) for match in map(_STEP.fullmatch, committed_names(root)) if match)


def _arrays(tree: Any) -> dict[str, Any]:
    """{path: leaf} of all leaves but functions."""
    import jax

    arrays = {}
    for key, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(key)
        dtype = getattr(leaf, "dtype", type(leaf).__name__)
        if not callable(leaf):
            if str(dtype) not in _DTYPES:
                raise TypeError(f"leaf {name!r} is {dtype}: not an array that can be saved")
            arrays[name] = leaf
    return arrays


def _describe(array: Any) -> str:
    return f"{array.dtype}{list(array.shape)}"
