"""Read OME-Zarr volumes (folders that end in .zarr), as the CryoET Data Portal offers them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from cryoseg.errors import InputError
from cryoseg.io.images.scratch import read_blocks
from cryoseg.io.images.stored import StoredFormat, StoredVolume, refuse_other_types
from cryoseg.io.images.tiff import angstrom_per
from cryoseg.types import Geometry

if TYPE_CHECKING:
    import zarr

MOST_CHUNKS = 1_000_000
_AXES = ("z", "y", "x")


@contextmanager
def _open(path: Path) -> Iterator[StoredVolume]:
    """Open the finest resolution of a volume in Zarr format 2 or 3.

    The voxel size is 0 if the file gives no unit. The translation becomes the origin.
    """
    array, axes, transforms = _finest(path)
    count = len(axes)
    shape = _volume_shape(array, [str(axis.get("name")) for axis in axes], path)
    scale = [math.prod(step) for step in zip(*_scales(transforms, count), strict=True)]
    place = _translation(transforms, count)
    factors = [angstrom_per(str(axis.get("unit", ""))) for axis in axes[-3:]]
    z, y, x = (size * factor for size, factor in zip(scale[-3:], factors, strict=True))
    oz, oy, ox = (offset * factor for offset, factor in zip(place[-3:], factors, strict=True))
    warnings = []
    if any(offset and not factor for offset, factor in zip(place[-3:], factors, strict=True)):
        warnings.append("The axes have no unit, so that the translation is lost; outputs have the origin 0.")
    kinds = {str(one.get("type")) for one in transforms}
    if unknown := kinds - {"identity", "scale", "translation"}:
        warnings.append(f"Transformations of kind {', '.join(sorted(unknown))} are ignored.")
    yield StoredVolume(
        shape=shape,
        geometry=Geometry(voxel_size=(z, y, x), origin=(oz, oy, ox)),
        read=lambda: _voxels(array, path),
        warnings=tuple(warnings),
    )


OME_ZARR = StoredFormat("OME-Zarr", _open)


def _finest(path: Path) -> tuple[zarr.Array[Any], list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the finest resolution, its axes, and its transformations in the order of application."""
    import zarr

    node = zarr.open(str(path), mode="r")
    if isinstance(node, zarr.Array):
        raise InputError(
            f"{path}: is a plain Zarr array without axes and voxel size. Write it as OME-Zarr, with "
            "multiscales, or as MRC."
        )
    group = node
    attributes: dict[str, Any] = dict(group.attrs)
    if "multiscales" not in (attributes.get("ome") or attributes):
        inside = ", ".join(sorted(map(str, group.keys()))[:8]) or "nothing"
        raise InputError(
            f"{path}: is a Zarr group without the multiscales of OME-Zarr (it holds {inside}). Give an "
            "OME-Zarr volume, or write the array as one or as MRC."
        )
    multiscale: Any = (attributes.get("ome") or attributes)["multiscales"][0]
    dataset = multiscale["datasets"][0]
    array = group[dataset["path"]]
    if not isinstance(array, zarr.Array):
        raise TypeError(f"{dataset['path']} is no array")
    # OME-Zarr 0.1 and 0.2 list no axes; their arrays have t, c, z, y and x.
    listed = multiscale.get("axes", ("t", "c", *_AXES)[-array.ndim :])
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in listed]
    transforms = [*dataset.get("coordinateTransformations", ())]
    transforms += multiscale.get("coordinateTransformations", ())
    return array, axes, transforms


def _volume_shape(array: zarr.Array[Any], names: list[str], path: Path) -> tuple[int, int, int]:
    shape = tuple(int(n) for n in array.shape)
    refuse_other_types(array.dtype, path)
    extra = len(shape) - 3
    if extra < 0 or names[-3:] != [*_AXES] or len(names) != len(shape) or any(n != 1 for n in shape[:extra]):
        raise InputError(
            f"{path}: holds an array of axes {', '.join(names)} and shape {shape}; "
            "one volume of axes z, y, x is needed."
        )
    return shape[extra], shape[extra + 1], shape[extra + 2]


def _voxels(array: zarr.Array[Any], path: Path) -> NDArray[Any]:
    if array.nchunks > MOST_CHUNKS:
        raise InputError(
            f"{path}: is cut into {array.nchunks} chunks, which takes hours to read. Write it again with "
            "larger ones."
        )
    stored = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return read_blocks(array, path, stored=stored)


def _scales(transforms: list[dict[str, Any]], axes: int) -> list[list[float]]:
    found = [list(map(float, one["scale"])) for one in transforms if one.get("type") == "scale"]
    if any(len(one) != axes or not all(0 < size < math.inf for size in one) for one in found):
        raise ValueError(f"the scale is {found}")
    return found or [[0.0] * axes]


def _translation(transforms: list[dict[str, Any]], axes: int) -> list[float]:
    """Return the position of the first voxel in the units of the axes, after all transformations."""
    place = [0.0] * axes
    for one in transforms:
        if one.get("type") == "scale":
            place = [offset * float(size) for offset, size in zip(place, one["scale"], strict=True)]
        elif one.get("type") == "translation":
            place = [offset + float(step) for offset, step in zip(place, one["translation"], strict=True)]
    if not all(map(math.isfinite, place)):
        raise ValueError(f"the translation is {place}")
    return place
