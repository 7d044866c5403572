"""Frozen results that travel between the rooms of the house.

Arrays are always (z, y, x) or (y, x); only `cryoseg.io` turns axes around.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
LabelArray = NDArray[np.integer[Any]]


@dataclass(frozen=True, kw_only=True)
class ExtendedHeader:
    """What lies between header and voxels of an MRC file, kept byte by byte.

    Attributes
    ----------
    kind
        EXTTYP, such as SERI, FEI1 or CCP4; zeros in older files.
    counts
        The four bytes of nint and nreal, by which IMOD's older files tell what is in it.
    content
        As stored, little-endian.
    """

    kind: bytes
    counts: bytes
    content: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Where a volume lies in space, as its MRC header says; enough to write an overlay.

    Attributes
    ----------
    voxel_size
        (z, y, x) in angstrom; 0.0 where the header does not say.
    origin
        (z, y, x) of the header's origin field, in angstrom.
    start
        (z, y, x) of nzstart, nystart, nxstart, in voxels.
    space_group
        ispg: 0 image stack, 1 volume.
    imod_origin
        The origin's sign follows IMOD's older convention (no MRC2014 version in the header). Kept,
        because IMOD and ChimeraX disagree about such files and only the same header agrees with both.
    extended_header
        Of an MRC file, for outputs on the same grid; None where there is none to keep.
    """

    voxel_size: tuple[float, float, float] = (0.0, 0.0, 0.0)
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    start: tuple[int, int, int] = (0, 0, 0)
    space_group: int = 1
    imod_origin: bool = False
    extended_header: ExtendedHeader | None = None


@dataclass(frozen=True, kw_only=True)
class Tomogram:
    """A volume as read.

    Attributes
    ----------
    data
        (z, y, x), in the file's own data type (native byte order).
    geometry
        Voxel size, origin and start indices of the header.
    source
        The file it came from.
    warnings
        Sentences about what was wrong with the header, for the user.
    """

    data: NDArray[Any]
    geometry: Geometry = field(default_factory=Geometry)
    source: Path = Path("array")
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Micrograph:
    """One image as read.

    Attributes
    ----------
    data
        (y, x) float32; row 0 is the first row of the file.
    pixel_size
        In angstrom; 0.0 where nobody knows it.
    geometry
        For outputs that lie over it; a volume of one slice.
    source
        The file it came from.
    warnings
        Sentences about what was doubtful, for the user.
    """

    data: FloatArray
    pixel_size: float = 0.0
    geometry: Geometry = field(default_factory=Geometry)
    source: Path = Path("array")
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SegmentResult:
    """What one run over one tomogram gives.

    Attributes
    ----------
    mask
        (z, y, x), True on membrane: logits above the threshold.
    logits
        (z, y, x) float32, before the sigmoid.
    post_processed
        The mask after the post-processing steps, or None if none was asked for.
    stage1_logits
        Logits of the first stage, kept only on request.
    stage2_input
        What the second stage saw (normalized tomogram plus fused logits), kept only on request.
    """

    mask: BoolArray
    logits: FloatArray
    post_processed: BoolArray | None = None
    stage1_logits: FloatArray | None = None
    stage2_input: FloatArray | None = None


@dataclass(frozen=True, kw_only=True)
class Picks:
    """Positions of particles in one image.

    Attributes
    ----------
    centers
        (n, 3) z, y, x or (n, 2) y, x, in voxels (pixels) of `source`, highest score first. Voxel
        centers lie at whole numbers, from 0.
    scores
        (n,) in [0, 1], or None where nobody scored them.
    tracks
        (n,) number of the filament that a point lies on, or None.
    shape
        Of the image, in axis order; None if unknown.
    pixel_size
        In angstrom; 0.0 if unknown.
    diameter_px
        Of the particle, in voxels (pixels); 0.0 if unknown.
    source
        The image, or the file that the picks were read from.
    warnings
        Sentences about what was doubtful in the file, for the user.
    left_out
        Columns of the file that a conversion does not carry over.
    """

    centers: NDArray[np.float64]
    scores: FloatArray | None = None
    tracks: NDArray[np.int64] | None = None
    shape: tuple[int, ...] | None = None
    pixel_size: float = 0.0
    diameter_px: float = 0.0
    source: Path = Path("array")
    warnings: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.centers)
