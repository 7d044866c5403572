"""The scale of a tomogram whose header may not tell it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cryoseg.io.images.volumes import improbable_voxel_size
from cryoseg.types import Tomogram


@dataclass(frozen=True, kw_only=True)
class PixelSize:
    """The scale that a run works at, in angstrom, and where it came from: option, header or model."""

    angstrom: float
    source: str


def settle_pixel_size(
    tomogram: Tomogram, *, override: float | None, assumed: float
) -> tuple[PixelSize, str | None]:
    """The pixel size to work at, and a warning where the header cannot be believed.

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
        return PixelSize(angstrom=override, source="option"), None
    doubt = improbable_voxel_size(tomogram.geometry)
    if doubt is not None:
        warning = f"{tomogram.source.name}: {doubt} The model's own scale, {assumed:g} A, is assumed."
        return PixelSize(angstrom=assumed, source="assumed"), warning
    return PixelSize(angstrom=float(np.mean(tomogram.geometry.voxel_size)), source="header"), None
