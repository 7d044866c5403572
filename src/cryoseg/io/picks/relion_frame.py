"""Convert between voxels of a tomogram and the coordinates of RELION 4 and 5.

RELION 4 uses pixels of the unbinned tomogram, and RELION 5 angstrom from its center. The voxel x of the
binned tomogram has the unbinned position x times the binning, as in RELION's own picker.

Sources: RELION 5's picker subtracts (N / 2 - 1) pixels (3dem/relion issue 1137, quoting its
Python picker); RELION's extraction adds N / 2 back (3dem/relion pull request 1353, quoting
`TomogramSet::loadTomogram`). The two differ by one unbinned pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryoseg.config.pick import CenterRule
from cryoseg.errors import InputError
from cryoseg.io.picks.star import numbers, read_tables

LARGEST_SIDE = 1_000_000  # Pixels.
_NAME = "rlnTomoName"
_PIXEL = "rlnTomoTiltSeriesPixelSize"
_SIZES = ("rlnTomoSizeZ", "rlnTomoSizeY", "rlnTomoSizeX")
_VOLUME, _BINNING = "rlnTomoReconstructedTomogram", "rlnTomoTomogramBinning"


@dataclass(frozen=True, kw_only=True)
class RelionFrame:
    """The unbinned tomogram of a tilt series.

    Attributes
    ----------
    pixel_size
        Pixel size of the tilt series in angstrom.
    size
        Size (z, y, x) of the unbinned tomogram in pixels.
    center
        Origin of the coordinates of RELION 5.
    name
        `rlnTomoName`; an empty one stands for the name of the tomogram.
    voxel_size
        Voxel size of the reconstructed tomogram in angstrom; 0.0 if unknown.
    """

    pixel_size: float
    size: tuple[int, int, int]
    center: CenterRule = CenterRule.PICKER
    name: str = ""
    voxel_size: float = 0.0

    def __post_init__(self) -> None:
        if self.pixel_size <= 0:
            raise InputError(f"--unbinned-pixel-size {self.pixel_size:g}: must be positive, in angstrom.")
        if min(self.size) < 1:
            raise InputError(f"--unbinned-size {self.size}: must be three positive numbers.")

    def _zero(self) -> NDArray[np.float64]:
        shift = 1.0 if self.center is CenterRule.PICKER else 0.0
        return np.asarray(self.size) / 2 - shift

    def to_unbinned(self, centers: NDArray[np.float64], voxel_size: float) -> NDArray[np.float64]:
        """Convert centers (n, 3) z, y, x from voxels to unbinned pixels (RELION 4)."""
        return np.asarray(centers * (voxel_size / self.pixel_size))

    def from_unbinned(self, pixels: NDArray[np.float64], voxel_size: float) -> NDArray[np.float64]:
        """Convert positions (n, 3) z, y, x from unbinned pixels to voxels."""
        return np.asarray(pixels * (self.pixel_size / voxel_size))

    def to_centered(self, centers: NDArray[np.float64], voxel_size: float) -> NDArray[np.float64]:
        """Convert centers (n, 3) z, y, x from voxels to angstrom from the center (RELION 5)."""
        return np.asarray((self.to_unbinned(centers, voxel_size) - self._zero()) * self.pixel_size)

    def from_centered(self, angstrom: NDArray[np.float64], voxel_size: float) -> NDArray[np.float64]:
        """Convert positions (n, 3) z, y, x from angstrom from the center to voxels."""
        return self.from_unbinned(angstrom / self.pixel_size + self._zero(), voxel_size)


def read_tomograms_star(path: Path, *, center: CenterRule = CenterRule.PICKER) -> dict[str, RelionFrame]:
    """Read the frames of all tomograms from a tomograms.star of RELION.

    Returns
    -------
    dict
        Frames by `rlnTomoName`, and by the path of the reconstructed tomogram if the file contains it.

    Raises
    ------
    InputError
        If a needed column is missing.
    """
    frames: dict[str, RelionFrame] = {}
    needed = (_NAME, _PIXEL, *_SIZES)
    tables = [table for _, table in read_tables(path) if _NAME in table.columns]
    if not tables:
        raise InputError(f"{path}: no table with the column {_NAME}. Give RELION's tomograms.star.")
    for table in tables:
        missing = [column for column in needed if column not in table.columns]
        if missing:
            raise InputError(
                f"{path}: the column {missing[0]} is missing. Pass --unbinned-pixel-size and "
                "--unbinned-size instead."
            )
        is_binned = _BINNING in table.columns
        binnings = numbers(table, [_BINNING], path)[:, 0] if is_binned else np.zeros(len(table))
        for number, (pixel, *sizes) in enumerate(numbers(table, (_PIXEL, *_SIZES), path)):
            row = table.iloc[number]
            if pixel <= 0 or not all(1 <= size <= LARGEST_SIDE for size in sizes):
                raise InputError(
                    f"{path}: row {number + 1} has the pixel size {pixel:g} and the sizes {sizes}, which no "
                    "tomogram has. Correct it."
                )
            z, y, x = map(int, sizes)
            name = str(row[_NAME])
            frame = RelionFrame(
                pixel_size=float(pixel),
                size=(z, y, x),
                center=center,
                name=name,
                voxel_size=float(pixel * max(binnings[number], 0.0)),
            )
            frames[name] = frame
            if _VOLUME in table.columns:
                frames[str(row[_VOLUME])] = frame
    return frames
