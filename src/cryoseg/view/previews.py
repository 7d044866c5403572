"""Draw segmentations, picks and masks over their images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from cryoseg.core.grids.blank import find_blank_pixels
from cryoseg.core.grids.resample import nearest, resample_image
from cryoseg.core.grids.robust import SAMPLE_VOXELS, robust_map
from cryoseg.types import BoolArray, FloatArray, Picks
from cryoseg.view.sections import (
    Section,
    draw_scale_bar,
    draw_sections,
    histogram,
    panel_size,
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


PICK_RGB = (255, 170, 0)
LABEL_RGB = (86, 180, 233)
SURE_RGB = np.array([60.0, 220.0, 90.0])
DOUBTFUL_RGB = np.array([255.0, 120.0, 0.0])
HEAT_RGB = np.array([255, 60, 40])
HEAT_OPACITY = 0.5

Color = tuple[int, int, int]


def score_color(score: float) -> Color:
    """Return a color between green for a score of 1 and orange for a score of 0."""
    red, green, blue = (round(v) for v in (score * SURE_RGB + (1 - score) * DOUBTFUL_RGB).tolist())
    return red, green, blue


@dataclass(frozen=True, kw_only=True)
class ShownPicks:
    """The picks of a preview and the content of its histogram.

    Attributes
    ----------
    centers
        (n, 3) z, y, x in voxels.
    diameter_voxels
        Extent of a particle along z, y, x.
    scores
        (n,) scores in [0, 1], which determine the colors of the circles; there is no histogram without them.
    candidate_scores
        (k,) scores of all candidates, which the histogram shows instead of `scores`.
    score_threshold
        Score that the histogram marks.
    labels
        (m, 3) true positions z, y, x in voxels, drawn in another color.
    """

    centers: NDArray[np.float64]
    diameter_voxels: tuple[float, float, float]
    scores: FloatArray | None = None
    candidate_scores: FloatArray | None = None
    score_threshold: float | None = None
    labels: NDArray[np.float64] | None = None


def draw_picks(
    data: NDArray[Any], picks: ShownPicks, *, heat: FloatArray | None = None, pixel_size: float | None = None
) -> Image.Image:
    """Draw central sections in three planes and six slices with the sections of particles as circles.

    Parameters
    ----------
    data
        (z, y, x) volume.
    picks
        Positions, scores and labels.
    heat
        (z, y, x) probabilities over the same extent on any grid, which tint the slices.
    pixel_size
        Pixel size in angstrom; there is no scale bar without it.
    """
    centers, scores, labels = picks.centers, picks.scores, picks.labels
    if scores is None:
        colors = [PICK_RGB] * len(centers)
    else:
        colors = [score_color(float(score)) for score in scores]
    groups = [(centers, colors)]
    if labels is not None:
        groups.insert(0, (labels, [LABEL_RGB] * len(labels)))

    def panel(section: Section, scale: float, limits: tuple[float, float]) -> Image.Image:
        image = section.of(data)
        tint = None if heat is None else _heat_on(section, heat, data.shape)
        picture = _background(image, limits, tint).resize(panel_size(image, scale))
        for points, chosen in groups:
            _circles(ImageDraw.Draw(picture), section, points, picks.diameter_voxels, scale, chosen)
        return picture

    side = []
    if scores is not None:
        shown, title = scores, f"scores of {len(scores)} picks"
        if picks.candidate_scores is not None:
            shown = picks.candidate_scores
            title = f"scores of {len(shown)} candidates; {len(scores)} picks"
        line, color = picks.score_threshold, score_color(1.0)
        side.append(histogram(shown, title=title, threshold=line, above_rgb=color, limits=(0.0, 1.0)))
    return draw_sections(data, panel, side, pixel_size=pixel_size)


def _background(image: NDArray[Any], limits: tuple[float, float], heat: FloatArray | None) -> Image.Image:
    rgb = np.repeat(to_grey(image, limits)[..., None], 3, axis=2)
    if heat is not None:
        opacity = HEAT_OPACITY * heat[..., None]
        rgb = ((1 - opacity) * rgb + opacity * HEAT_RGB).astype(np.uint8)
    return Image.fromarray(rgb)


def _heat_on(section: Section, heat: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Return the values of the heat map at the voxels of a section by nearest neighbor."""
    places = nearest(np.arange(heat.shape[section.axis]), (shape[section.axis],))
    plane = Section(axis=section.axis, index=int(places[section.index])).of(heat)
    return nearest(plane, (shape[section.down], shape[section.across]))


def _circles(
    draw: ImageDraw.ImageDraw,
    section: Section,
    points: NDArray[np.float64],
    diameter: tuple[float, float, float],
    scale: float,
    colors: list[Color],
) -> None:
    for point, color in zip(points, colors, strict=True):
        away = 2 * (point[section.axis] - section.index) / diameter[section.axis]
        if abs(away) >= 1:
            continue
        share = np.sqrt(1 - away**2) * scale / 2
        y, x = ((point[axis] + 0.5) * scale for axis in (section.down, section.across))
        down, across = (share * diameter[axis] for axis in (section.down, section.across))
        draw.ellipse([x - across, y - down, x + across, y + down], outline=color, width=2)


LONGEST_SIDE = 1400  # Longest side of the picture in pixels.
OVERLAY_SPAN = 3.0  # Robust deviations between the median and black or white.


def draw_overlay(image: FloatArray, picks: Picks) -> Image.Image:
    """Draw a reduced (y, x) micrograph with a circle around every pick and a scale bar.

    The circles have the diameter of the picks. A score of 1 is green, a score of 0 orange.
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
