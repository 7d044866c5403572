"""Read and write volumes of all formats.

Each input format has a module with a reader, and a line for each suffix in `READERS`. Each output format
has a writer and a line in `WRITERS`.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from mmap import mmap
from pathlib import Path
from typing import Protocol

import numpy as np

from cryoseg import __version__
from cryoseg.config import Mode0
from cryoseg.config.common import PLAUSIBLE_PIXEL_SIZES, OutputFormat
from cryoseg.errors import CryosegError, InputError, OutputError, reading
from cryoseg.io.images.em import read_em
from cryoseg.io.images.hdf5 import HDF5, HDF5_SUFFIXES, split_dataset
from cryoseg.io.images.mrc import SliceSource, compressed_shape, read_mrc, write_mrc
from cryoseg.io.images.omezarr import OME_ZARR
from cryoseg.io.images.omezarr_output import OmeZarrWriter
from cryoseg.io.images.stored import StoredFormat
from cryoseg.io.images.tiff import TIFF, TIFF_SUFFIXES
from cryoseg.io.images.tiff_output import write_tiff
from cryoseg.io.outputs import is_volume_name
from cryoseg.types import Geometry, LabelArray, Tomogram


class Reader(Protocol):
    """Function that reads a volume of one format; it ignores keywords that do not concern the format."""

    def __call__(self, path: Path, *, mode0: Mode0) -> Tomogram:
        """Return the volume in `path`."""


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
    ".zarr": OME_ZARR,
    ".ome.zarr": OME_ZARR,
    **dict.fromkeys(TIFF_SUFFIXES, TIFF),
    **dict.fromkeys(HDF5_SUFFIXES, HDF5),
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
# The first type that can store all labels is used. MRC has no 32-bit integers.
_LABEL_TYPES = ("int16", "uint16", "int32")

LARGEST_ANISOTROPY = 0.01


def known_suffix(path: Path, suffixes: tuple[str, ...] = VOLUME_SUFFIXES) -> str | None:
    """Return the longest of `suffixes` with which a name ends, in the spelling of the name, or None.

    A name that consists of a suffix only has none. For a data set in a file, the name of the file is used.
    """
    name = split_dataset(path)[0].name
    matches = [s for s in suffixes if name.lower().endswith(s) and len(name) > len(s)]
    return name[-len(max(matches, key=len)) :] if matches else None


def is_volume_folder(path: Path) -> bool:
    """Whether a folder is a volume (OME-Zarr) and not a folder of volumes."""
    return is_volume_name(path) and path.is_dir()


def read_tomogram(path: Path | str, *, mode0: Mode0 = Mode0.AUTO) -> Tomogram:
    """Read a volume of a known format.

    Parameters
    ----------
    path
        File whose suffix determines the format; `file.h5:/path` is a data set in an HDF5 file.
    mode0
        Interpretation of the bytes of an MRC file of mode 0.

    Returns
    -------
    Tomogram
        (z, y, x) volume with the data type of the file and the byte order of this machine, possibly read-only
        (memory-mapped). float16 data (MRC mode 12) must be converted before computing. A file of one image is
        a volume of one slice. `warnings` describes doubtful properties of the file.

    Raises
    ------
    InputError
        If the suffix is unknown, or the file is missing or damaged or does not contain a volume.
    """
    path = Path(path)
    suffix = known_suffix(path)
    refuse_unreadable(path)
    if suffix is None:
        raise InputError(
            f"{path}: unknown format. Known suffixes are {describe_suffixes()}; rename or convert it."
        )
    tomogram = READERS[suffix.lower()](path, mode0=mode0)
    return replace(tomogram, warnings=(*tomogram.warnings, *_shape_warnings(tomogram)))


def planned_shape(path: Path) -> tuple[int, ...] | None:
    """Return the shape (z, y, x) of a volume that is mapped or read by chunks, without reading it.

    Returns
    -------
    tuple of int or None
        None if the volume is held in memory, or if it cannot be read.
    """
    suffix = (known_suffix(path) or "").lower()
    if suffix not in READERS:
        return None
    try:
        refuse_unreadable(path)
        reader = READERS[suffix]
        if isinstance(reader, StoredFormat):
            return reader.shape(path)
        if reader is read_mrc and (shape := compressed_shape(path)) is not None:
            return shape
        # A fixed mode of bytes, since detecting it would read the file.
        data = reader(path, mode0=Mode0.SIGNED).data
    except CryosegError:
        return None
    owner: object = data
    while isinstance(owner, np.ndarray) and not isinstance(owner, np.memmap):
        owner = owner.base
    return data.shape if isinstance(owner, np.memmap | mmap) else None


def read_mask(path: Path | str, *, mode0: Mode0 = Mode0.AUTO) -> Tomogram:
    """Read a mask or label volume.

    Parameters
    ----------
    path
        File of the volume; its suffix determines the format.
    mode0
        Interpretation of the bytes of an MRC file of mode 0.

    Returns
    -------
    Tomogram
        (z, y, x) integers, including -1 (not annotated). Labels that are stored as floats become int16.

    Raises
    ------
    InputError
        If the volume cannot be read, or floats are not whole numbers from -32768 to 32767.
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
    path, suffixes = Path(path), _WRITABLE[output_format]
    if known_suffix(path, suffixes) is None:
        raise OutputError(
            f"{path}: is no name of a volume in the format {output_format}. Give a name that ends in "
            f"{', '.join(suffixes)}."
        )
    WRITERS[output_format](path, volume, geometry, dtype=dtype, label=label)


