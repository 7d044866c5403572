"""Read and write MRC2014 volumes: .mrc .mrcs .rec .map .st .ali .preali, plain, gzip or bzip2."""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cryoseg.config import Mode0
from cryoseg.errors import InputError, OutputError, reading
from cryoseg.io.images.mrc_bytes import read_signedness
from cryoseg.io.images.mrc_header import HEADER_BYTES, MrcHeader, parse_header
from cryoseg.io.images.mrc_output import build_header
from cryoseg.io.images.scratch import hold_bytes
from cryoseg.io.images.stored import too_large
from cryoseg.io.outputs import atomic_output
from cryoseg.types import ExtendedHeader, Geometry, Tomogram


class SliceSource(Protocol):
    """Object that returns one (y, x) slice at a time: an array, or slices that are computed on access."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (z, y, x)."""

    def __getitem__(self, z: int, /) -> Any:
        """Return slice `z`, (y, x)."""


def volume_shape(data: SliceSource, path: Path) -> tuple[int, int, int]:
    """Return the shape (z, y, x) of a volume that is written to `path`.

    Raises
    ------
    OutputError
        If the array is not a volume.
    """
    if len(data.shape) != 3 or 0 in data.shape:
        raise OutputError(f"{path}: an array of shape {data.shape} is no volume (z, y, x).")
    return int(data.shape[0]), int(data.shape[1]), int(data.shape[2])


def iterate_slices(data: SliceSource, dtype: np.dtype[Any], path: Path) -> Iterator[NDArray[Any]]:
    """Yield the slices of a volume, (y, x) and contiguous, in a data type.

    Parameters
    ----------
    data
        (z, y, x) volume, of which each slice is requested once and in order.
    dtype
        Type of the values in the file; integers must be within its range.
    path
        Path of the file, for messages.

    Raises
    ------
    OutputError
        If a slice has another shape, or a value does not fit.
    """
    depth, *image_shape = volume_shape(data, path)
    for z in range(depth):
        image = np.asarray(data[z])
        if image.shape != tuple(image_shape):
            raise OutputError(f"{path}: slice {z} has shape {image.shape}, not {tuple(image_shape)}.")
        if dtype.kind in "iu" and image.dtype.kind != "b":
            limits = np.iinfo(dtype)
            if image.dtype.kind not in "iu" or image.min() < limits.min or image.max() > limits.max:
                raise OutputError(
                    f"{path}: values of type {image.dtype} do not fit into {dtype.name} "
                    f"({limits.min} to {limits.max}); write them as logits (float32)."
                )
        with np.errstate(over="ignore"):
            yield np.ascontiguousarray(image, dtype=dtype)


_CHUNK = 1 << 22
_LARGEST_SURPLUS = 1 << 28
_OPENERS = {b"\x1f\x8b\x08": gzip.open, b"BZh": bz2.open}
_MODES = {"int8": 0, "int16": 1, "float32": 2, "uint16": 6, "float16": 12}


def read_mrc(path: Path, *, mode0: Mode0 = Mode0.AUTO) -> Tomogram:
    """Read an MRC volume.

    Compression is recognized by the first bytes of the file, not by its name. Uncompressed data with the byte
    order of this machine are memory-mapped read-only; other data are read into memory.

    Parameters
    ----------
    path
        File to read.
    mode0
        Interpretation of the bytes of mode 0. `auto` follows the stamp of IMOD; without a stamp, the
        statistics in the header and the histogram decide, with a warning unless the bytes are certainly
        signed.

    Returns
    -------
    Tomogram
        (z, y, x) volume with the data type of the file: int8 or uint8 (mode 0), int16 (1), float32 (2),
        uint16 (6), float16 (12), uint8 of 0 to 15 (101). The caller converts float16.

    Raises
    ------
    InputError
        If the file cannot be read, is not an MRC file, is shorter than its header says, or contains
        complex numbers, colors or a stack of volumes.
    """
    with _reading(path):
        opener = _opener(path)
        return _read_plain(path, mode0) if opener is None else _read_compressed(path, mode0, opener)


