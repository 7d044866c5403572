"""Read volumes from HDF5 files of EMAN2, ilastik, Fiji and other programs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cryoseg.errors import InputError
from cryoseg.io.images.scratch import read_blocks
from cryoseg.io.images.stored import StoredFormat, StoredVolume, positive_number, refuse_other_types
from cryoseg.types import Geometry

if TYPE_CHECKING:
    import h5py


HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")
_INSIDE = re.compile(rf"(?i)(?P<file>.+(?:{'|'.join(map(re.escape, HDF5_SUFFIXES))})):(?P<inside>.*)", re.S)


def split_dataset(path: Path) -> tuple[Path, str]:
    """Return the file of a path of any format, and the name of the data set in it, or ""."""
    match = _INSIDE.fullmatch(str(path))
    return (Path(match["file"]), match["inside"]) if match else (path, "")


def with_dataset(file: Path, inside: str) -> Path:
    """Return the path of a data set in a file; that of the file if `inside` is ""."""
    return Path(f"{file}:{inside}") if inside else file


_MOST_NAMED = 5
_MICROMETER = 1e4
_EMAN_SIZES = ("EMAN.apix_z", "EMAN.apix_y", "EMAN.apix_x")


@contextmanager
def _open(path: Path) -> Iterator[StoredVolume]:
    """Open one data set: `file.h5:/path/of/the/data/set`, or that of a file with one volume.

    It is memory-mapped if it is contiguous in the byte order of this machine and otherwise read by chunks.
    The voxel size is that of `EMAN.apix_x` (EMAN2) or `element_size_um` (Fiji), otherwise 0.
    """
    try:
        import h5py
    except ImportError as error:
        raise InputError(f"{path}: HDF5 needs a package. Run pip install 'cryoseg[hdf5]'.") from error
    file, inside = split_dataset(path)
    with h5py.File(file, "r", locking=False) as opened:
        dataset = _named(opened, inside, path) if inside.strip("/") else _only(opened, path)
        refuse_other_types(dataset.dtype, path)
        axes = _axis_names(dataset)
        yield StoredVolume(
            shape=_volume_shape(dataset, axes, path),
            geometry=Geometry(voxel_size=_voxel_size(dataset)),
            read=lambda: _voxels(dataset, file, path),
        )


HDF5 = StoredFormat("HDF5", _open)


def _named(file: h5py.File, inside: str, path: Path) -> h5py.Dataset:
    import h5py

    found = file.get(inside)
    if isinstance(found, h5py.Dataset):
        return found
    known = ", ".join(_volumes(file)[:_MOST_NAMED]) or "none"
    what = "there is a group" if found is not None else "there is nothing"
    raise InputError(f"{path}: {what} of the name {inside} in the file; volumes in it: {known}.")


def _only(file: h5py.File, path: Path) -> h5py.Dataset:
    names = _volumes(file)
    if len(names) == 1:
        return file[names[0]]
    if not names:
        raise InputError(f"{path}: holds no data set of three axes. Give a file with a volume.")
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    raise InputError(
        f"{path}: holds the volumes {', '.join(names[:_MOST_NAMED])}{more}. Name one as "
        f"{path.name}:{names[0]}."
    )


def _volumes(file: h5py.File) -> list[str]:
    """Return the names of all data sets of numbers that can be a volume."""
    import h5py

    names: list[str] = []

    def note(name: str, found: Any) -> None:
        if isinstance(found, h5py.Dataset) and found.dtype.kind in "iufb":
            shape = found.shape or ()
            if len(shape) >= 3 and sum(n > 1 for n in shape) in (2, 3) and 0 not in shape:
                names.append(f"/{name}")

    file.visititems(note)
    return names


def _axis_names(dataset: h5py.Dataset) -> list[str]:
    """Return the letters of the axis tags of ilastik; without tags, the last three axes are z, y, x."""
    given = dataset.attrs.get("axistags")
    if isinstance(given, bytes | str):
        names = [str(axis["key"]) for axis in json.loads(given)["axes"]]
        if len(names) == dataset.ndim:
            return names
    return [""] * (dataset.ndim - 3) + list("zyx")


def _volume_shape(dataset: h5py.Dataset, axes: list[str], path: Path) -> tuple[int, int, int]:
    shape = tuple(int(n) for n in dataset.shape or ())
    kept = [(axis, n) for axis, n in zip(axes, shape, strict=False) if axis in "zyx" and axis]
    dropped = math.prod(shape) // max(1, math.prod(n for _, n in kept))
    if len(shape) < 3 or 0 in shape or [axis for axis, _ in kept] != list("zyx") or dropped != 1:
        raise InputError(
            f"{path}: the data set {dataset.name} has the shape {shape}"
            + (f" of the axes {', '.join(axes)}" if any(axis not in "zyx" for axis in axes) else "")
            + "; one volume of axes z, y, x is needed."
        )
    return kept[0][1], kept[1][1], kept[2][1]


def _voxels(dataset: h5py.Dataset, file: Path, path: Path) -> NDArray[Any]:
    stored = file.stat().st_size
    offset = dataset.id.get_offset()
    is_whole = offset is not None and not dataset.external and not dataset.file.userblock_size
    # A file that is still written, or cut, has less than it announces.
    if (
        is_whole
        and offset + dataset.nbytes <= stored
        and dataset.dtype.isnative
        and dataset.dtype.kind != "b"
    ):
        return np.asarray(np.memmap(file, dataset.dtype, mode="r", offset=offset, shape=dataset.shape))
    return read_blocks(dataset, path, stored=stored)


def _voxel_size(dataset: h5py.Dataset) -> tuple[float, float, float]:
    """Return the voxel size (z, y, x) in angstrom; 0 if no known attribute gives it."""
    for attributes in (dataset.attrs, dataset.parent.attrs):
        if any(name in attributes for name in _EMAN_SIZES):
            z, y, x = (positive_number(attributes.get(name)) for name in _EMAN_SIZES)
            return z, y, x
        if "element_size_um" in attributes:  # z, y, x. Source: the HDF5 plug-in of Fiji
            z, y, x = (
                positive_number(size) * _MICROMETER for size in np.ravel(attributes["element_size_um"])
            )
            return z, y, x
    return 0.0, 0.0, 0.0
