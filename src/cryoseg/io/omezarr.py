"""Read OME-Zarr volumes (folders that end in .zarr), as the CryoET Data Portal offers them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from cryoseg.config import Mode0
from cryoseg.errors import InputError
from cryoseg.types import Geometry, Tomogram

_ANGSTROM = {"angstrom": 1.0, "nanometer": 10.0, "micrometer": 10_000.0}
_AXES = ("z", "y", "x")


def read_omezarr(path: Path, *, mode0: Mode0 = Mode0.AUTO) -> Tomogram:
    """Read the finest resolution of an OME-Zarr volume into memory.

    Parameters
    ----------
    path
        The folder, Zarr format 2 or 3.
    mode0
        Means nothing here.

    Returns
    -------
    Tomogram
        (z, y, x) in the array's own data type. The voxel size is 0 where the file gives no unit.

    Raises
    ------
    InputError
        If the folder is no OME-Zarr volume, its axes do not end in z, y, x, or an array is damaged.
    """
    import zarr

    try:
        group = zarr.open_group(path, mode="r")
        attributes: dict[str, Any] = dict(group.attrs)
        multiscale: Any = (attributes.get("ome") or attributes)["multiscales"][0]
        dataset = multiscale["datasets"][0]
        axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in multiscale.get("axes", _AXES)]
        array = group[dataset["path"]]
        if not isinstance(array, zarr.Array):
            raise TypeError(f"{dataset['path']} is no array")
        transforms = [*dataset.get("coordinateTransformations", ())]
        transforms += multiscale.get("coordinateTransformations", ())
        scale = [math.prod(step) for step in zip(*_scales(transforms, len(axes)), strict=True)]
        data = np.asarray(array[...])
    except (KeyError, IndexError, TypeError, ValueError, OSError, RuntimeError) as error:
        raise InputError(
            f"{path}: cannot be read as OME-Zarr ({type(error).__name__}: {error}). Copy or fetch it again."
        ) from error
    names = tuple(str(axis.get("name")) for axis in axes)
    extra = data.ndim - 3
    if extra < 0 or names[-3:] != _AXES or len(names) != data.ndim or any(n != 1 for n in data.shape[:extra]):
        raise InputError(
            f"{path}: holds an array of axes {', '.join(names)} and shape {data.shape}; "
            "one volume of axes z, y, x is needed."
        )
    factors = [_ANGSTROM.get(str(axis.get("unit")), 0.0) for axis in axes[-3:]]
    z, y, x = (size * factor for size, factor in zip(scale[-3:], factors, strict=True))
    return Tomogram(
        data=data.reshape(data.shape[extra:]), geometry=Geometry(voxel_size=(z, y, x)), source=path
    )


def _scales(transforms: list[dict[str, Any]], axes: int) -> list[list[float]]:
    found = [list(map(float, one["scale"])) for one in transforms if one.get("type") == "scale"]
    return found or [[0.0] * axes]
