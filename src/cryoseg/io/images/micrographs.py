"""Read micrographs from MRC, TIFF, PNG and JPEG files as float32 (y, x).

Rows keep the order of the file: row 0 is y = 0.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoseg.config import Mode0
from cryoseg.config.common import PLAUSIBLE_PIXEL_SIZES
from cryoseg.errors import InputError
from cryoseg.io.images.mrc import read_mrc
from cryoseg.io.images.pictures import open_picture
from cryoseg.io.images.pixel_size import contradiction
from cryoseg.io.images.tiff import TIFF_SUFFIXES, count_pages, read_tiff_page
from cryoseg.io.images.volumes import READERS, describe_suffixes, known_suffix, refuse_unreadable
from cryoseg.types import FloatArray, Micrograph

_PICTURES = (".png", ".jpg", ".jpeg")
# Files with the suffix .mrcs are movies or stacks of particles.
MRC_SUFFIXES = tuple(
    suffix for suffix, read in READERS.items() if read is read_mrc and not suffix.startswith(".mrcs")
)
MICROGRAPH_SUFFIXES = (*MRC_SUFFIXES, *TIFF_SUFFIXES, *_PICTURES)
SMALLEST_SIDE = 16
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


def read_micrograph(
    path: Path | str, *, pixel_size: float | None = None, mode0: Mode0 = Mode0.AUTO
) -> Micrograph:
    """Read one image of a known format.

    Parameters
    ----------
    path
        File whose suffix determines the format.
    pixel_size
        Pixel size in angstrom, which overrides that of the file.
    mode0
        Interpretation of the bytes of an MRC file of mode 0.

    Returns
    -------
    Micrograph
        Image (y, x) as float32, pixel size (0 if it is unknown), and warnings about doubtful properties.

    Raises
    ------
    InputError
        If the file is missing or damaged, contains several images or NaN, or is smaller than 16 pixels.
    """
    path = Path(path)
    suffix = known_suffix(path, MICROGRAPH_SUFFIXES)
    refuse_unreadable(path)
    if suffix is None:
        raise InputError(
            f"{path}: unknown format. Known suffixes are {describe_suffixes(MICROGRAPH_SUFFIXES)}; "
            "rename or convert it."
        )
    if suffix.lower() in TIFF_SUFFIXES:
        micrograph = _read_tiff(path)
    elif suffix.lower() in _PICTURES:
        micrograph = _read_picture(path)
    else:
        micrograph = _read_mrc(path, mode0)
    _check(micrograph)
    notes = list(micrograph.warnings)
    size = micrograph.pixel_size
    if pixel_size is not None:
        if doubt := contradiction(micrograph.geometry, pixel_size):
            notes.append(doubt)
        size = pixel_size
    elif doubt := improbable_pixel_size(size):
        notes.append(doubt)
    geometry = replace(micrograph.geometry, voxel_size=(size, size, size), space_group=0)
    return replace(micrograph, pixel_size=size, geometry=geometry, warnings=tuple(notes))


def read_warnings(micrograph: Micrograph, *, needs_pixel_size: bool) -> list[str]:
    """Return the warnings about a file, without the one about its pixel size unless that is needed."""
    doubt = None if needs_pixel_size else improbable_pixel_size(micrograph.pixel_size)
    return [f"{micrograph.source.name}: {warning}" for warning in micrograph.warnings if warning != doubt]


def improbable_pixel_size(size: float) -> str | None:
    """Return a sentence about a pixel size in angstrom that is probably wrong, or None."""
    fix = "Pass --pixel-size in angstrom."
    if size == 0:
        return f"The file gives no pixel size. {fix}"
    if size == 1.0:
        return f"The pixel size in the file is exactly 1.0 A, which often means not set. {fix}"
    low, high = PLAUSIBLE_PIXEL_SIZES
    if not low <= size <= high:
        return f"The pixel size in the file is {size:.4g} A, improbable for a micrograph. {fix}"
    return None


def is_single_image(path: Path) -> bool:
    """Whether a file is a picture or a TIFF file of one page, which cannot be a tomogram."""
    suffix = path.suffix.lower()
    return suffix in _PICTURES or (suffix in TIFF_SUFFIXES and count_pages(path) == 1)


def _read_mrc(path: Path, mode0: Mode0) -> Micrograph:
    volume = read_mrc(path, mode0=mode0)
    if len(volume.data) != 1:
        raise InputError(
            f"{path}: holds {len(volume.data)} images. Give one micrograph: the average of a movie; for a "
            "tomogram, a model for tomograms."
        )
    geometry = volume.geometry
    return Micrograph(
        data=np.asarray(volume.data[0], np.float32),
        pixel_size=float(geometry.voxel_size[2]),
        geometry=geometry,
        source=path,
        warnings=volume.warnings,
    )


def _read_tiff(path: Path) -> Micrograph:
    data, size = read_tiff_page(path)
    grey, notes = _grey(data, path)
    low, high = PLAUSIBLE_PIXEL_SIZES
    return Micrograph(data=grey, pixel_size=size if low <= size <= high else 0.0, source=path, warnings=notes)


def _read_picture(path: Path) -> Micrograph:
    with open_picture(path) as picture:
        if getattr(picture, "n_frames", 1) != 1:
            raise InputError(f"{path}: is an animation. Give one micrograph.")
        if picture.mode in ("P", "PA", "CMYK", "YCbCr", "LAB", "HSV"):
            picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
        grey, notes = _grey(np.asarray(picture), path)
    return Micrograph(data=grey, source=path, warnings=notes)


def _grey(data: NDArray[Any], path: Path) -> tuple[FloatArray, tuple[str, ...]]:
    """Convert (y, x) or (y, x, channels) to float32 (y, x), and return warnings for the user."""
    if np.iscomplexobj(data):
        raise InputError(f"{path}: holds complex numbers, not an image. Give the micrograph itself.")
    if data.ndim == 2:
        return np.asarray(data, np.float32), ()
    if data.ndim != 3 or data.shape[2] > 4:
        raise InputError(f"{path}: has the shape {data.shape}; give one image of rows and columns.")
    notes = []
    if data.shape[2] in (2, 4):
        notes.append("The transparency of the picture is ignored.")
        data = data[..., :-1]
    if data.shape[2] == 1 or (
        np.array_equal(data[..., 0], data[..., 1]) and np.array_equal(data[..., 0], data[..., -1])
    ):
        return np.ascontiguousarray(data[..., 0], np.float32), tuple(notes)
    notes.append("The picture is in color; its luminance is taken. A micrograph has none: check the file.")
    return np.asarray(data.astype(np.float32) @ LUMINANCE, np.float32), tuple(notes)


def _check(micrograph: Micrograph) -> None:
    height, width = micrograph.data.shape
    if min(height, width) < SMALLEST_SIDE:
        raise InputError(
            f"{micrograph.source}: {width} x {height} pixels are too few for a micrograph. Check the file."
        )
    finite = np.isfinite(micrograph.data)
    if not finite.all():
        bad = int(finite.size - np.count_nonzero(finite))
        y, x = np.unravel_index(int(np.argmin(finite)), finite.shape)
        raise InputError(
            f"{micrograph.source}: {bad} of {finite.size} pixels are NaN or infinite, the first at "
            f"y, x = {int(y)}, {int(x)} (from 0). Replace them by the mean."
        )
