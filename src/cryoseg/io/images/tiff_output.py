"""Write volumes as OME-TIFF, slice by slice."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from cryoseg.io.images.mrc import SliceSource, iterate_slices, volume_shape
from cryoseg.io.outputs import atomic_output
from cryoseg.types import Geometry

_LARGEST_CLASSIC = 2**32 - 2**25  # Bytes; the offsets of larger files need BigTIFF.
_ANGSTROM_PER_CENTIMETER = 1e8


def write_tiff(path: Path, data: SliceSource, geometry: Geometry, *, dtype: str, label: str) -> None:
    """Write an uncompressed OME-TIFF whose pages are slices, as `cryoseg.io.images.volumes.Writer` describes.

    The voxel size becomes the physical size, and the origin the position of the planes. Programs that do not
    read the metadata of OME find the pixel size in the resolution per centimeter.
    """
    shape = volume_shape(data, path)
    voxel = np.dtype(dtype)
    metadata: dict[str, Any] = {"axes": "ZYX", "Name": path.name}
    more: dict[str, Any] = {}
    if all(size > 0 for size in geometry.voxel_size):
        plane: dict[str, Any] = {}
        for axis, size, offset in zip("ZYX", geometry.voxel_size, geometry.origin, strict=True):
            metadata |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": "Å"}
            plane |= {f"Position{axis}": [offset] * shape[0], f"Position{axis}Unit": ["Å"] * shape[0]}
        plane["PositionZ"] = [geometry.origin[0] + z * geometry.voxel_size[0] for z in range(shape[0])]
        metadata["Plane"] = plane
        y, x = (_ANGSTROM_PER_CENTIMETER / size for size in geometry.voxel_size[1:])
        more = {"resolution": (x, y), "resolutionunit": "CENTIMETER"}
    is_big = math.prod(shape) * voxel.itemsize > _LARGEST_CLASSIC
    with (
        atomic_output(path, overwrite=True) as temporary,
        tifffile.TiffWriter(temporary, bigtiff=is_big, ome=True, byteorder="<") as file,
    ):
        file.write(
            iterate_slices(data, voxel, path),
            shape=shape,
            dtype=voxel,
            photometric="minisblack",
            software=label,
            metadata=metadata,
            **more,
        )
