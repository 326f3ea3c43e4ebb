"""Batches as Minari datasets, one an MDP, for whoever works with Minari and has no bmrl.

    NAMESPACE/FAMILY                         the namespace, whose metadata describe the family
      train/mdp-000-v0, train/mdp-001-v0     datasets

Each dataset's environment is exactly its MDP: the MDP's parameters are keyword arguments in the specification that
Minari's ``recover_environment`` makes it from.
"""

import copy
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from bmrl.data import Batch, read_batches
from bmrl.data.batch import batches_of
from bmrl.data.sources import needing_extra
from bmrl.errors import BmrlError
from bmrl.families import FAMILIES, Family
from bmrl.families.own import load_family
from bmrl.runs.storage import read_json, refuse_links, write_json
from bmrl.scaling import check_action_bounds

if TYPE_CHECKING:
    from minari.data_collector import EpisodeBuffer

SPLITS = ("train", "test")
NAMESPACE_METADATA = "namespace_metadata.json"  # Minari's name for it

_NAME = re.compile(
    r"[A-Za-z0-9_][A-Za-z0-9_-]*[A-Za-z0-9_](/[A-Za-z0-9_][A-Za-z0-9_-]*[A-Za-z0-9_])+"
)  # Minari's, no dots


def export_minari(directory: Path, name: str, split: str = "train", family: str | None = None) -> list[str]:
    """Writes the batches of a directory, or of the run directory that holds them in batches/, as Minari datasets.

    They go where Minari looks for datasets (the environment variable MINARI_DATASETS_PATH, or ~/.minari/datasets).
    Numbers keep their bits. Where the family is known, its environment can be recovered; the family's manifest
    (parameters, their bounds, reference returns, hashes of the batches) is the metadata of the namespace. Environments
    of a user's own family can be recovered where `bmrl.families.own.load_family` has loaded its file.

    Args:
        directory: of batches.
        name: "NAMESPACE/FAMILY".
        split: "train" or "test", what the MDPs are for.
        family: PATH.py:NAME, the user's own family of which the batches are.

    Returns the datasets' ids. Raises ``BmrlError`` where batches are damaged, of another family or imported with other
    bounds of the actions than its environments take, the name is none, datasets of that name are there, or Minari is
    not installed.
    """
    with needing_extra():
        from minari.storage.datasets_root_dir import get_dataset_path
    if _NAME.fullmatch(name) is None:
        raise BmrlError(f"--minari {name!r}: NAMESPACE/FAMILY is needed, two or more letters, digits, '_', '-' each")
    if split not in SPLITS:
        raise BmrlError(f"--split {split!r}: {' or '.join(SPLITS)} is needed")
    refuse_links(directory)
    batches = read_batches(batches_of(directory))
    root = get_dataset_path(name)
    place, temporary = root / split, root / f".{split}.tmp"
    if place.exists():
        raise BmrlError(f"{place} is already there: remove it, or export under another name")
    known = _family(batches[0].manifest["family"], family, directory)
    for batch in batches:
        if known is not None and batch.manifest["mdp"] is not None:  # its environment goes into the dataset
            check_action_bounds(known, [batch.manifest["mdp"]], [batch], directory)
    entries = []
    try:
        shutil.rmtree(temporary, ignore_errors=True)  # a kill may have left it
        temporary.mkdir(parents=True)
        for batch in batches:
            entries.append({"id": f"{name}/{split}/{batch.name}-v0", "mdp": batch.manifest["mdp"]})
            entries[-1] |= {"sha256": batch.manifest["manifest_sha256"], "transitions": batch.size}
            _write_dataset(temporary / f"{batch.name}-v0", entries[-1]["id"], batch, known, split)
        write_json(temporary / NAMESPACE_METADATA, {"description": f"the {split} MDPs of {name}"})
        os.rename(temporary, place)
        _describe(root, batches[0].manifest["family"], known, split, entries)
    except OSError as error:
        raise BmrlError(f"{place} could not be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return [entry["id"] for entry in entries]


def _family(name: str | None, word: str | None, directory: Path) -> Family | None:
    """The family of the batches, by their manifests or by the user's word for one of their own."""
    if word is None:
        return None if name is None else FAMILIES.get(name)
    family = load_family(word).family
    if name is None:
        raise BmrlError(
            f"--family {word}: the batches in {directory} are of no family; import them once more, by a mapping with "
            f'the line family = "{family.name}"'
        )
    if family.name != name:
        raise BmrlError(f"--family {word}: it is the family {family.name!r}, the batches are of {name!r}")
    return family


def _write_dataset(path: Path, name: str, batch: Batch, family: Family | None, split: str) -> None:
    import minari
    from minari.dataset.minari_storage import MinariStorage

    path.mkdir()
    Box = gymnasium.spaces.Box
    storage = MinariStorage.new(
        path / "data",
        observation_space=Box(-np.inf, np.inf, (batch.observation_dim,), np.float32),
        action_space=Box(-1.0, 1.0, (batch.action_dim,), np.float32),
        env_spec=_environment(batch, family),
        data_format="hdf5",  # its Arrow format cuts long episodes off
    )
    storage.update_metadata(
        {
            "dataset_id": name,
            "minari_version": minari.__version__,
            "family": batch.manifest["family"],
            "mdp_id": batch.name,
            "mdp_params": batch.manifest["mdp"],
            "split": split,
            "provenance": batch.manifest["provenance"],
        }
    )
    storage.update_episodes(_episodes(batch))


def _episodes(batch: Batch) -> "Iterator[EpisodeBuffer]":
    from minari.data_collector import EpisodeBuffer

    bounds = zip(batch.episode_starts.tolist(), batch.episode_ends.tolist(), strict=True)
    for number, (start, stop) in enumerate(bounds):
        part = slice(start, stop)
        yield EpisodeBuffer(
            id=number,
            observations=np.asarray(batch.observations[start + number : stop + number + 1]),
            actions=np.asarray(batch.actions[part]),
            rewards=np.asarray(batch.rewards[part]),
            terminations=np.asarray(batch.terminations[part]),
            truncations=np.asarray(batch.truncations[part]),
            infos={info: np.asarray(values[part]) for info, values in batch.infos.items()},
        )


def _environment(batch: Batch, family: Family | None) -> Any:
    """The specification of the batch's MDP; None where the family or the parameters are unknown."""
    if family is None or batch.manifest["mdp"] is None:
        return None
    spec = copy.deepcopy(gymnasium.spec(family.env_id))
    spec.kwargs = {**spec.kwargs, **family.validate(batch.manifest["mdp"])}
    return spec


def _describe(root: Path, name: str | None, family: Family | None, split: str, entries: list[dict[str, Any]]) -> None:
    """The family's manifest, in the namespace's metadata; what is there of the other split stays."""
    path = root / NAMESPACE_METADATA
    known = read_json(path) if path.exists() else {}
    if not isinstance(known, dict):
        raise BmrlError(f"{path} is no metadata of a namespace; move it away")
    described: dict[str, Any] = {"description": f"MDPs of the family {name}", "family": name}
    if family is not None:
        for entry in entries:
            if entry["mdp"] is not None:
                entry["reference_returns"] = family.reference_returns(entry["mdp"])
        bounds = {parameter: list(interval) for parameter, interval in family.bounds.items()}
        described |= {"parameters": bounds, "env_id": family.env_id, "horizon": family.horizon}
    write_json(path, {**known, **described, split: entries})
    for parent in root.parents[: len(root.parts)]:
        if parent == _datasets_root():
            break
        if not (parent / NAMESPACE_METADATA).exists():
            write_json(parent / NAMESPACE_METADATA, {})


def _datasets_root() -> Path:
    from minari.storage.datasets_root_dir import get_dataset_path

    return get_dataset_path()
