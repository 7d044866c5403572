"""Draw a preview of a segmentation: sections and slices with outlines, and a histogram of the logits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from cryoseg.core.grids.robust import SAMPLE_VOXELS
from cryoseg.types import BoolArray, FloatArray
from cryoseg.view.sections import Section, draw_sections, histogram, panel_size, to_grey

OUTLINE_RGB = (255, 170, 0)


def draw_preview(
    data: NDArray[Any],
    mask: BoolArray,
    *,
    pixel_size: float | None = None,
    logits: FloatArray | None = None,
    logit_threshold: float | None = None,
) -> Image.Image:
    """Draw central sections in three planes and six slices with the outline of the mask.

    Parameters
    ----------
    data, mask
        (z, y, x) volume and mask.
    pixel_size
        Pixel size in angstrom; there is no scale bar without it.
    logits
        (z, y, x) logits; there is no histogram without them.
    logit_threshold
        Threshold that the histogram marks.
    """

    def panel(section: Section, scale: float, limits: tuple[float, float]) -> Image.Image:
        return _outlined(section.of(data), section.of(mask), scale, limits)

    side = []
    if logits is not None:
        sample = logits.reshape(-1)[:: max(1, logits.size // SAMPLE_VOXELS)]
        title = f"logits; {100 * float(mask.mean()):.2f} % of the voxels marked"
        side.append(histogram(sample, title=title, threshold=logit_threshold, above_rgb=OUTLINE_RGB))
    return draw_sections(data, panel, side, pixel_size=pixel_size)


def _outlined(image: NDArray[Any], mask: BoolArray, scale: float, limits: tuple[float, float]) -> Image.Image:
    size = panel_size(image, scale)
    grey = Image.fromarray(to_grey(image, limits)).resize(size, Image.Resampling.BICUBIC)
    # Area averaging with a low threshold keeps thin membranes in a reduced slice.
    shape = Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).resize(size, Image.Resampling.BOX)
    inside = np.asarray(shape) > 127 if scale >= 1 else np.asarray(shape) > 60
    outline = inside & ~ndimage.binary_erosion(inside, border_value=1)
    rgb = np.repeat(np.asarray(grey)[..., None], 3, axis=2)
    rgb[outline] = OUTLINE_RGB
    return Image.fromarray(rgb)
