"""Read OME-Zarr volumes (folders that end in .zarr), as the CryoET Data Portal offers them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cryoseg.config import Mode0
from cryoseg.errors import InputError
from cryoseg.io.images import memory
from cryoseg.io.images.scratch import blocks, held_bytes, make_room
from cryoseg.io.images.tiff import angstrom_per
from cryoseg.types import Geometry, Tomogram

if TYPE_CHECKING:
    import zarr

MOST_CHUNKS = 1_000_000
_AXES = ("z", "y", "x")


def read_omezarr(path: Path, *, mode0: Mode0 = Mode0.AUTO) -> Tomogram:
    """Read the finest resolution of an OME-Zarr volume, chunk by chunk.

    Parameters
    ----------
    path
        Folder in Zarr format 2 or 3.
    mode0
        This format has no such mode.

    Returns
    -------
    Tomogram
        (z, y, x) volume with the data type of the array. The voxel size is 0 if the file gives no unit. The
        translation becomes the origin.

    Raises
    ------
    InputError
        If the folder is not an OME-Zarr volume, its axes do not end with z, y, x, or an array is damaged.
    """
    opened = _open(path)
    array, names = opened.array, [str(axis.get("name")) for axis in opened.axes]
    shape = _volume_shape(opened, path)
    dtype = array.dtype.newbyteorder("=")
    try:
        _refuse_impossible_size(array, path)
        scale = [math.prod(step) for step in zip(*_scales(opened.transforms, len(names)), strict=True)]
        place = _translation(opened.transforms, len(names))
        data = make_room(array.shape, dtype, path)
        for block in blocks(array.shape, array.chunks, dtype.itemsize):
            data[block] = array[block]
    except (InputError, MemoryError):
        raise
    except Exception as error:  # Codecs raise errors of any type for damaged chunks.
        raise _unreadable(path, error) from error
    factors = [angstrom_per(str(axis.get("unit", ""))) for axis in opened.axes[-3:]]
    z, y, x = (size * factor for size, factor in zip(scale[-3:], factors, strict=True))
    oz, oy, ox = (offset * factor for offset, factor in zip(place[-3:], factors, strict=True))
    warnings = []
    if any(offset and not factor for offset, factor in zip(place[-3:], factors, strict=True)):
        warnings.append("The axes have no unit, so that the translation is lost; outputs have the origin 0.")
    kinds = {str(one.get("type")) for one in opened.transforms}
    if unknown := kinds - {"identity", "scale", "translation"}:
        warnings.append(f"Transformations of kind {', '.join(sorted(unknown))} are ignored.")
    return Tomogram(
        data=(data.view(np.uint8) if dtype.kind == "b" else data).reshape(shape),
        geometry=Geometry(voxel_size=(z, y, x), origin=(oz, oy, ox)),
        source=path,
        warnings=tuple(warnings),
    )


def omezarr_shape(path: Path) -> tuple[int, int, int]:
    """Return the shape (z, y, x) of the finest resolution without reading its voxels.

    Raises
    ------
    InputError
        As `read_omezarr`.
    """
    return _volume_shape(_open(path), path)


@dataclass(frozen=True)
class _Opened:
    """The finest resolution of a volume, its axes, and its transformations in the order of application."""

    array: zarr.Array[Any]
    axes: list[dict[str, Any]]
    transforms: list[dict[str, Any]]


def _open(path: Path) -> _Opened:
    import zarr

    try:
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
    except (InputError, MemoryError):
        raise
    except Exception as error:  # zarr raises errors of any type for damaged metadata.
        raise _unreadable(path, error) from error
    return _Opened(array, axes, transforms)


def _unreadable(path: Path, error: Exception) -> InputError:
    text = " ".join(str(error).split())
    return InputError(
        f"{path}: cannot be read as OME-Zarr ({type(error).__name__}: {text}). Copy or fetch it again."
    )


def _volume_shape(opened: _Opened, path: Path) -> tuple[int, int, int]:
    array, names = opened.array, tuple(str(axis.get("name")) for axis in opened.axes)
    shape = tuple(int(n) for n in array.shape)
    if array.dtype.kind not in "iufb":
        raise InputError(
            f"{path}: holds values of type {array.dtype}, not densities. Give a real-space volume."
        )
    extra = len(shape) - 3
    if extra < 0 or names[-3:] != _AXES or len(names) != len(shape) or any(n != 1 for n in shape[:extra]):
        raise InputError(
            f"{path}: holds an array of axes {', '.join(names)} and shape {shape}; "
            "one volume of axes z, y, x is needed."
        )
    return shape[extra], shape[extra + 1], shape[extra + 2]


def _refuse_impossible_size(array: zarr.Array[Any], path: Path) -> None:
    stored = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    volume, chunk = (math.prod(shape) * array.dtype.itemsize for shape in (array.shape, array.chunks))
    memory.refuse_impossible_size(
        path,
        claimed=max(volume, chunk),
        stored=stored,
        background=memory.BACKGROUND_BYTES,
        held=held_bytes(volume, chunk),
    )
    if array.nchunks > MOST_CHUNKS:
        raise InputError(
            f"{path}: is cut into {array.nchunks} chunks, which takes hours to read. Write it again with "
            "larger ones."
        )


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
