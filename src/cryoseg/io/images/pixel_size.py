"""The scale of a tomogram whose header may not tell it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cryoseg.io.images.volumes import improbable_voxel_size
from cryoseg.types import Geometry, Tomogram

# A pixel size that differs from the header's by this factor is reported. Binning by 2 or 4 that the
# header does not know is common; nanometers for angstrom are a factor of 10.
FARTHEST = 5.0


@dataclass(frozen=True, kw_only=True)
class PixelSize:
    """The scale that a run works at, in angstrom, and where it came from: option, header or model."""

    angstrom: float
    source: str


def contradiction(geometry: Geometry, pixel_size: float) -> str | None:
    """What is doubtful about a pixel size that is far from a header's, or None.

    Parameters
    ----------
    geometry
        As the header gives it.
    pixel_size
        In angstrom, as the user gave it.
    """
    header = geometry.voxel_size[2]
    if improbable_voxel_size(geometry) or 1 / FARTHEST < pixel_size / header < FARTHEST:
        return None
    return (
        f"The pixel size of {pixel_size:g} A that was given is {pixel_size / header:.3g} times the header's "
        f"{header:.4g} A. Check it: it must be in angstrom (1 nm is 10 A), of the image as it is binned."
    )


def with_pixel_size(tomogram: Tomogram, pixel_size: float) -> Tomogram:
    """A tomogram with another voxel size than its header's, and a warning where they contradict each other.

    Parameters
    ----------
    tomogram
        As read.
    pixel_size
        In angstrom, along all axes.
    """
    doubt = contradiction(tomogram.geometry, pixel_size)
    return replace(
        tomogram,
        geometry=replace(tomogram.geometry, voxel_size=(pixel_size,) * 3),
        warnings=(*tomogram.warnings, *([doubt] if doubt else [])),
    )


def settle_pixel_size(
    tomogram: Tomogram, *, override: float | None, assumed: float
) -> tuple[PixelSize, str | None]:
    """The pixel size to work at, and a warning where it or the header cannot be believed.

    Parameters
    ----------
    tomogram
        As read.
    override
        `--pixel-size`, in angstrom.
    assumed
        The model's own scale, taken where the header gives none.
    """
    if override is not None:
        doubt = contradiction(tomogram.geometry, override)
        warning = f"{tomogram.source.name}: {doubt}" if doubt else None
        return PixelSize(angstrom=override, source="option"), warning
    doubt = improbable_voxel_size(tomogram.geometry)
    if doubt is not None:
        warning = f"{tomogram.source.name}: {doubt} The model's own scale, {assumed:g} A, is assumed."
        return PixelSize(angstrom=assumed, source="assumed"), warning
    return PixelSize(angstrom=float(np.mean(tomogram.geometry.voxel_size)), source="header"), None
