"""Draw the picks of a micrograph as circles that are colored by score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from cryoseg.core.grids.blank import find_blank_pixels
from cryoseg.core.grids.resample import resample_image
from cryoseg.core.grids.robust import robust_map
from cryoseg.types import FloatArray, Picks
from cryoseg.view.pick_preview import score_color
from cryoseg.view.sections import draw_scale_bar, write_label, write_png

LONGEST_SIDE = 1400  # Longest side of the picture in pixels.
OVERLAY_SPAN = 3.0  # Robust deviations between the median and black or white.


def draw_overlay(image: FloatArray, picks: Picks) -> Image.Image:
    """Draw a reduced micrograph with a circle around every pick and a scale bar.

    Parameters
    ----------
    image
        (y, x) micrograph.
    picks
        Picks with a diameter, which is that of the circles. A score of 1 is green, a score of 0 orange.
    """
    scale = min(1.0, LONGEST_SIDE / max(image.shape))
    height, width = (max(1, round(n * scale)) for n in image.shape)
    small = resample_image(image, (height, width))
    intensity = robust_map(small, blank=find_blank_pixels(small))
    grey = np.clip((intensity(small) / (2 * OVERLAY_SPAN) + 0.5) * 255, 0, 255).astype(np.uint8)
    picture = Image.fromarray(np.repeat(grey[..., None], 3, axis=2))
    draw = ImageDraw.Draw(picture)
    radius = max(2.0, picks.diameter_px / 2 * scale)
    scores = np.ones(len(picks)) if picks.scores is None else picks.scores
    line = 2 if radius > 8 else 1
    for (y, x), score in zip((picks.centers + 0.5) * scale, scores, strict=True):
        circle = [x - radius, y - radius, x + radius, y + radius]
        draw.ellipse(circle, outline=score_color(float(score)), width=line)
    write_label(draw, f"{len(picks)} particles")
    if picks.pixel_size > 0:
        draw_scale_bar(draw, picture.size, angstrom_per_pixel=picks.pixel_size / scale)
    return picture


def write_overlay(path: Path, image: FloatArray, picks: Picks) -> None:
    """Write the overlay of a (y, x) micrograph as PNG."""
    write_png(path, draw_overlay(image, picks))
