"""Draw the mask of a picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

FILL_RGB = np.array([60.0, 220.0, 90.0])
FILL_SHARE = 0.25
OUTLINE_OF_SIDE = 300  # Pixels of the longer side of the picture per pixel of the width of the outline.


def draw_mask(rgb: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Tint the pixels of a (y, x, 3) picture inside a (y, x) mask and draw the outline of the mask."""
    width = max(1, round(max(mask.shape) / OUTLINE_OF_SIDE))
    outline = mask & ~ndimage.binary_erosion(mask, iterations=width)
    picture = rgb.astype(np.float32)
    picture[mask] = (1 - FILL_SHARE) * picture[mask] + FILL_SHARE * FILL_RGB
    picture[outline] = FILL_RGB
    return np.rint(picture).astype(np.uint8)
