"""The arrays of a batch as .npy files: written piece by piece, and mapped where their headers say what they should."""

import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from bmrl.data.checks import Array, blocks, dtype_of
from bmrl.errors import BmrlError, CorruptError
from bmrl.runs.storage import open_regular

SMALL = 16_384  # bytes: what is no larger is read, for a mapping holds a file open, and a process may hold few thousand


def write_npy(file: BinaryIO, array: Array, dtype: np.dtype[Any]) -> None:
    """Writes an array as another dtype."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": array.shape}
    np.lib.format.write_array_header_1_0(file, header)
    for _, block in blocks(array):
        file.write(block.astype(dtype).tobytes())


def open_npy(path: Path, entry: dict[str, Any]) -> Array:
    """Maps an array, or reads a small one; it is read-only.

    Raises ``BmrlError`` unless its header agrees with its field, with the manifest and with its size, and where the
    process may hold no more files open.
    """
    dtype = dtype_of(path.name.removesuffix(".npy"))
    with open_regular(path) as file:
        try:
            if np.lib.format.read_magic(file) != (1, 0):
                raise ValueError("not version 1.0")
            shape, fortran_order, found = np.lib.format.read_array_header_1_0(file)
        except Exception as error:  # the parser lets through whatever a hostile header makes Python raise
            raise CorruptError(f"{path} has no valid .npy header ({error})") from error
        if found != dtype or fortran_order:
            order = " in Fortran order" if fortran_order else ""
            raise BmrlError(f"{path} has dtype {found}{order}, {dtype} is needed")
        if entry.get("dtype") != dtype.name or entry.get("shape") != list(shape):
            raise CorruptError(f"{path} has shape {list(shape)}, the manifest says {entry}")
        offset, size = file.tell(), os.fstat(file.fileno()).st_size
        declared = dtype.itemsize
        for length in shape:
            declared *= length
        if min(shape, default=0) < 0 or declared != size - offset:
            raise CorruptError(f"{path} declares {declared} bytes of data but has {size - offset}")
        if declared <= SMALL:
            return np.frombuffer(file.read(declared), dtype).reshape(shape)
        try:
            return np.asarray(np.memmap(file, dtype, mode="r", offset=offset, shape=shape))
        except OSError as error:
            raise BmrlError(f"{path} cannot be mapped ({error.strerror}): allow more open files (ulimit -n)") from error
