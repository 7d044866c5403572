"""A picture to judge a segmentation by: sections and slices with outlines, and the logits' histogram."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from cryoseg.core.robust import SAMPLE_VOXELS
from cryoseg.types import BoolArray, FloatArray
from cryoseg.view.sections import (
    Section,
    central_scale,
    central_sections,
    compose,
    draw_scale_bar,
    grey_range,
    histogram,
    row_scale,
    spread_slices,
    to_grey,
    write_label,
)

OUTLINE_RGB = (255, 170, 0)


def draw_preview(
    data: NDArray[Any],
    mask: BoolArray,
    *,
    pixel_size: float | None = None,
    logits: FloatArray | None = None,
    logit_threshold: float | None = None,
) -> Image.Image:
    """Central sections in three planes and six slices, mask outlined, with scale bar and histogram.

    Parameters
    ----------
    data, mask
        (z, y, x).
    pixel_size
        In angstrom; no scale bar without it.
    logits
        (z, y, x); no histogram without them.
    logit_threshold
        Marked in the histogram.
    """
    sections = central_sections(data.shape)
    images = [section.of(data) for section in sections]
    limits = grey_range(images)
    scale = central_scale(data.shape)
    central = [
        _panel(
            image, section.of(mask), section.label, scale, limits, pixel_size if section.axis == 0 else None
        )
        for section, image in zip(sections, images, strict=True)
    ]
    side = []
    if logits is not None:
        sample = logits.reshape(-1)[:: max(1, logits.size // SAMPLE_VOXELS)]
        title = f"logits; {100 * float(mask.mean()):.2f} % of the voxels marked"
        side.append(histogram(sample, title=title, threshold=logit_threshold, above_rgb=OUTLINE_RGB))
    rows = []
    if len(sections) > 1:
        scale = row_scale(data.shape, has_side=bool(side))
        for z in spread_slices(len(data)):
            section = Section(axis=0, index=z)
            rows.append(_panel(data[z], mask[z], section.label, scale, grey_range([data[z]]), None))
    return compose(central, side, rows)


def _panel(
    image: NDArray[Any],
    mask: BoolArray,
    label: str,
    scale: float,
    limits: tuple[float, float],
    pixel_size: float | None,
) -> Image.Image:
    height, width = mask.shape
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    grey = Image.fromarray(to_grey(image, limits)).resize(size, Image.Resampling.BICUBIC)
    # Membranes are thin: area averaging with a low cut keeps them when the slice is shrunk.
    shape = Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).resize(size, Image.Resampling.BOX)
    inside = np.asarray(shape) > 127 if scale >= 1 else np.asarray(shape) > 60
    outline = inside & ~ndimage.binary_erosion(inside, border_value=1)
    rgb = np.repeat(np.asarray(grey)[..., None], 3, axis=2)
    rgb[outline] = OUTLINE_RGB
    panel = Image.fromarray(rgb)
    draw = ImageDraw.Draw(panel)
    write_label(draw, label)
    if pixel_size:
        draw_scale_bar(draw, size, angstrom_per_pixel=pixel_size / scale)
    return panel
