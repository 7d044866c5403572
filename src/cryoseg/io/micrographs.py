"""The one way in for micrographs: MRC, TIFF, PNG and JPEG become float32 (y, x).

Rows come as the file stores them: row 0 is y = 0. Nothing is turned upside down here.
"""

from __future__ import annotations

import warnings as python_warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from cryoseg.errors import InputError
from cryoseg.io.mrc import read_mrc
from cryoseg.io.volumes import READERS, _refuse_unreadable, describe_suffixes, known_suffix
from cryoseg.types import FloatArray, Geometry, Micrograph

TIFF_SUFFIXES = (".tif", ".tiff")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
MRC_SUFFIXES = tuple(suffix for suffix, read in READERS.items() if read is read_mrc)
MICROGRAPH_SUFFIXES = (*MRC_SUFFIXES, *TIFF_SUFFIXES, *PICTURE_SUFFIXES)
PLAUSIBLE_PIXEL_SIZES = (0.1, 100.0)  # angstrom
SMALLEST_SIDE = 16
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_ANGSTROM = {"a": 1.0, "å": 1.0, "angstrom": 1.0, "nm": 10.0, "um": 1e4, "µm": 1e4, "micron": 1e4}
_CENTIMETER_ANGSTROM, _INCH_ANGSTROM = 1e8, 2.54e8


def read_micrograph(path: Path | str, *, pixel_size: float | None = None) -> Micrograph:
    """Read one image of a known format.

    Parameters
    ----------
    path
        The file; its suffix names the format.
    pixel_size
        In angstrom; overrides what the file says.

    Returns
    -------
    Micrograph
        float32 (y, x), pixel size (0.0 where nobody knows it), and sentences about what was doubtful.

    Raises
    ------
    InputError
        If the file is missing, damaged, holds more than one image, or NaN, or is tiny.
    """
    path = Path(path)
    suffix = known_suffix(path, MICROGRAPH_SUFFIXES)
    _refuse_unreadable(path)
    if suffix is None:
        raise InputError(
            f"{path}: unknown format. Known suffixes are {describe_suffixes(MICROGRAPH_SUFFIXES)}; "
            "rename or convert it."
        )
    micrograph = _reader(suffix.lower())(path)
    _check(micrograph)
    notes = list(micrograph.warnings)
    size = micrograph.pixel_size
    if pixel_size is not None:
        size = pixel_size
    elif doubt := improbable_pixel_size(size):
        notes.append(doubt)
    geometry = Geometry(
        voxel_size=(size, size, size),
        origin=micrograph.geometry.origin,
        start=micrograph.geometry.start,
        space_group=0,
        imod_origin=micrograph.geometry.imod_origin,
    )
    return Micrograph(
        data=micrograph.data, pixel_size=size, geometry=geometry, source=path, warnings=tuple(notes)
    )


def improbable_pixel_size(size: float) -> str | None:
    """What is doubtful about a pixel size in angstrom, or None."""
    mend = "Pass --pixel-size in angstrom."
    if size == 0:
        return f"The file gives no pixel size. {mend}"
    if size == 1.0:
        return f"The pixel size in the file is exactly 1.0 A, which often means not set. {mend}"
    low, high = PLAUSIBLE_PIXEL_SIZES
    if not low <= size <= high:
        return f"The pixel size in the file is {size:.4g} A, hardly that of a micrograph. {mend}"
    return None


def _reader(suffix: str) -> Callable[[Path], Micrograph]:
    if suffix in TIFF_SUFFIXES:
        return _read_tiff
    return _read_picture if suffix in PICTURE_SUFFIXES else _read_mrc


def _read_mrc(path: Path) -> Micrograph:
    volume = read_mrc(path)
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
    try:
        with tifffile.TiffFile(path) as file:
            pages = len(file.pages)
            if pages != 1:
                raise InputError(
                    f"{path}: holds {pages} images. Give one micrograph, such as the average of the movie."
                )
            data = file.pages[0].asarray()
            size = _tiff_pixel_size(file)
    except InputError:
        raise
    except Exception as error:  # tifffile raises anything from KeyError to struct.error on damaged files
        raise InputError(f"{path}: cannot be read as TIFF ({error}). Export it again.") from error
    grey, notes = _grey(np.asarray(data), path)
    return Micrograph(data=grey, pixel_size=size, source=path, warnings=notes)


def _tiff_pixel_size(file: tifffile.TiffFile) -> float:
    """Angstrom, 0.0 where the tags say nothing that a microscope could mean."""
    tags = file.pages[0].tags  # type: ignore[union-attr]
    resolution = tags.get("XResolution")
    if resolution is None:
        return 0.0
    above, below = resolution.value
    if not above or not below:
        return 0.0
    pixels_per_unit = above / below
    unit = str((file.imagej_metadata or {}).get("unit", "")).strip().lower().replace("\\u00b5", "µ")
    if unit in _ANGSTROM:
        return float(_ANGSTROM[unit] / pixels_per_unit)
    kind = tags.get("ResolutionUnit")
    per_unit = {2: _INCH_ANGSTROM, 3: _CENTIMETER_ANGSTROM}.get(int(kind.value) if kind else 0, 0.0)
    size = float(per_unit / pixels_per_unit)
    low, high = PLAUSIBLE_PIXEL_SIZES
    return size if low <= size <= high else 0.0  # 72 dots per inch is about printing


def _read_picture(path: Path) -> Micrograph:
    try:
        with python_warnings.catch_warnings():
            # Pillow warns of large pictures; a micrograph of 8k x 8k is one.
            python_warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                if getattr(file, "n_frames", 1) != 1:
                    raise InputError(f"{path}: is an animation. Give one micrograph.")
                picture: Image.Image = file
                if file.mode in ("P", "PA", "CMYK", "YCbCr", "LAB", "HSV"):
                    picture = file.convert("RGBA" if "transparency" in file.info else "RGB")
                data = np.asarray(picture)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: cannot be read as a picture ({error}). Export it again.") from error
    grey, notes = _grey(data, path)
    return Micrograph(data=grey, pixel_size=0.0, source=path, warnings=notes)


def _grey(data: NDArray[Any], path: Path) -> tuple[FloatArray, tuple[str, ...]]:
    """(y, x) or (y, x, channels) to float32 (y, x), and what to tell the user."""
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
