"""A picture to judge the picks of a micrograph by: circles colored by their score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from cryoseg.core.blank import find_blank_pixels
from cryoseg.core.grids.resample import linear_weights
from cryoseg.core.robust import robust_map
from cryoseg.types import FloatArray, Picks
from cryoseg.view.pick_preview import score_color
from cryoseg.view.sections import draw_scale_bar, write_label, write_png

LONGEST_SIDE = 1400  # of the picture, in pixels
OVERLAY_SPAN = 3.0  # robust deviations from the median to black and to white


def draw_overlay(image: FloatArray, picks: Picks) -> Image.Image:
    """The micrograph, shrunk, with a circle as wide as the particle about every pick and a scale bar.

    Parameters
    ----------
    image
        (y, x).
    picks
        With a diameter; green where the score is 1, orange where it is 0.
    """
    scale = min(1.0, LONGEST_SIDE / max(image.shape))
    height, width = (max(1, round(n * scale)) for n in image.shape)
    rows, columns = (linear_weights(n, m) for n, m in zip(image.shape, (height, width), strict=True))
    small = np.asarray((columns @ (rows @ image).T).T, np.float32)
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
    """Write `draw_overlay` of a (y, x) image as PNG."""
    write_png(path, draw_overlay(image, picks))
