"""Files of the safetensors format with float32 arrays, read by NumPy alone.

The format: the header's length (8 bytes, little-endian), the header, which is JSON, {name: {"dtype", "shape",
"data_offsets"}}, then the arrays' bytes, one after the other.
"""

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bmrl.errors import CorruptError
from bmrl.runs.storage import open_regular

MAX_HEADER_BYTES = 1 << 20
MAX_BYTES = 1 << 30  # of a file: networks of ours have some megabytes


def read_tensors(path: Path) -> dict[str, NDArray[np.float32]]:
    """The arrays of a safetensors file by name, read-only.

    Raises ``CorruptError``, naming the file, where it is a link, is too large, its header is not of the format, an
    array is not float32, holds NaN or an infinity, or does not lie exactly where its predecessor ends.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size > MAX_BYTES or length > min(MAX_HEADER_BYTES, size - 8):
            raise CorruptError(f"{path} has {size} bytes and a header of {length}: no policy's; export it again")
        try:
            header = json.loads(file.read(length).decode())
        except (ValueError, RecursionError) as error:
            raise CorruptError(f"{path} has no valid header ({error}); export the policy again") from error
        data = file.read()
    if not isinstance(header, dict):
        raise CorruptError(f"{path} has no valid header (no object); export the policy again")
    arrays, end = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: _start(item[1])):
        shape = _shape(entry, end)
        if shape is None or end + 4 * math.prod(shape) > len(data):
            said = f"array {name!r:.80} is {str(entry)[:80]}"
            raise CorruptError(f"{path}: {said}, which does not fit; export the policy again")
        arrays[name] = np.frombuffer(data, "<f4", math.prod(shape), end).reshape(shape)
        if not np.isfinite(arrays[name]).all():
            raise CorruptError(f"{path}: array {name!r} is not finite; export the policy again")
        end += 4 * math.prod(shape)
    if end != len(data):
        raise CorruptError(f"{path} has {len(data)} bytes of data, its header describes {end}; export the policy again")
    return arrays


def _start(entry: Any) -> int:
    """Where an array begins; 0 for an entry that says nothing of the kind, which `_shape` refuses."""
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    return offsets[0] if isinstance(offsets, list) and offsets and type(offsets[0]) is int else 0


def _shape(entry: Any, start: int) -> tuple[int, ...] | None:
    """The shape of an array whose bytes begin at ``start``; None for an entry that says anything else."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"} or entry["dtype"] != "F32":
        return None
    shape = entry["shape"]
    if not isinstance(shape, list) or not all(type(n) is int and 1 <= n <= MAX_BYTES for n in shape) or len(shape) > 3:
        return None
    return tuple(shape) if entry["data_offsets"] == [start, start + 4 * math.prod(shape)] else None
