"""Read volumes and images from TIFF files of OME, ImageJ, IMOD and other programs."""

from __future__ import annotations

import logging
import math
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from cryoseg.config.common import PLAUSIBLE_PIXEL_SIZES
from cryoseg.errors import InputError
from cryoseg.io.images.memory import refuse_impossible_size
from cryoseg.io.images.scratch import held_bytes, make_room
from cryoseg.io.images.stored import StoredFormat, StoredVolume, decoding, positive_number, refuse_other_types
from cryoseg.types import Geometry

TIFF_SUFFIXES = (".tif", ".tiff", ".ome.tif", ".ome.tiff")
_DEPTH_AXES = "ZIQ"  # Names of tifffile for depth, a sequence of pages, and an unknown axis.
# Names that programs without a depth axis give to slices.
_MISNAMED_AXES = {"T": "points in time", "C": "channels"}
_MOST_COLORS = 4
_RESOLUTION_UNITS = {2: "inch", 3: "cm"}
_SILENT = logging.NullHandler()


@contextmanager
def _open(path: Path) -> Iterator[StoredVolume]:
    """Open a file of one volume, whose pages are the slices.

    It is memory-mapped if the pages are contiguous in the byte order of this machine and otherwise read by
    tiles. The voxel size is 0 if the file gives none.
    """
    with _opened(path) as file:
        warnings: list[str] = []
        index, series = _series(file, path, warnings)
        refuse_other_types(series.dtype, path)
        yield StoredVolume(
            shape=_shape(series, path, warnings),
            geometry=Geometry(
                voxel_size=voxel_size(file, index),
                origin=_ome_origin(file.ome_metadata, index) if file.ome_metadata else (0.0, 0.0, 0.0),
            ),
            read=lambda: _voxels(series, path),
            warnings=tuple(warnings),
        )


TIFF = StoredFormat("TIFF", _open)


def read_tiff_page(path: Path) -> tuple[NDArray[Any], float]:
    """Return the only page of a TIFF file, (y, x) or (y, x, samples), and its pixel size in angstrom.

    Raises
    ------
    InputError
        If the file cannot be read or holds more than one page.
    """
    with decoding(path, "TIFF"), _opened(path) as file:
        pages = len(file.pages)
        if pages != 1:
            raise InputError(
                f"{path}: holds {pages} images. Give one micrograph, such as the average of the movie."
            )
        page = file.pages.first
        stored = path.stat().st_size
        refuse_impossible_size(path, claimed=page.nbytes, stored=stored)
        _refuse_cut([page], path, stored)
        return np.asarray(page.asarray()), voxel_size(file, 0)[2]


def count_pages(path: Path) -> int:
    """Return the number of images in a TIFF file; 0 if it cannot be read."""
    try:
        with _opened(path) as file:
            return len(file.pages)
    except Exception:
        return 0


def voxel_size(file: tifffile.TiffFile, index: int) -> tuple[float, float, float]:
    """Return the voxel size (z, y, x) in angstrom of a series; 0 if the file gives no plausible one."""
    if file.ome_metadata:
        return _ome_size(file.ome_metadata, index)
    tags = file.pages.first.tags
    imagej: dict[str, Any] = file.imagej_metadata or {}
    factor = angstrom_per(str(imagej.get("unit", "")))
    if not factor:
        unit = tags.get("ResolutionUnit")
        factor = angstrom_per(_RESOLUTION_UNITS.get(int(unit.value) if unit else 0, ""))
        imagej = {}
    y, x = (_per_pixel(tags.get(name)) * factor for name in ("YResolution", "XResolution"))
    y = y or x
    # ImageJ leaves out a spacing of one, and plain TIFF has none: the voxels are cubes then.
    z = positive_number(imagej.get("spacing")) * factor or x
    # Resolutions of print, such as 72 per inch, say nothing about a specimen.
    low, high = PLAUSIBLE_PIXEL_SIZES
    return (z, y, x) if all(low <= size <= high for size in (y, x)) else (0.0, 0.0, 0.0)


@contextmanager
def _opened(path: Path) -> Iterator[tifffile.TiffFile]:
    # Our errors say what tifffile logs about damaged files, which goes to the terminal without a handler.
    logging.getLogger("tifffile").addHandler(_SILENT)
    try:
        with tifffile.TiffFile(path) as file:
            yield file
    except Exception as error:
        if "imagecodecs" not in str(error):
            raise
        raise InputError(
            f"{path}: its compression needs a package. Run pip install 'cryoseg[tiff]'."
        ) from error


def _series(file: tifffile.TiffFile, path: Path, warnings: list[str]) -> tuple[int, tifffile.TiffPageSeries]:
    """Return the series that is the volume, and its index in the file."""
    # Counting ends at a page that points back to itself; reading pages one by one does not.
    len(file.pages)
    found = list(file.series)
    if not found:
        raise InputError(f"{path}: holds no image. Export it again.")
    stacks = [(index, one) for index, one in enumerate(found) if len(_long_axes(one)) > 2]
    chosen = stacks if len(found) > 1 else [(0, found[0])]
    if len(chosen) != 1:
        raise InputError(
            f"{path}: holds {len(found)} images that are no slices of one volume. Give one volume a file."
        )
    if len(found) > 1:
        warnings.append(f"The file holds {len(found) - 1} more images beside the volume; they are ignored.")
    if chosen[0][1].is_multifile:
        raise InputError(f"{path}: is one of several files of an OME-TIFF. Export the volume as one file.")
    return chosen[0]


def _all_axes(series: tifffile.TiffPageSeries) -> tuple[str, tuple[int, ...]]:
    # Older versions of tifffile omit axes of length one by default; newer versions have no such option.
    if not hasattr(series, "get_axes"):
        return series.axes, series.shape
    return series.get_axes(squeeze=False), series.get_shape(squeeze=False)


