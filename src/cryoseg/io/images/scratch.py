"""Memory or temporary files for volumes that are decompressed by blocks."""

from __future__ import annotations

import contextlib
import errno
import math
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from cryoseg.errors import InputError
from cryoseg.io.images import memory

# Smaller volumes are kept in memory; larger ones are memory-mapped from a temporary file, as MRC files are.
IN_MEMORY_BYTES = 64 * 2**20
BLOCK_BYTES = 32 * 2**20


def held_bytes(volume: int, chunk: int) -> int:
    """Return the bytes of memory that reading a volume takes, from its size and that of a chunk."""
    return max(chunk, volume if volume <= IN_MEMORY_BYTES else BLOCK_BYTES)


def make_room(shape: Sequence[int], dtype: np.dtype[Any], path: Path) -> NDArray[Any]:
    """Return an array to read a volume into.

    Parameters
    ----------
    shape, dtype
        Shape and type of the array.
    path
        File of the volume, for messages.

    Returns
    -------
    ndarray
        (..., z, y, x) array of this shape; in memory, or for a large volume mapped from a temporary file
        without a name, which is removed with the array.

    Raises
    ------
    InputError
        If the disk has too little room.
    """
    size = math.prod(shape) * dtype.itemsize
    if size <= IN_MEMORY_BYTES:
        return np.empty(tuple(shape), dtype)
    folder = Path(tempfile.gettempdir())
    free = shutil.disk_usage(folder).free
    if size > free:
        raise _too_large(path, size, free)
    with tempfile.TemporaryFile(prefix="cryoseg-", dir=folder) as file:
        file.truncate(size)
        return np.asarray(np.memmap(file, dtype, mode="r+", shape=tuple(shape)))


def hold_bytes(chunks: Iterable[bytes], path: Path) -> NDArray[np.uint8]:
    """Return the bytes of a stream of unknown length, (n,) uint8.

    They are in memory, or for a large stream mapped from a temporary file without a name.

    Parameters
    ----------
    chunks
        Pieces of the stream.
    path
        File of the volume, for messages.

    Raises
    ------
    InputError
        If the disk has too little room.
    """
    held, size = bytearray(), 0
    with contextlib.ExitStack() as stack:
        file: IO[bytes] | None = None
        for chunk in chunks:
            size += len(chunk)
            if size <= IN_MEMORY_BYTES:
                held += chunk
                continue
            try:
                if file is None:
                    file = stack.enter_context(tempfile.TemporaryFile(prefix="cryoseg-"))
                    file.write(held)
                file.write(chunk)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                folder = tempfile.gettempdir()
                raise _too_large(path, size, shutil.disk_usage(folder).free) from error
        if file is None:
            return np.frombuffer(held, np.uint8)
        file.flush()
        return np.asarray(np.memmap(file, np.uint8, mode="r+"))


def _too_large(path: Path, size: int, free: int) -> InputError:
    return InputError(
        f"{path}: is decompressed into a temporary file of {size / memory.GIB:.1f} GiB, and "
        f"{tempfile.gettempdir()} has {free / memory.GIB:.1f} GiB. Set TMPDIR to a folder with more, or "
        "convert the volume to MRC."
    )


def read_blocks(source: Any, path: Path, *, stored: int) -> NDArray[Any]:
    """Read a chunked array of h5py or zarr block by block, in the byte order of this machine.

    Parameters
    ----------
    source
        (..., z, y, x) array with `shape`, `dtype` and `chunks`, which are None if it is stored in one piece.
    path
        File of the array, for messages.
    stored
        Size of the file or folder in bytes.

    Raises
    ------
    InputError
        If the file, the memory or the disk is too small for the array.
    """
    chunks, itemsize = source.chunks or (1,) * source.ndim, source.dtype.itemsize
    volume, chunk = (math.prod(shape) * itemsize for shape in (source.shape, chunks))
    memory.refuse_impossible_size(
        path,
        claimed=max(volume, chunk),
        stored=stored,
        background=memory.BACKGROUND_BYTES if source.chunks else 0,
        held=held_bytes(volume, chunk),
    )
    data = make_room(source.shape, source.dtype.newbyteorder("="), path)
    for block in blocks(source.shape, chunks, itemsize):
        data[block] = source[block]
    return data


def blocks(shape: Sequence[int], chunks: Sequence[int], itemsize: int) -> Iterator[tuple[slice, ...]]:
    """Yield blocks that cover an array, each of whole chunks and about `BLOCK_BYTES` in size.

    Parameters
    ----------
    shape, chunks
        Sizes of the array and of its chunks.
    itemsize
        Bytes of a value.
    """
    steps = list(chunks)
    for axis in reversed(range(len(shape))):
        fitting = BLOCK_BYTES // (math.prod(steps) * itemsize)
        steps[axis] = min(shape[axis], steps[axis] * max(1, fitting))
    starts = (range(0, length, step) for length, step in zip(shape, steps, strict=True))
    for corner in product(*starts):
        yield tuple(slice(first, first + step) for first, step in zip(corner, steps, strict=True))
