"""NPZ files that nobody vouches for: their arrays are read as they are unpacked, and nothing is unpickled."""

import math
import zipfile
import zlib

import numpy as np

from bmrl.data.readers import Array

MAX_WHOLE_BYTES = 1 << 26  # of an array that can only be read whole
MAX_RATIO = 1100  # of unpacked to packed bytes: deflate does not reach it

# What a damaged archive makes Python raise.
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, RuntimeError, OverflowError)


class Npy:
    """One array of an NPZ file, read from its beginning to its end, once."""

    def __init__(self, archive: zipfile.ZipFile, name: str):
        """Raises ``ValueError`` where it is no plain array, or its size is not what it declares."""
        info = archive.getinfo(f"{name}.npy")
        if info.file_size > MAX_RATIO * info.compress_size + MAX_RATIO:
            raise ValueError(f"it unpacks {info.compress_size} bytes to {info.file_size}")
        self._file = archive.open(info)
        if np.lib.format.read_magic(self._file) != (1, 0):
            raise ValueError("not version 1.0")
        self.shape, self._fortran, self.dtype = np.lib.format.read_array_header_1_0(self._file)
        if self.dtype.kind not in "biufSUM" or self.dtype.itemsize == 0:
            raise ValueError(f"dtype {self.dtype}: numbers or texts are needed; nothing that is pickled is opened")
        size = math.prod(self.shape) * self.dtype.itemsize
        if not self.shape or min(self.shape) < 0 or size != info.file_size - self._file.tell():
            raise ValueError(f"it declares shape {list(self.shape)} of {self.dtype}, and holds another size")
        if self._fortran and len(self.shape) > 1:
            if size > MAX_WHOLE_BYTES:
                raise ValueError("it lies in Fortran order; save it by np.ascontiguousarray")
            self._whole = np.frombuffer(self._file.read(size), self.dtype).reshape(self.shape, order="F")

    def read(self, prefix: tuple[int, ...], start: int, stop: int) -> Array:
        """The items ``[*prefix, start:stop]``, which are the next ones."""
        if self._fortran and len(self.shape) > 1:
            return self._whole[prefix][start:stop]
        shape = (stop - start, *self.shape[len(prefix) + 1 :])
        size = math.prod(shape) * self.dtype.itemsize
        content = self._file.read(size)
        if len(content) != size:
            raise EOFError("it ends early")
        return np.frombuffer(content, self.dtype).reshape(shape)
