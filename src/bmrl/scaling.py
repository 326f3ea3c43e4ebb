"""What the actions of batches, -1 to 1, stand for in the user's own unit, and whether a family's environments agree."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bmrl.data import Batch
from bmrl.data.batch import columns, differences
from bmrl.errors import BmrlError
from bmrl.families import Family, Parameters


def action_bounds(batches: Sequence[Batch]) -> tuple[np.ndarray, np.ndarray]:
    """The user's actions that -1 and 1 stand for, [d_a] float32 each: what import or collection noted, else -1 and 1.

    Raises BmrlError where the batches differ.
    """
    found = [_bounds(batch) for batch in batches]
    for batch, bounds in zip(batches, found, strict=True):
        if bounds != found[0]:
            raise BmrlError(
                f"{batches[0].name} and {batch.name} scale actions differently ({found[0]} and {bounds}): import both "
                "with the same low and high"
            )
    low, high = (np.array(bound, np.float32) for bound in found[0])
    return low, high


def _bounds(batch: Batch) -> tuple[list[float], list[float]]:
    """What import was told; what collection noted of the environment's actions; else -1 and 1."""
    noted = batch.manifest["provenance"].get("action_bounds")
    if not (isinstance(noted, list) and len(noted) == 2):
        noted = [-1.0] * batch.action_dim, [1.0] * batch.action_dim
    return batch.bounds or (noted[0], noted[1])


def check_logs(batches: Sequence[Batch], place: Path, logs: Sequence[Batch], there: Path) -> None:
    """Raises BmrlError where logs say that they were imported otherwise than the batches that a policy learned from.

    That is: with other bounds of the actions, or with the same columns in another order.
    """
    own, other = ([bound.tolist() for bound in action_bounds(found)] for found in (batches, logs))
    if own != other:
        raise BmrlError(
            f"{place} and {there} scale actions differently ({own}, {other}): import both with the same low and high"
        )
    if found := differences(there, {str(place): columns(batches[0]), str(there): columns(logs[0])}):
        raise BmrlError(f"{found[0]}: import both with the columns in the same order")


def check_action_bounds(family: Family, mdps: Sequence[Parameters], batches: Sequence[Batch], where: Path) -> None:
    """Raises BmrlError where a batch in ``where`` was imported with other bounds than the MDPs' environments take.

    Batches that say nothing are of the family's own environments; so are those that bmrl had exported before.
    """
    imported = [
        (batch, bounds)
        for batch in batches
        if (bounds := batch.bounds) and not batch.manifest["provenance"].get("exported")
    ]
    if not imported:  # no environment is made in vain
        return
    for mdp in mdps:
        own = family.action_bounds(mdp)
        for batch, bounds in imported:
            # As float32, which most Boxes are: a mapping's 0.1 is no float32.
            if own is not None and not np.array_equal(np.array(own, np.float32), np.array(bounds, np.float32)):
                low, high = (bound.tolist() for bound in own)
                raise BmrlError(
                    f"{where}: {batch.name} was imported with low = {bounds[0]} and high = {bounds[1]}, but the "
                    f"environment of {family.name} takes actions from {low} to {high} in the MDP {mdp}: write "
                    f"low = {low} and high = {high} in the mapping and import the logs anew, or mend the family's "
                    "action_space"
                )
