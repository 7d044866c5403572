"""Volumes of formats that store voxels in chunks or pages, which are opened before the voxels are read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoseg.config import Mode0
from cryoseg.errors import InputError
from cryoseg.types import Geometry, Tomogram


@dataclass(frozen=True, kw_only=True)
class StoredVolume:
    """An opened volume whose voxels are not yet read.

    Attributes
    ----------
    shape
        Shape (z, y, x).
    geometry
        Voxel size and origin in the file.
    read
        Function that returns the voxels in the order of `shape`, possibly with further axes of length one.
    warnings
        Doubtful properties of the file, one sentence each.
    """

    shape: tuple[int, int, int]
    geometry: Geometry
    read: Callable[[], NDArray[Any]]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class StoredFormat:
    """A format of such volumes.

    Attributes
    ----------
    name
        Name of the format in messages.
    open
        Function that opens a file for the length of a block.
    """

    name: str
    open: Callable[[Path], AbstractContextManager[StoredVolume]]

    def __call__(self, path: Path, *, mode0: Mode0) -> Tomogram:
        """Read a volume in the data type of the file; `mode0` has no meaning in these formats.

        Truth values are returned as uint8.

        Raises
        ------
        InputError
            If the file cannot be read, is damaged, or does not contain one volume of numbers.
        """
        with decoding(path, self.name), self.open(path) as volume:
            data = volume.read().reshape(volume.shape)
        return Tomogram(
            data=data.view(np.uint8) if data.dtype.kind == "b" else data,
            geometry=volume.geometry,
            source=path,
            warnings=volume.warnings,
        )

    def shape(self, path: Path) -> tuple[int, int, int]:
        """Return the shape (z, y, x) of a volume without reading its voxels.

        Raises
        ------
        InputError
            If the file cannot be opened, or does not contain one volume of numbers.
        """
        with decoding(path, self.name), self.open(path) as volume:
            return volume.shape


@contextmanager
def decoding(path: Path, name: str) -> Iterator[None]:
    """Raise all errors of the library that decodes a format called `name` as an `InputError`."""
    try:
        yield
    except InputError:
        raise
    except MemoryError as error:
        raise too_large(path) from error
    except Exception as error:  # Libraries raise errors of any type for damaged files.
        text = " ".join(str(error).split())
        raise InputError(
            f"{path}: cannot be read as {name} ({type(error).__name__}: {text}). Copy or export it again."
        ) from error


def positive_number(value: Any) -> float:
    """Return a value of metadata as a number; 0 if it is not one positive, finite number."""
    try:
        number = float(np.asarray(value).item())
    except (TypeError, ValueError):
        return 0.0
    return number if math.isfinite(number) and number > 0 else 0.0


def too_large(path: Path) -> InputError:
    """Return the error for a volume that exceeds the memory."""
    return InputError(f"{path}: does not fit into the memory of this machine. Bin it, or crop it.")


def refuse_other_types(dtype: np.dtype[Any], path: Path) -> None:
    """Raise an `InputError` if values of a type are not real numbers or truth values."""
    if dtype.kind not in "iufb":
        raise InputError(f"{path}: holds values of type {dtype}, not densities. Give a real-space volume.")
