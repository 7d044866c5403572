"""The one way in and out for volumes, whatever their format.

A format is one reader in a file of its own and one line per suffix in `READERS`; a format of outputs is one
writer and its line in `WRITERS`.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Protocol

import numpy as np

from cryoseg import __version__
from cryoseg.config import Mode0
from cryoseg.config.common import PLAUSIBLE_PIXEL_SIZES, OutputFormat
from cryoseg.errors import InputError, OutputError
from cryoseg.io.images.em import read_em
from cryoseg.io.images.hdf5 import HDF5_SUFFIXES, read_hdf5, split_dataset
from cryoseg.io.images.mrc import SliceSource, read_mrc, write_mrc
from cryoseg.io.images.omezarr import read_omezarr
from cryoseg.io.images.omezarr_output import OmeZarrWriter
from cryoseg.io.images.tiff import TIFF_SUFFIXES, read_tiff
from cryoseg.io.images.tiff_output import write_tiff
from cryoseg.io.outputs import is_volume_name
from cryoseg.types import Geometry, LabelArray, Tomogram


class Reader(Protocol):
    """Reads one format; keywords that mean nothing to it are ignored."""

    def __call__(self, path: Path, *, mode0: Mode0) -> Tomogram:
        """The volume in `path`."""


class Writer(Protocol):
    """Function that writes a volume of one format."""

    def __call__(self, path: Path, data: SliceSource, geometry: Geometry, *, dtype: str, label: str) -> None:
        """Write a volume with one slice in memory at a time.

        Parameters
        ----------
        path
            File or folder to write. It has this name only when it is complete; an existing one is replaced.
        data
            (z, y, x) volume, of which each slice is requested once and in order.
        geometry
            Voxel size, origin and other geometry to store, as far as the format can.
        dtype
            Type of the stored values: int8, int16, uint16, int32 or float32.
        label
            Program that made the file, up to 80 characters.

        Raises
        ------
        OutputError
            If the output cannot be written, or a value does not fit into `dtype`.
        """


_MRC_NAMES = (".mrc", ".mrcs", ".rec", ".map", ".st", ".ali", ".preali")
_COMPRESSIONS = ("", ".gz", ".bz2")

READERS: dict[str, Reader] = {
    **{name + packed: read_mrc for name, packed in product(_MRC_NAMES, _COMPRESSIONS)},
    ".zarr": read_omezarr,
    ".ome.zarr": read_omezarr,
    **dict.fromkeys(TIFF_SUFFIXES, read_tiff),
    **dict.fromkeys(HDF5_SUFFIXES, read_hdf5),
    ".em": read_em,
}
VOLUME_SUFFIXES = tuple(READERS)
WRITERS: dict[OutputFormat, Writer] = {
    OutputFormat.MRC: write_mrc,
    OutputFormat.ZARR: OmeZarrWriter(),
    OutputFormat.ZARR_05: OmeZarrWriter(is_05=True),
    OutputFormat.TIFF: write_tiff,
}
_WRITABLE = {
    OutputFormat.MRC: _MRC_NAMES,
    OutputFormat.ZARR: (".zarr",),
    OutputFormat.ZARR_05: (".zarr",),
    OutputFormat.TIFF: TIFF_SUFFIXES,
}
# The first that holds all labels is taken. MRC has no integers of 32 bits.
_LABEL_TYPES = ("int16", "uint16", "int32")

LARGEST_ANISOTROPY = 0.01


def known_suffix(path: Path, suffixes: tuple[str, ...] = VOLUME_SUFFIXES) -> str | None:
    """The longest of `suffixes` that the name ends with (in its own spelling), or None.

    A name that is nothing but a suffix has none. Of a data set in a file the file's name counts.
    """
    name = split_dataset(path)[0].name
    matches = [s for s in suffixes if name.lower().endswith(s) and len(name) > len(s)]
    return name[-len(max(matches, key=len)) :] if matches else None


def is_volume_folder(path: Path) -> bool:
    """Whether a folder is itself a volume (OME-Zarr), not a place to look for volumes."""
    return is_volume_name(path) and path.is_dir()


def is_volume(path: Path) -> bool:
    """Whether there is a file, a folder that is a volume, or a file in which a data set is named."""
    return split_dataset(path)[0].is_file() or is_volume_folder(path)


def read_tomogram(path: Path | str, *, mode0: Mode0 = Mode0.AUTO) -> Tomogram:
    """Read a volume of a known format.

    Parameters
    ----------
    path
        The file; its suffix names the format. `file.h5:/path` names a data set in an HDF5 file.
    mode0
        How to read the bytes of an MRC file of mode 0.

    Returns
    -------
    Tomogram
        (z, y, x) in the file's own data type and this machine's byte order, possibly read-only
        (memory-mapped). float16 files (MRC mode 12) stay float16: convert before computing.
        A file of one image is a volume of one slice. `warnings` says what was wrong.

    Raises
    ------
    InputError
        If the suffix is unknown, or the file is missing, damaged or no volume.
    """
    path = Path(path)
    suffix = known_suffix(path)
    refuse_unreadable(path)
    if suffix is None:
        raise InputError(
            f"{path}: unknown format. Known suffixes are {describe_suffixes()}; rename or convert it."
        )
    try:
        tomogram = READERS[suffix.lower()](path, mode0=mode0)
    except MemoryError as error:
        raise InputError(
            f"{path}: does not fit into the memory of this machine. Bin it, or crop it."
        ) from error
    return replace(tomogram, warnings=(*tomogram.warnings, *_shape_warnings(tomogram)))


def read_mask(path: Path | str, *, mode0: Mode0 = Mode0.AUTO) -> Tomogram:
    """Read a mask or label volume.

    Parameters
    ----------
    path, mode0
        As in `read_tomogram`.

    Returns
    -------
    Tomogram
        (z, y, x) integers; -1 (not annotated) is kept. Labels stored as floats become int16.

    Raises
    ------
    InputError
        As `read_tomogram`, and if a float volume holds other than whole numbers from -32768 to 32767.
    """
    tomogram = read_tomogram(path, mode0=mode0)
    data = tomogram.data
    if data.dtype.kind in "iu":
        return tomogram
    labels = np.empty(data.shape, np.int16)
    for z, image in enumerate(data):
        with np.errstate(invalid="ignore"):
            labels[z] = image
        if not np.array_equal(labels[z], image):
            raise InputError(
                f"{tomogram.source}: slice {z} holds other values than whole numbers; these are no labels. "
                "Threshold the volume first (cryoseg postprocess does so for logits)."
            )
    return replace(tomogram, data=labels)


def write_mask(
    path: Path | str,
    mask: SliceSource,
    geometry: Geometry,
    *,
    label: str,
    output_format: OutputFormat = OutputFormat.MRC,
) -> None:
    """Write a mask or a few classes as int8, slice by slice; an existing file is replaced.

    Parameters
    ----------
    path
        File to write, with a suffix of the format: .mrc, .rec, .map and the like, .zarr, or .tif.
    mask
        (z, y, x) bool or integers from -128 to 127: an array, or an object that yields slices.
    geometry
        Geometry of the input, so that the output has the same position and voxel size.
    label
        Program that made the file; see `made_by`.
    output_format
        Format of the file.

    Raises
    ------
    OutputError
        If the file cannot be written or a value does not fit.
    """
    _write(path, mask, geometry, dtype="int8", label=label, output_format=output_format)


def write_labels(
    path: Path | str,
    labels: LabelArray,
    geometry: Geometry,
    *,
    label: str,
    output_format: OutputFormat = OutputFormat.MRC,
) -> None:
    """Write (z, y, x) labels, such as numbers of objects, as `write_mask` does.

    The type is int16, or uint16 or int32 if the labels need it; MRC stores labels up to 65535.
    """
    low, high = int(labels.min(initial=0)), int(labels.max(initial=0))
    for dtype in _LABEL_TYPES[: 2 if output_format is OutputFormat.MRC else 3]:
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            _write(path, labels, geometry, dtype=dtype, label=label, output_format=output_format)
            return
    raise OutputError(
        f"{path}: labels from {low} to {high} do not fit into {output_format}. Pass --output-format zarr."
    )


def write_logits(
    path: Path | str,
    logits: SliceSource,
    geometry: Geometry,
    *,
    label: str,
    output_format: OutputFormat = OutputFormat.MRC,
) -> None:
    """Write logits, or any real (z, y, x) volume, as float32, as `write_mask` does."""
    _write(path, logits, geometry, dtype="float32", label=label, output_format=output_format)


def _write(
    path: Path | str,
    volume: SliceSource,
    geometry: Geometry,
    *,
    dtype: str,
    label: str,
    output_format: OutputFormat,
) -> None:
    path = _output_path(path, output_format)
    WRITERS[output_format](path, volume, geometry, dtype=dtype, label=label)


def made_by(command: str) -> str:
    """Label line of an output: this program, its version and `command`, at most 80 characters."""
    return f"cryoseg {__version__} {command}"[:80]


def describe_suffixes(suffixes: tuple[str, ...] = VOLUME_SUFFIXES) -> str:
    """Suffixes for a message; those with a compression appear once."""
    plain = [s for s in suffixes if not s.endswith((".gz", ".bz2"))]
    packed = [s for s in plain if s + ".gz" in suffixes]
    rest = [s for s in plain if s not in packed]
    return ", ".join([*packed[:-1], *(f"{s} (also with .gz or .bz2)" for s in packed[-1:]), *rest])


def check_finite(tomogram: Tomogram) -> None:
    """Refuse a volume that holds NaN or infinity; needs one slice of extra memory.

    Raises
    ------
    InputError
        With their count and the position of the first.
    """
    if tomogram.data.dtype.kind != "f":
        return
    count = 0
    first: tuple[int, int, int] | None = None
    for z, image in enumerate(tomogram.data):
        finite = np.isfinite(image)
        if finite.all():
            continue
        if first is None:
            y, x = np.unravel_index(int(np.argmin(finite)), finite.shape)
            first = (z, int(y), int(x))
        count += finite.size - int(np.count_nonzero(finite))
    if first is not None:
        raise InputError(
            f"{tomogram.source}: {count} of {tomogram.data.size} voxels are NaN or infinite, the first at "
            f"z, y, x = {first[0]}, {first[1]}, {first[2]} (from 0). Reconstruct again, or replace them by 0."
        )


def improbable_voxel_size(geometry: Geometry) -> str | None:
    """What is doubtful about a voxel size, or None.

    Returns
    -------
    str or None
        A sentence without the file's name: the size is not set (0) on an axis, exactly 1.0 A on
        all, or outside 0.1 to 1000 A.
    """
    sizes = geometry.voxel_size
    mend = "Pass --pixel-size in angstrom."
    if 0.0 in sizes:
        return f"The header gives no voxel size (0 A). {mend}"
    if all(size == 1.0 for size in sizes):
        return f"The header's voxel size is exactly 1.0 A, which in a tomogram usually means not set. {mend}"
    low, high = PLAUSIBLE_PIXEL_SIZES
    if not all(low <= size <= high for size in sizes):
        return f"The header's voxel size is {_triple(sizes)} A (z, y, x), hardly that of a tomogram. {mend}"
    return None


def require_voxel_size(tomogram: Tomogram) -> None:
    """Refuse a volume whose voxel size cannot be believed, where lengths in angstrom are needed.

    Raises
    ------
    InputError
        With what is doubtful and the mend.
    """
    if doubt := improbable_voxel_size(tomogram.geometry):
        raise InputError(f"{tomogram.source}: {doubt}")


def _output_path(path: Path | str, output_format: OutputFormat) -> Path:
    path, suffixes = Path(path), _WRITABLE[output_format]
    if known_suffix(path, suffixes) is None:
        raise OutputError(
            f"{path}: is no name of a volume in the format {output_format}. Give a name that ends in "
            f"{', '.join(suffixes)}."
        )
    return path


def refuse_unreadable(path: Path) -> None:
    """Raise an `InputError` that says why a path cannot be read as an image."""
    path = split_dataset(path)[0]
    if is_volume_folder(path):
        return
    if path.is_dir():
        raise InputError(f"{path}: this is a folder, not a volume. Give a file.")
    try:
        empty = path.stat().st_size == 0
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file. Check the name.") from error
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}). Check the path and its permissions."
        ) from error
    except ValueError as error:
        raise InputError(f"{str(path)!r}: is no file name ({error}).") from error
    if empty:
        raise InputError(f"{path}: the file is empty (0 bytes). Copy or export it again.")


def _shape_warnings(tomogram: Tomogram) -> list[str]:
    sentences = []
    slices = tomogram.data.shape[0]
    if slices == 1:
        sentences.append("The file holds a single image; it is treated as a volume of one slice.")
    # The z size of a lone image means nothing.
    sizes = [size for size in tomogram.geometry.voxel_size[slices == 1 :] if size > 0]
    if sizes and max(sizes) > min(sizes) * (1 + LARGEST_ANISOTROPY):
        sentences.append(
            f"The voxels are not cubes: {_triple(tomogram.geometry.voxel_size)} A (z, y, x). "
            "They are treated voxel by voxel, without resampling."
        )
    return sentences


def _triple(values: tuple[float, float, float]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
