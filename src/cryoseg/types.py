"""Frozen data classes that the packages exchange.

Arrays have the axes (z, y, x) or (y, x); only `cryoseg.io` changes the order of axes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
LabelArray = NDArray[np.integer[Any]]
Points = NDArray[np.float64]  # (n, d) positions in axis order.


@dataclass(frozen=True, kw_only=True)
class ExtendedHeader:
    """The extended header of an MRC file, kept byte by byte.

    Attributes
    ----------
    kind
        Type (EXTTYP), such as SERI, FEI1 or CCP4; zeros in older files.
    counts
        The four bytes of nint and nreal, which describe the content in older files of IMOD.
    content
        Content in little-endian order.
    """

    kind: bytes
    counts: bytes
    content: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """The position of a volume in space according to its MRC header, for outputs on the same grid.

    Attributes
    ----------
    voxel_size
        (z, y, x) voxel size in angstrom; 0.0 if unknown.
    origin
        (z, y, x) origin in angstrom.
    start
        (z, y, x) start indices (nzstart, nystart, nxstart) in voxels.
    space_group
        Space group (ispg): 0 for an image stack, 1 for a volume.
    imod_origin
        Whether the sign of the origin follows IMOD's older convention (no MRC2014 version in the header).
        Outputs keep it, because IMOD and ChimeraX interpret such files differently.
    extended_header
        Extended header; None if the file has none.
    """

    voxel_size: tuple[float, float, float] = (0.0, 0.0, 0.0)
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    start: tuple[int, int, int] = (0, 0, 0)
    space_group: int = 1
    imod_origin: bool = False
    extended_header: ExtendedHeader | None = None


@dataclass(frozen=True, kw_only=True)
class Tomogram:
    """A volume as read from a file.

    Attributes
    ----------
    data
        (z, y, x) values in the data type of the file.
    geometry
        Voxel size, origin and start indices from the header.
    source
        Path of the file.
    warnings
        Messages to the user about the header.
    """

    data: NDArray[Any]
    geometry: Geometry = field(default_factory=Geometry)
    source: Path = Path("array")
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Micrograph:
    """An image as read from a file.

    Attributes
    ----------
    data
        (y, x) float32 values; row 0 is the first row of the file.
    pixel_size
        Pixel size in angstrom; 0.0 if unknown.
    geometry
        Geometry of the image as a volume of one slice, for outputs on the same grid.
    source
        Path of the file.
    warnings
        Messages to the user about the file.
    """

    data: FloatArray
    pixel_size: float = 0.0
    geometry: Geometry = field(default_factory=Geometry)
    source: Path = Path("array")
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SegmentResult:
    """The segmentation of one tomogram.

    Attributes
    ----------
    mask
        (z, y, x) mask of the logits above the threshold.
    logits
        (z, y, x) float32 logits.
    post_processed
        Mask after post-processing; None without post-processing.
    stage1_logits
        Logits of stage 1; None unless requested.
    stage2_input
        Input of stage 2 (normalized tomogram plus fused logits); None unless requested.
    uncertainty
        (z, y, x) float32 standard deviation of the probability over orientations; None unless requested.
    """

    mask: BoolArray
    logits: FloatArray
    post_processed: BoolArray | None = None
    stage1_logits: FloatArray | None = None
    stage2_input: FloatArray | None = None
    uncertainty: FloatArray | None = None


# Arrays of `Picks` that may be missing, each with one entry for every pick.
PER_PICK = ("scores", "tracks", "rotations", "shifts", "classes", "half_sets")


@dataclass(frozen=True, kw_only=True)
class Picks:
    """Positions of particles in one image.

    Attributes
    ----------
    centers
        (n, 3) z, y, x or (n, 2) y, x positions in voxels (pixels) of the image, highest score first. The
        center of the first voxel is 0.
    scores
        (n,) scores in [0, 1]; None if there are none.
    tracks
        (n,) number of the filament of each point; None if there are no filaments.
    rotations
        (n, 3, 3) matrices that turn the reference particle into the image: an active rotation of column
        vectors (x, y, z), so that `rotations[i] @ (0, 0, 1)` is the direction, in the image, of the z axis of
        particle i. The coordinate axes are those of the image, in voxels. None if there are no orientations.
    shifts
        (n, 3) or (n, 2) offsets in voxels, in the order of `centers`, which are not yet applied: a particle
        lies at `centers + shifts`. None if the centers are the particles.
    classes
        (n,) number of the class of each particle; None if there are none.
    half_sets
        (n,) half set of each particle, 1 or 2; None if there are none.
    columns
        Further columns of the file by name, each with (n,) texts.
    shape
        Shape of the image in axis order; None if unknown.
    pixel_size
        Pixel size in angstrom; 0.0 if unknown.
    diameter_px
        Diameter of a particle in voxels (pixels); 0.0 if unknown.
    source
        Path of the image, or of the file from which the picks were read.
    warnings
        Messages to the user about the file.
    """

    centers: NDArray[np.float64]
    scores: FloatArray | None = None
    tracks: NDArray[np.int64] | None = None
    rotations: NDArray[np.float64] | None = None
    shifts: NDArray[np.float64] | None = None
    classes: NDArray[np.int64] | None = None
    half_sets: NDArray[np.int64] | None = None
    columns: Mapping[str, NDArray[np.object_]] = field(default_factory=dict)
    shape: tuple[int, ...] | None = None
    pixel_size: float = 0.0
    diameter_px: float = 0.0
    source: Path = Path("array")
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.centers)

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Picks:
        """Return the chosen picks, given as a mask or as indices, with all that belongs to them."""
        arrays = {name: getattr(self, name) for name in PER_PICK}
        taken: dict[str, Any] = {
            name: None if array is None else array[chosen] for name, array in arrays.items()
        }
        columns = {name: texts[chosen] for name, texts in self.columns.items()}
        return replace(self, centers=self.centers[chosen], columns=columns, **taken)


@dataclass(frozen=True, kw_only=True)
class ListedImage:
    """An image as a STAR file of RELION lists it.

    Attributes
    ----------
    name
        Name in the file, relative to the folder of the project.
    pixel_size
        Pixel size in angstrom; None if the file does not give it.
    tomogram
        Name of the tilt series (`rlnTomoName`); empty if the file has none.
    project
        Folder of the project.
    """

    name: str
    pixel_size: float | None = None
    tomogram: str = ""
    project: Path = Path()