def made_by(command: str) -> str:
    """Return the label of an output: program, version and `command`, at most 80 characters."""
    return f"cryoseg {__version__} {command}"[:80]


def describe_suffixes(suffixes: tuple[str, ...] = VOLUME_SUFFIXES) -> str:
    """Return the suffixes for a message, in which suffixes with a compression appear once."""
    plain = [s for s in suffixes if not s.endswith((".gz", ".bz2"))]
    packed = [s for s in plain if s + ".gz" in suffixes]
    rest = [s for s in plain if s not in packed]
    return ", ".join([*packed[:-1], *(f"{s} (also with .gz or .bz2)" for s in packed[-1:]), *rest])


def check_finite(tomogram: Tomogram) -> None:
    """Raise an `InputError` if a volume contains NaN or infinite values, which is checked slice by slice."""
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
    """Return a sentence about a voxel size that is probably wrong, or None.

    A voxel size is improbable if it is not set (0) on an axis, exactly 1.0 A on all axes, or not within 0.1
    to 1000 A.
    """
    sizes = geometry.voxel_size
    fix = "Pass --pixel-size in angstrom."
    if 0.0 in sizes:
        return f"The header gives no voxel size (0 A). {fix}"
    if all(size == 1.0 for size in sizes):
        return f"The header's voxel size is exactly 1.0 A, which in a tomogram usually means not set. {fix}"
    low, high = PLAUSIBLE_PIXEL_SIZES
    if not all(low <= size <= high for size in sizes):
        return f"The header's voxel size is {_triple(sizes)} A (z, y, x), improbable for a tomogram. {fix}"
    return None


def require_voxel_size(tomogram: Tomogram) -> None:
    """Raise an `InputError` if the voxel size of a volume is improbable."""
    if doubt := improbable_voxel_size(tomogram.geometry):
        raise InputError(f"{tomogram.source}: {doubt}")


def refuse_unreadable(path: Path) -> None:
    """Raise an `InputError` that says why a path cannot be read as an image."""
    path = split_dataset(path)[0]
    if is_volume_folder(path):
        return
    if path.is_dir():
        raise InputError(f"{path}: this is a folder, not a volume. Give a file.")
    with reading(path):
        try:
            empty = path.stat().st_size == 0
        except FileNotFoundError as error:
            raise InputError(f"{path}: no such file. Check the name.") from error
        except ValueError as error:
            raise InputError(f"{str(path)!r}: is no file name ({error}).") from error
    if empty:
        raise InputError(f"{path}: the file is empty (0 bytes). Copy or export it again.")


def _shape_warnings(tomogram: Tomogram) -> list[str]:
    sentences = []
    slices = tomogram.data.shape[0]
    if slices == 1:
        sentences.append("The file holds a single image; it is treated as a volume of one slice.")
    # The voxel size of a single image in z has no meaning.
    sizes = [size for size in tomogram.geometry.voxel_size[slices == 1 :] if size > 0]
    if sizes and max(sizes) > min(sizes) * (1 + LARGEST_ANISOTROPY):
        sentences.append(
            f"The voxels are not cubes: {_triple(tomogram.geometry.voxel_size)} A (z, y, x). "
            "They are treated voxel by voxel, without resampling."
        )
    return sentences


def _triple(values: tuple[float, float, float]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
