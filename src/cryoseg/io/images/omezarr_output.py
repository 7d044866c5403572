"""Write OME-Zarr volumes, chunk by chunk, with a pyramid of resolutions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cryoseg.errors import OutputError
from cryoseg.io.images.mrc import SliceSource, iterate_slices, volume_shape
from cryoseg.io.outputs import atomic_output
from cryoseg.types import Geometry

if TYPE_CHECKING:
    import zarr

CHUNK = (32, 128, 128)  # 2 MiB of float32; the writer holds a row of chunks in memory
# 100 %, 50 % and 25 %, as copick and the CryoET Data Portal have them.
# Source: chanzuckerberg/cryoet-data-portal-backend, schema/README.md.
LEVELS = 3
_AXES = ("z", "y", "x")


@dataclass(frozen=True)
class _Level:
    """One resolution of the pyramid; `step` is the size of its voxels in voxels of the finest."""

    shape: tuple[int, int, int]
    step: tuple[int, int, int]

    def coarser(self) -> _Level:
        factors = tuple(1 if n == 1 else 2 for n in self.shape)
        z, y, x = (-(-n // factor) for n, factor in zip(self.shape, factors, strict=True))
        sz, sy, sx = (step * factor for step, factor in zip(self.step, factors, strict=True))
        return _Level((z, y, x), (sz, sy, sx))


@dataclass(frozen=True)
class OmeZarrWriter:
    """Writer of multiscale volumes with the axes z, y, x in angstrom.

    Attributes
    ----------
    is_05
        Whether OME-Zarr 0.5 (Zarr format 3) is written; otherwise 0.4, which copick and the CryoET Data
        Portal read.
    """

    is_05: bool = False

    def __call__(self, path: Path, data: SliceSource, geometry: Geometry, *, dtype: str, label: str) -> None:
        """Write a volume as `cryoseg.io.images.volumes.Writer` describes, with a row of chunks in memory.

        Voxel size and origin become scale and translation; an unknown voxel size gives axes without a unit.
        Integers, which are masks and labels, are downsampled by the maximum of each block of 2 x 2 x 2
        voxels, which preserves thin membranes, and real numbers by the mean.
        """
        import zarr

        is_zarr_2 = zarr.__version__.startswith("2.")
        if self.is_05 and is_zarr_2:
            raise OutputError(
                f"{path}: OME-Zarr 0.5 needs zarr 3, and this is {zarr.__version__}. Write 0.4."
            )
        voxel = np.dtype(dtype).newbyteorder("<")
        levels = [_Level(volume_shape(data, path), (1, 1, 1))]
        while len(levels) < LEVELS and max(levels[-1].shape) > 1:
            levels.append(levels[-1].coarser())
        with atomic_output(path, overwrite=True) as temporary:
            version: dict[str, Any] = {} if is_zarr_2 else {"zarr_format": 3 if self.is_05 else 2}
            group = zarr.open_group(str(temporary), mode="w", **version)
            arrays = [
                _new_array(group, str(n), level.shape, voxel, self.is_05) for n, level in enumerate(levels)
            ]
            _store(arrays[0], iterate_slices(data, voxel, path))
            for fine, array in pairwise(arrays):
                _store(array, _coarse_slices(fine))
            group.attrs.update(_metadata(levels, geometry, voxel, label, is_05=self.is_05))


def _new_array(
    group: zarr.Group, name: str, shape: tuple[int, int, int], dtype: np.dtype[Any], is_05: bool
) -> zarr.Array[Any]:
    import zarr
    from numcodecs import Blosc

    chunks = tuple(min(n, chunk) for n, chunk in zip(shape, CHUNK, strict=True))
    if is_05:
        array: zarr.Array[Any] = group.create_array(
            name, shape=shape, chunks=chunks, dtype=dtype, fill_value=0, dimension_names=_AXES
        )
        return array
    version: dict[str, Any] = {} if zarr.__version__.startswith("2.") else {"zarr_format": 2}
    return zarr.create(
        shape=shape,
        chunks=chunks,
        dtype=dtype,
        fill_value=0,
        compressor=Blosc(cname="zstd"),
        store=group.store,
        path=name,
        dimension_separator="/",
        **version,
    )


def _store(array: zarr.Array[Any], images: Iterator[NDArray[Any]]) -> None:
    """Write slices in order, one row of chunks at a time."""
    depth, height, width = array.shape
    rows = array.chunks[0]
    for first in range(0, depth, rows):
        block = np.empty((min(rows, depth - first), height, width), array.dtype)
        for z in range(len(block)):
            block[z] = next(images)
        array[first : first + len(block)] = block


def _coarse_slices(fine: zarr.Array[Any]) -> Iterator[NDArray[Any]]:
    """Yield the slices of the next resolution."""
    rows = fine.chunks[0]  # Even, or the whole depth.
    for first in range(0, fine.shape[0], rows):
        block = np.asarray(fine[first : first + rows])
        for axis, length in enumerate(fine.shape):
            if length > 1:
                block = _halved(block, axis)
        yield from block


def _halved(block: NDArray[Any], axis: int) -> NDArray[Any]:
    """Join neighbors along an axis; a last one without a partner stays as it is."""
    lengths = [(0, 0)] * block.ndim
    lengths[axis] = (0, block.shape[axis] % 2)
    block = np.pad(block, lengths, mode="edge")
    even, odd = (block.take(range(start, block.shape[axis], 2), axis) for start in (0, 1))
    joined = np.maximum(even, odd) if block.dtype.kind != "f" else (even + odd) * block.dtype.type(0.5)
    return np.asarray(joined)


def _metadata(
    levels: list[_Level], geometry: Geometry, dtype: np.dtype[Any], label: str, *, is_05: bool
) -> dict[str, Any]:
    """Return the attributes of the group.

    Sources: OME-NGFF 0.4 and 0.5, multiscales. The first voxel of a coarser level is the middle of its
    block, which the translation states.
    """
    is_known = all(size > 0 for size in geometry.voxel_size)
    size = geometry.voxel_size if is_known else (1.0, 1.0, 1.0)
    origin = geometry.origin if is_known else (0.0, 0.0, 0.0)
    axes = [{"name": name, "type": "space", **({"unit": "angstrom"} if is_known else {})} for name in _AXES]
    datasets = []
    for number, level in enumerate(levels):
        scale = [one * step for one, step in zip(size, level.step, strict=True)]
        place = [o + s * (step - 1) / 2 for o, s, step in zip(origin, size, level.step, strict=True)]
        transforms = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": place}]
        datasets.append({"path": str(number), "coordinateTransformations": transforms})
    multiscale = {
        "name": "/",
        "axes": axes,
        "datasets": datasets,
        "type": "mean" if dtype.kind == "f" else "max",
        "metadata": {"description": label},
    }
    if is_05:
        return {"ome": {"version": "0.5", "multiscales": [multiscale]}}
    return {"multiscales": [{"version": "0.4", **multiscale}]}
