"""Properties of a tomogram that coordinate files do not contain: voxel size, axes, RELION's frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryoseg.config.pick import CoordsOrder, ThicknessAxis
from cryoseg.io.picks.names import ImageName, match_names
from cryoseg.io.picks.relion_frame import RelionFrame

# Indices of the file's z, y, x in CET-pick's order z (thickness), y, x.
_CETPICK_TO_FILE = {
    ThicknessAxis.Z: (0, 1, 2),
    ThicknessAxis.Y: (1, 0, 2),
    ThicknessAxis.X: (1, 2, 0),
}


@dataclass(frozen=True, kw_only=True)
class PickFrame:
    """The tomogram that coordinates belong to.

    Attributes
    ----------
    voxel_size
        Voxel size in angstrom; 0 if unknown.
    shape
        Shape (z, y, x); None if unknown.
    thickness_axis
        Axis of the file along which the sample is thin, which text files of CET-pick always call z.
    coords_order
        Columns of .coords files; None determines them by size and content.
    relion
        Frames for the STAR files of RELION 4 and 5, by `rlnTomoName` and by the path of the volume; or None.
    diameter_angstrom
        Diameter of the particle for viewers; 0 if unknown.
    unbinned
        Whether coordinates in input STAR files are unbinned pixels, as in RELION 4.
    keep_shifts
        Whether shifts in input files are kept beside the coordinates and not added to them.
    """

    voxel_size: float = 0.0
    shape: tuple[int, ...] | None = None
    thickness_axis: ThicknessAxis = ThicknessAxis.Z
    coords_order: CoordsOrder | None = None
    relion: dict[str, RelionFrame] | None = None
    diameter_angstrom: float = 0.0
    unbinned: bool = False
    keep_shifts: bool = False

    def from_cetpick(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert points (n, 3) from CET-pick's z, y, x to z, y, x of the file."""
        return np.asarray(points[:, list(_CETPICK_TO_FILE[self.thickness_axis])])

    def to_cetpick(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert points (n, 3) from z, y, x of the file to CET-pick's z, y, x."""
        order = np.argsort(_CETPICK_TO_FILE[self.thickness_axis])
        return np.asarray(points[:, order])

    def relion_for(self, name: str) -> RelionFrame | None:
        """Return the RELION frame of a tomogram by name or path, or the only frame if frames have no names.

        Raises
        ------
        InputError
            If several frames fit the name.
        """
        frames = self.relion or {}
        if name in frames:
            return frames[name]
        keys = [key for key in frames if key]
        (found,) = match_names([ImageName(name, Path())], [ImageName(key, Path()) for key in keys])
        return frames.get("") if found is None else frames[keys[found]]
