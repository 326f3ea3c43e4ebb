"""What a result was made from: it notes its seed and the hashes of batches or learners, and is not mixed with others.

The hash of a directory's manifest identifies its whole content (`bmrl.runs.storage`), so that none is read again.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bmrl.config import from_json
from bmrl.data.batch import batch_names
from bmrl.errors import BmrlError
from bmrl.runs.storage import locate, verify_directory


def batch_sources(run: Path, mdps: slice = slice(None)) -> dict[str, str]:
    """What learners are made from: {"batches/mdp-000": its hash, ...} of the run in this directory, or of some MDPs."""
    return _hashes(run, [f"batches/{name}" for name in batch_names(locate(run / "batches"))[mdps]])


def learner_sources(run: Path, name: str) -> dict[str, str]:
    """What a student is made from: the learners of a variant, which are tied to their batches themselves."""
    return _hashes(run, [f"teachers/{name}"])


def check_sources(path: Path, manifest: Mapping[str, Any], sources: Mapping[str, str], seed: int) -> None:
    """Raises BmrlError if the manifest of ``path`` notes other ``sources``, or another ``seed``.

    What notes none is taken as it is: an earlier version left it, or it was made outside of a run.
    """
    check_seed(path, manifest, seed)
    if manifest.get("sources") in (None, {}):
        return
    found = from_json(manifest["sources"], dict[str, str], f"{path}: sources")
    changed = [name for name in sorted(found.keys() | sources.keys()) if found.get(name) != sources.get(name)]
    if changed:
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        raise BmrlError(
            f"{path} was not made from the {changed[0]} that is there now{more}: put back what it was made from, or "
            f"remove {path} and what was made from it, or begin another run"
        )


def check_seed(path: Path, manifest: Mapping[str, Any], seed: int) -> None:
    """Raises BmrlError if the manifest of ``path`` notes another seed than the run has."""
    noted = manifest.get("seed", seed)
    if noted != seed:
        raise BmrlError(
            f"{path} was made with another seed: {noted} -> {seed}; put the seed back into config.json, or begin "
            "another run"
        )


def _hashes(run: Path, names: Sequence[str]) -> dict[str, str]:
    return {name: verify_directory(run / name, hashes=False)["manifest_sha256"] for name in names}
