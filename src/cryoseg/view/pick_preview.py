"""A picture to judge picks by: sections and slices with a circle where a particle's section is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cryoseg.types import FloatArray
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

PICK_RGB = (255, 170, 0)
LABEL_RGB = (86, 180, 233)
SURE_RGB = np.array([60.0, 220.0, 90.0])
DOUBTFUL_RGB = np.array([255.0, 120.0, 0.0])
HEAT_RGB = np.array([255, 60, 40])
HEAT_OPACITY = 0.5

Color = tuple[int, int, int]


def score_color(score: float) -> Color:
    """Green for a score of 1, orange for 0."""
    red, green, blue = (round(v) for v in (score * SURE_RGB + (1 - score) * DOUBTFUL_RGB).tolist())
    return red, green, blue


def score_histogram(
    scores: FloatArray, *, candidates: FloatArray | None = None, threshold: float | None = None
) -> Image.Image:
    """Of (n,) scores from 0 to 1: of all candidates if they are known, else of the picks."""
    title = f"scores of {len(scores)} picks"
    if candidates is not None:
        title = f"scores of {len(candidates)} candidates; {len(scores)} picks"
    return histogram(
        scores if candidates is None else candidates,
        title=title,
        threshold=threshold,
        above_rgb=score_color(1.0),
        limits=(0.0, 1.0),
    )


@dataclass(frozen=True, kw_only=True)
class ShownPicks:
    """The picks of a picture, and what its histogram shows.

    Attributes
    ----------
    centers
        (n, 3) z, y, x in voxels.
    diameter_voxels
        Extent of a particle along z, y, x.
    scores
        (n,) in [0, 1]; they color the circles and are shown as a histogram.
    candidate_scores
        (k,) scores of all candidates; the histogram shows these instead.
    score_threshold
        Score that the histogram marks.
    labels
        (m, 3) true positions, drawn in another color.
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
    """Draw central sections in three planes and six slices, with circles as wide as the particle is there.

    Parameters
    ----------
    data
        (z, y, x) volume.
    picks
        Positions, scores and labels.
    heat
        (z, y, x) probabilities over the same extent on any grid; they tint the slices.
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

    def panel(
        section: Section, scale: float, limits: tuple[float, float], bar: float | None = None
    ) -> Image.Image:
        image = section.of(data)
        tint = None if heat is None else _heat_on(section, heat, data.shape)
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        picture = _background(image, limits, tint).resize(size)
        draw = ImageDraw.Draw(picture)
        for points, chosen in groups:
            _circles(draw, section, points, picks.diameter_voxels, scale, chosen)
        write_label(draw, section.label)
        if bar:
            draw_scale_bar(draw, size, angstrom_per_pixel=bar / scale)
        return picture

    sections = central_sections(data.shape)
    limits = grey_range([section.of(data) for section in sections])
    scale = central_scale(data.shape)
    central = [panel(one, scale, limits, pixel_size if one.axis == 0 else None) for one in sections]
    side = []
    if scores is not None:
        side.append(
            score_histogram(scores, candidates=picks.candidate_scores, threshold=picks.score_threshold)
        )
    scale = row_scale(data.shape, has_side=bool(side))
    slices = [Section(axis=0, index=z) for z in spread_slices(len(data))] if len(sections) > 1 else []
    return compose(central, side, [panel(one, scale, grey_range([one.of(data)])) for one in slices])


def _background(image: NDArray[Any], limits: tuple[float, float], heat: FloatArray | None) -> Image.Image:
    rgb = np.repeat(to_grey(image, limits)[..., None], 3, axis=2)
    if heat is not None:
        opacity = HEAT_OPACITY * heat[..., None]
        rgb = ((1 - opacity) * rgb + opacity * HEAT_RGB).astype(np.uint8)
    return Image.fromarray(rgb)


def _heat_on(section: Section, heat: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """The heat map's values on the voxels of a section, by nearest neighbor."""
    index = [
        np.minimum(((np.arange(n) + 0.5) * m / n).astype(int), m - 1)
        for n, m in zip(shape, heat.shape, strict=True)
    ]
    here = Section(axis=section.axis, index=int(index[section.axis][section.index]))
    plane: FloatArray = here.of(heat)[np.ix_(index[section.down], index[section.across])]
    return plane


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
