"""Shapes of volumes, for the plan of the memory."""

from __future__ import annotations

from collections.abc import Callable
from mmap import mmap
from pathlib import Path

import numpy as np

from cryoseg.config import Mode0
from cryoseg.errors import CryosegError
from cryoseg.io.images.hdf5 import hdf5_shape, read_hdf5
from cryoseg.io.images.mrc import compressed_shape, read_mrc
from cryoseg.io.images.omezarr import omezarr_shape, read_omezarr
from cryoseg.io.images.tiff import read_tiff, tiff_shape
from cryoseg.io.images.volumes import READERS, Reader, known_suffix, refuse_unreadable

# Of the formats whose readers decompress the voxels.
_SHAPES: dict[Reader, Callable[[Path], tuple[int, int, int]]] = {
    read_omezarr: omezarr_shape,
    read_tiff: tiff_shape,
    read_hdf5: hdf5_shape,
}


def planned_shape(path: Path) -> tuple[int, ...] | None:
    """Return the shape (z, y, x) of a volume that is mapped or read by chunks, without reading it.

    Returns
    -------
    tuple of int or None
        None if the volume is held in memory, or if it cannot be read.
    """
    suffix = (known_suffix(path) or "").lower()
    if suffix not in READERS:
        return None
    try:
        refuse_unreadable(path)
        reader = READERS[suffix]
        if reader in _SHAPES:
            return _SHAPES[reader](path)
        if reader is read_mrc and (shape := compressed_shape(path)) is not None:
            return shape
        # A fixed mode of bytes, since detecting it would read the file.
        data = reader(path, mode0=Mode0.SIGNED).data
    except CryosegError:
        return None
    owner: object = data
    while isinstance(owner, np.ndarray) and not isinstance(owner, np.memmap):
        owner = owner.base
    return data.shape if isinstance(owner, np.memmap | mmap) else None