def _long_axes(series: tifffile.TiffPageSeries) -> dict[str, int]:
    """Return the lengths of the axes by letter, without axes of length one other than y and x."""
    named = zip(*_all_axes(series), strict=True)
    return {axis: int(n) for axis, n in named if n != 1 or axis in "YX"}


def _shape(series: tifffile.TiffPageSeries, path: Path, warnings: list[str]) -> tuple[int, int, int]:
    axes = _long_axes(series)
    names = "".join(axes)
    if names == "YX":
        return 1, axes["Y"], axes["X"]
    is_color = names[0] == "C" and axes["C"] <= _MOST_COLORS and series.kind != "imagej"
    if names[1:] == "YX" and not is_color and (names[0] in _DEPTH_AXES or names[0] in _MISNAMED_AXES):
        if names[0] in _MISNAMED_AXES:
            warnings.append(f"The pages are said to be {_MISNAMED_AXES[names[0]]}; they are read as slices.")
        return axes[names[0]], axes["Y"], axes["X"]
    sizes = ", ".join(f"{axis} {n}" for axis, n in axes.items())
    raise InputError(
        f"{path}: holds an image of the axes {sizes}; one volume of z, y and x in grey is needed."
    )


def _voxels(series: tifffile.TiffPageSeries, path: Path) -> NDArray[Any]:
    dtype = series.dtype.newbyteorder(series.keyframe.parent.byteorder)
    _, shape = _all_axes(series)
    claimed, stored = math.prod(shape) * dtype.itemsize, path.stat().st_size
    offset = series.dataoffset
    if offset is not None and offset + claimed <= stored and dtype.isnative:
        return np.asarray(np.memmap(path, dtype, mode="r", offset=offset, shape=shape))
    held = held_bytes(claimed, math.prod(series.keyframe.chunks) * dtype.itemsize)
    refuse_impossible_size(path, claimed=claimed, stored=stored, held=held)
    _refuse_cut(series.pages, path, stored)
    data = make_room(series.shape, series.dtype, path)
    series.asarray(maxworkers=1, out=data)
    return data


def _refuse_cut(pages: Sequence[Any], path: Path, stored: int) -> None:
    """Refuse pages that claim more bytes than the file has; tifffile would take memory for them."""
    for page in pages:
        if page is not None and max(page.databytecounts, default=0) > stored:
            raise InputError(f"{path}: a page is longer than the file. Copy or export it again.")


def _ome_pixels(text: str, index: int) -> ET.Element | None:
    pixels = [one for one in ET.fromstring(text).iter() if one.tag.rsplit("}", 1)[-1] == "Pixels"]
    return pixels[index] if index < len(pixels) else None


def _ome_origin(text: str, index: int) -> tuple[float, float, float]:
    """Return the position (z, y, x) of the first plane in angstrom; 0 if the file does not contain it."""
    pixels = _ome_pixels(text, index)
    planes = [] if pixels is None else [one for one in pixels if one.tag.rsplit("}", 1)[-1] == "Plane"]
    if not planes:
        return 0.0, 0.0, 0.0
    about = planes[0].attrib
    positions = [
        float(about.get(f"Position{axis}", 0)) * angstrom_per(about.get(f"Position{axis}Unit", ""))
        for axis in "ZYX"
    ]
    z, y, x = (position if math.isfinite(position) else 0.0 for position in positions)
    return z, y, x


def _ome_size(text: str, index: int) -> tuple[float, float, float]:
    pixels = _ome_pixels(text, index)
    if pixels is None:
        return 0.0, 0.0, 0.0
    about = pixels.attrib
    z, y, x = (
        # Source: OME schema 2016-06; micrometers where no unit is given.
        positive_number(about.get(f"PhysicalSize{axis}"))
        * angstrom_per(about.get(f"PhysicalSize{axis}Unit", "µm"))
        for axis in "ZYX"
    )
    return z, y, x


def _per_pixel(tag: Any) -> float:
    """Convert a resolution in pixels per unit to units per pixel."""
    above, below = tag.value if tag is not None else (0, 0)
    return float(below / above) if above and below else 0.0


# Symbols are exact, since Mm is not mm; names are compared in lower case and without a plural s.
_SYMBOLS = {"Å": 1.0, "A": 1.0, "pm": 1e-2, "nm": 10.0, "µm": 1e4, "um": 1e4, "mm": 1e7, "cm": 1e8, "m": 1e10}
_NAMES = {
    "angstrom": 1.0,
    "picometer": 1e-2,
    "nanometer": 10.0,
    "micrometer": 1e4,
    "micron": 1e4,
    "millimeter": 1e7,
    "centimeter": 1e8,
    "meter": 1e10,
    "inch": 2.54e8,
}


def angstrom_per(unit: str) -> float:
    """Return the length in angstrom of a unit, given by symbol or English name; 0 if it is unknown.

    Sources: OME schema 2016-06, UnitsLength; OME-NGFF 0.4, units of UDUNITS-2; TIFF 6.0, ResolutionUnit.
    """
    # Unicode has two micro signs and two angstrom signs, and ImageJ escapes them.
    unit = unit.strip().replace("\\u00B5", "µ").replace("\\u00b5", "µ").replace("\u03bc", "µ")
    unit = unit.replace("\\u00C5", "Å").replace("\\u00c5", "Å").replace("\u212b", "Å")
    name = unit.lower().replace("metre", "meter").replace("ångström", "angstrom").removesuffix("s")
    return _SYMBOLS.get(unit) or _NAMES.get(name, 0.0)
