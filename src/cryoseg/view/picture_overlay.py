"""A picture with its mask, to judge the mask by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

FILL_RGB = np.array([60.0, 220.0, 90.0])
FILL_SHARE = 0.25
OUTLINE_OF_SIDE = 300  # the outline is one pixel wide for so many of the picture's longer side


def draw_mask(rgb: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """(y, x, 3): the picture, tinted inside the mask, with an outline."""
    width = max(1, round(max(mask.shape) / OUTLINE_OF_SIDE))
    outline = mask & ~ndimage.binary_erosion(mask, iterations=width)
    picture = rgb.astype(np.float32)
    picture[mask] = (1 - FILL_SHARE) * picture[mask] + FILL_SHARE * FILL_RGB
    picture[outline] = FILL_RGB
    return np.rint(picture).astype(np.uint8)
