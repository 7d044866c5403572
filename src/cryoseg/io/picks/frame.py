"""What a coordinate file leaves unsaid: voxel size, thickness axis, RELION's frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryoseg.config.pick import CoordsOrder, ThicknessAxis
from cryoseg.io.picks.names import ImageName, match_names
from cryoseg.io.picks.relion_frame import RelionFrame

# Where the file's z, y, x are found among CET-pick's z (thickness), y, x.
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
        In angstrom; 0.0 if unknown.
    shape
        (z, y, x); None if unknown.
    thickness_axis
        Of the file; CET-pick's own text files call that axis z whatever the file does.
    coords_order
        Columns of .coords files; None settles it by size and content.
    relion
        Needed for both RELION flavors of STAR, by `rlnTomoName` and by the volume's path; or None.
    diameter_angstrom
        Of the particle; 0.0 if unknown. Viewers draw it.
    unbinned
        Whether coordinates in STAR files that are read are RELION 4's unbinned pixels.
    keep_shifts
        Whether shifts of files that are read stay beside the coordinates, instead of being added to them.
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
        """(n, 3) z, y, x in CET-pick's naming to z, y, x of the file."""
        return np.asarray(points[:, list(_CETPICK_TO_FILE[self.thickness_axis])])

    def to_cetpick(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, 3) z, y, x of the file to CET-pick's order: the way back."""
        order = np.argsort(_CETPICK_TO_FILE[self.thickness_axis])
        return np.asarray(points[:, order])

    def relion_for(self, name: str) -> RelionFrame | None:
        """The RELION frame of a tomogram, by its name or path; the only one where frames have no names.

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