def compressed_shape(path: Path) -> tuple[int, ...] | None:
    """Return the shape (z, y, x) in the header of a compressed file; None if the file is not compressed.

    Raises
    ------
    InputError
        If the file cannot be read, or is no MRC file.
    """
    with _reading(path):
        opener = _opener(path)
        if opener is None:
            return None
        with opener(path, "rb") as stream:
            block = stream.read(HEADER_BYTES)
    header = parse_header(block, path=path, mode0=Mode0.SIGNED, file_bytes=None)
    return tuple(header.stored_shape[axis] for axis in header.axes)


def write_mrc(path: Path, data: SliceSource, geometry: Geometry, *, dtype: str, label: str) -> None:
    """Write an MRC2014 volume with its extended header, as `cryoseg.io.images.volumes.Writer` describes.

    `dtype` is int8, int16, uint16, float16 or float32.
    """
    shape = volume_shape(data, path)
    voxel_type = np.dtype(dtype).newbyteorder("<")
    statistics = _Statistics()
    with atomic_output(path, overwrite=True) as temporary, temporary.open("wb") as file:
        file.write(bytes(HEADER_BYTES))
        if geometry.extended_header is not None:
            file.write(geometry.extended_header.content)
        for image in iterate_slices(data, voxel_type, path):
            statistics.add(image)
            file.write(image.data)
        file.seek(0)
        file.write(build_header(shape, _MODES[dtype], geometry, density=statistics.density, label=label))


def _opener(path: Path) -> Any:
    """Return the function that opens a compressed file; None if the file is not compressed."""
    with path.open("rb") as file:
        return _OPENERS.get(file.read(3))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    with reading(path):
        try:
            yield
        except (EOFError, OSError, zlib.error) as error:
            # gzip and bz2 report damaged data by an error of the operating system without a number.
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise InputError(
                f"{path}: the compressed data is damaged ({error}). Copy or download it again."
            ) from error
        except MemoryError as error:
            raise too_large(path) from error


class _Statistics:
    """Minimum, maximum, mean and standard deviation, merged slice by slice.

    Source: Chan, Golub and LeVeque 1983, The American Statistician 37, 242, for the merged variance.
    """

    def __init__(self) -> None:
        self._low, self._high = np.inf, -np.inf
        self._count = 0
        self._mean = 0.0
        self._squares = 0.0

    def add(self, image: NDArray[Any]) -> None:
        self._low = min(self._low, float(image.min()))
        self._high = max(self._high, float(image.max()))
        with np.errstate(invalid="ignore", over="ignore"):
            mean = float(image.mean(dtype=np.float64))
            squares = float(image.var(dtype=np.float64)) * image.size
        total = self._count + image.size
        shift = mean - self._mean
        self._squares += squares + shift * shift * self._count * image.size / total
        self._mean += shift * image.size / total
        self._count = total

    @property
    def density(self) -> tuple[float, float, float, float]:
        values = (self._low, self._high, self._mean, (self._squares / self._count) ** 0.5)
        # In MRC2014, a maximum below the minimum marks unknown statistics.
        return values if np.all(np.isfinite(values)) else (0.0, -1.0, -2.0, -1.0)


def _read_plain(path: Path, mode0: Mode0) -> Tomogram:
    size = path.stat().st_size
    with path.open("rb") as file:
        header = parse_header(file.read(HEADER_BYTES), path=path, mode0=mode0, file_bytes=size)
        warnings = list(header.warnings)
        length = _extended_bytes(header, size - HEADER_BYTES, path, warnings)
        extended = _extended(file.read(length) if header.is_extended_kept else b"", header)
        offset = HEADER_BYTES + length
        surplus = size - offset - header.data_bytes
        if surplus > 0:
            warnings.append(f"The file is {surplus} bytes longer than its header says; the rest is ignored.")
        if header.dtype.isnative and not header.packed and offset % header.dtype.itemsize == 0:
            mapped = np.memmap(file, header.dtype, mode="r", offset=offset, shape=header.stored_shape)
            return _tomogram(np.asarray(mapped), header, extended, path, warnings)
        file.seek(offset)
        stored = np.fromfile(file, np.uint8, header.data_bytes)
    return _tomogram(_decode(stored, header), header, extended, path, warnings)


