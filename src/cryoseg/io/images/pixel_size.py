"""Pixel sizes of tomograms whose header may not give them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cryoseg.io.images.volumes import improbable_voxel_size
from cryoseg.types import Geometry, Tomogram

# A pixel size that differs from the header's by this factor is reported. Binning by 2 or 4 that the
# header does not know is common; nanometers for angstrom are a factor of 10.
FARTHEST = 5.0
# Source of a pixel size that neither the header nor an option gives.
ASSUMED = "assumed"


@dataclass(frozen=True, kw_only=True)
class PixelSize:
    """Pixel size in angstrom, and its source: option, header or assumed."""

    angstrom: float
    source: str


def contradiction(geometry: Geometry, pixel_size: float) -> str | None:
    """Return a warning if a given pixel size in angstrom is far from that of the header; otherwise None."""
    header = geometry.voxel_size[2]
    if improbable_voxel_size(geometry) or 1 / FARTHEST < pixel_size / header < FARTHEST:
        return None
    return (
        f"The pixel size of {pixel_size:g} A that was given is {pixel_size / header:.3g} times the header's "
        f"{header:.4g} A. Check it: it must be in angstrom (1 nm is 10 A), of the image as it is binned."
    )


def with_pixel_size(tomogram: Tomogram, pixel_size: float) -> Tomogram:
    """Return a tomogram with this pixel size in angstrom, and a warning if the header differs much."""
    doubt = contradiction(tomogram.geometry, pixel_size)
    return replace(
        tomogram,
        geometry=replace(tomogram.geometry, voxel_size=(pixel_size,) * 3),
        warnings=(*tomogram.warnings, *([doubt] if doubt else [])),
    )


def settle_pixel_size(
    tomogram: Tomogram, *, override: float | None, assumed: float
) -> tuple[PixelSize, str | None]:
    """Return the pixel size of a tomogram, and a warning if it is doubtful.

    Parameters
    ----------
    tomogram
        Tomogram as it was read.
    override
        Given pixel size in angstrom, if any.
    assumed
        Pixel size of the model in angstrom, which is used if the header gives none.
    """
    if override is not None:
        doubt = contradiction(tomogram.geometry, override)
        warning = f"{tomogram.source.name}: {doubt}" if doubt else None
        return PixelSize(angstrom=override, source="option"), warning
    doubt = improbable_voxel_size(tomogram.geometry)
    if doubt is not None:
        warning = f"{tomogram.source.name}: {doubt} The model's own scale, {assumed:g} A, is assumed."
        return PixelSize(angstrom=assumed, source=ASSUMED), warning
    return PixelSize(angstrom=float(np.mean(tomogram.geometry.voxel_size)), source="header"), None
