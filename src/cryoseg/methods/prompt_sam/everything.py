"""Particles from SAM's automatic mask generator: the union of its masks of a particle's size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from segment_anything import SamAutomaticMaskGenerator

from cryoseg.errors import ConfigError
from cryoseg.methods.prompt_sam.network import PromptSam
from cryoseg.types import BoolArray

# Share of the area of a particle's disc that a mask may have; a choice of ours, wide enough for
# particles that are no discs and narrow enough to leave carbon, background and doublets out.
AREA_BAND = (0.25, 2.5)


def particle_sized_union(
    network: PromptSam,
    rgb: NDArray[np.uint8],
    *,
    particle_pixels: float,
) -> BoolArray:
    """Where any automatic mask whose area suits a particle lies.

    Parameters
    ----------
    network
        With three input channels.
    rgb
        (y, x, 3), 8 bit.
    particle_pixels
        Diameter of a particle in pixels of `rgb`.

    Returns
    -------
    BoolArray
        (y, x).

    Raises
    ------
    ConfigError
        If the network sees grey values, for which the generator has no place.
    """
    if network.geometry.in_channels != 3:
        raise ConfigError("--mode amg: needs a SAM that sees color images; use sam_vit_b, for example.")
    generator = SamAutomaticMaskGenerator(network.sam)
    disc = np.pi / 4 * particle_pixels**2
    union = np.zeros(rgb.shape[:2], bool)
    for mask in generator.generate(rgb):
        if AREA_BAND[0] * disc <= mask["area"] <= AREA_BAND[1] * disc:
            union |= mask["segmentation"]
    return union