def _read_compressed(path: Path, mode0: Mode0, opener: Any) -> Tomogram:
    with opener(path, "rb") as stream:
        header = parse_header(stream.read(HEADER_BYTES), path=path, mode0=mode0, file_bytes=None)
        warnings = list(header.warnings)
        # Room grows with the content of the stream, so that large sizes in a damaged header allocate nothing.
        body = hold_bytes(_chunks(stream, header.extended_bytes + header.data_bytes), path)
        # The checksum is verified when the end of the stream is read.
        surplus = sum(len(chunk) for chunk in _chunks(stream, _LARGEST_SURPLUS))
        if surplus > 0:
            warnings.append(
                f"The file is {surplus} bytes or more longer than its header says; the rest is ignored."
            )
    offset = _extended_bytes(header, len(body), path, warnings)
    extended = _extended(body[:offset].tobytes() if header.is_extended_kept else b"", header)
    stored = body[offset : offset + header.data_bytes]
    return _tomogram(_decode(stored, header), header, extended, path, warnings)


def _chunks(stream: IO[bytes], count: int) -> Iterator[bytes]:
    """Yield up to `count` bytes of a stream in pieces."""
    while count > 0 and (chunk := stream.read(min(_CHUNK, count))):
        count -= len(chunk)
        yield chunk


def _extended_bytes(header: MrcHeader, available: int, path: Path, warnings: list[str]) -> int:
    """Return the length of the extended header, which is 0 if the file has no room for it."""
    if header.extended_bytes + header.data_bytes <= available:
        return header.extended_bytes
    if header.data_bytes == available:
        warnings.append(
            f"The header announces an extended header of {header.extended_bytes} bytes that is not there; "
            "the data begins right after the header."
        )
        return 0
    sections, rows, columns = header.stored_shape
    raise InputError(
        f"{path}: the file is cut short or its header is damaged: {columns} x {rows} x {sections} voxels "
        f"(columns, rows, sections) need {header.extended_bytes + header.data_bytes} bytes after the header, "
        f"{available} are there. Copy or export it again."
    )


def _decode(stored: NDArray[np.uint8], header: MrcHeader) -> NDArray[Any]:
    """Return voxels (sections, rows, columns) in the byte order of this machine from the bytes of a file."""
    if header.packed:
        sections, rows, columns = header.stored_shape
        pairs = stored.reshape(sections, rows, (columns + 1) // 2)
        data = np.empty(header.stored_shape, np.uint8)
        np.bitwise_and(pairs, 15, out=data[:, :, 0::2])  # The low half of a byte is the first voxel.
        np.right_shift(pairs[:, :, : columns // 2], 4, out=data[:, :, 1::2])
        return data
    data = stored.view(header.dtype).reshape(header.stored_shape)
    if not header.dtype.isnative:
        data = data.byteswap(inplace=True).view(header.dtype.newbyteorder("="))
    return data


def _extended(content: bytes, header: MrcHeader) -> ExtendedHeader | None:
    if not content:
        return None
    return ExtendedHeader(kind=header.extended_kind, counts=header.extended_counts, content=content)


def _tomogram(
    stored: NDArray[Any],
    header: MrcHeader,
    extended: ExtendedHeader | None,
    path: Path,
    warnings: list[str],
) -> Tomogram:
    if header.is_signedness_open:
        dtype, warning = read_signedness(stored, header.density)
        stored = stored.view(dtype)
        warnings += [warning] if warning else []
    return Tomogram(
        data=stored.transpose(header.axes),
        geometry=replace(header.geometry, extended_header=extended),
        source=path,
        warnings=tuple(warnings),
    )
