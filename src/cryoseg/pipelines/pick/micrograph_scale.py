"""Measure the width of the particles of a micrograph with the model that picks them.

The diameter that a user gives, or that a data set publishes, is often not that of the visible particle. Parts
of the micrograph are therefore viewed at several scales. At the scale with the highest expected F1 of the
calibrated scores, the discs that the network marks give the width of a particle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryoseg.config.pick_micrograph import SMALLEST_PARTICLE_PX
from cryoseg.core.grids.resample import TileGrid, tile_saving_factor
from cryoseg.core.grids.robust import scaled_view, view_shape
from cryoseg.core.picking.calibration import Calibration, expected_f1
from cryoseg.core.picking.micrograph_picks import LogitPicks, logits_to_picks
from cryoseg.events import Note, Warn
from cryoseg.methods.particles.files import ParticleRecipe
from cryoseg.types import FloatArray

RATIO = 1.6  # of neighboring diameters
# Centers of the parts relative to the image; the third is used for small diameters, whose tiles show less.
ANCHORS = ((0.33, 0.33), (0.67, 0.67), (0.33, 0.67))
PART_TILES = 1.5  # Side of a part in tiles, so that the tile in its middle has the usual background.
EXTRA_PARTICLES = 2.0  # Assumed missed particles, so that a scale with few certain picks is not the best.
# Advantage in F1 of a diameter over the next smaller one, because a part of a particle looks like a particle
# more often than a group does.
BONUS = 0.03
CERTAIN_SCORE = 0.5
FAR = 1.3  # The user is warned if the best diameter differs from the given one by more than this factor.
# Diameters for `auto`, as fractions of the shorter side of the image.
AUTO_SMALLEST, AUTO_LARGEST = 1 / 100, 1 / 8
# Smallest factor by which a micrograph is shrunk further if this saves tiles. A model of any scale was
# trained with a zoom of at least 1.4.
SMALLEST_SHRINK = 0.9

TileLogits = Callable[[FloatArray, Callable[[int], None]], FloatArray]


@dataclass(frozen=True, kw_only=True)
class ScaleTrial:
    """Picks in parts of a micrograph at one scale.

    Attributes
    ----------
    diameter_px
        Diameter that is scaled to the particle size of the network, in pixels of the micrograph.
    expected_f1
        Expected F1 of the picks by their scores.
    measured_px
        Median diameter of the discs that the network marks, enlarged to whole particles,
        limited to 1.6 times `diameter_px` either way; `diameter_px` without any.
    """

    diameter_px: float
    expected_f1: float
    measured_px: float


def scale_message(name: str, found: ScaleTrial, given: float | None) -> Note | Warn:
    """Return the message about the width of the particles: a warning if it is far from the given one."""
    text = f"{name}: a particle looks about {found.measured_px:.0f} px wide"
    text += f" (expected F1 {found.expected_f1:.2f})"
    if given is None:
        return Note(text=f"{text}.")
    factor = found.measured_px / given
    text = f"{text}, {factor:.2f} times the given {given:.0f} px; the scale is chosen by the former."
    if 1 / FAR <= factor <= FAR:
        return Note(text=text, detail=True)
    return Warn(text=f"{text} Check --particle-diameter, or pass --no-find-scale.")


def auto_diameters(shape: tuple[int, int]) -> list[float]:
    """Return the diameters in pixels to try if none is given."""
    side = min(shape)
    smallest, largest = max(SMALLEST_PARTICLE_PX, AUTO_SMALLEST * side), AUTO_LARGEST * side
    count = max(2, 1 + int(np.ceil(np.log(largest / smallest) / np.log(RATIO))))
    return [float(value) for value in np.geomspace(smallest, largest, count)]


def diameters_around(diameter: float) -> list[float]:
    """Return the diameters in pixels to try around a given one."""
    return [diameter / RATIO, diameter, diameter * RATIO]


def search_scale(
    image: FloatArray,
    tile_logits: TileLogits,
    recipe: ParticleRecipe,
    diameters: Sequence[float],
) -> ScaleTrial:
    """Return the trial with the highest expected F1, or one with a larger diameter that is about as good.

    `tile_logits` returns (n, S, S) logits of (n, S, S) tiles of the (y, x) micrograph `image`, whose outliers
    are clipped and whose particles have the polarity of the model. `diameters` in pixels are tried.
    """
    middle = float(np.sqrt(min(diameters) * max(diameters)))

    def trial(diameter: float) -> ScaleTrial:
        anchors = ANCHORS if diameter < 0.99 * middle else ANCHORS[:2]
        tiles = np.stack([_tile(image, recipe, diameter, anchor) for anchor in anchors])
        return judge_scale(tile_logits(tiles, lambda done: None), recipe, diameter)

    trials = [trial(diameter) for diameter in diameters]
    return max(trials, key=lambda one: one.expected_f1 + BONUS * np.log(one.diameter_px) / np.log(RATIO))


def tile_saving_diameter(shape: tuple[int, int], recipe: ParticleRecipe, diameter: float) -> float:
    """Return the diameter, enlarged by up to a ninth if a model of any scale then needs fewer tiles.

    A larger `diameter` in pixels is a smaller view of the micrograph of `shape` (y, x).
    """
    if not recipe.any_scale:
        return diameter
    view = view_shape(shape, diameter_px=diameter, particle_pixels=recipe.particle_pixels)
    return diameter / tile_saving_factor(view, recipe.image_size, recipe.overlap, smallest=SMALLEST_SHRINK)


def judge_scale(logits: FloatArray, recipe: ParticleRecipe, diameter_px: float) -> ScaleTrial:
    """Return the trial of (n, S, S) logits of parts in which `diameter_px` is the particle of the network."""
    calibration = Calibration(slope=recipe.score_slope, intercept=recipe.score_intercept)
    margin = recipe.particle_pixels / 2
    scores: list[NDArray[np.float64]] = []
    sizes: list[NDArray[np.float64]] = []
    for tile in logits:
        found = logits_to_picks(
            tile,
            diameter_px=recipe.particle_pixels,
            logit_threshold=recipe.logit_threshold,
            peak_sigma=recipe.peak_sigma,
        )
        inside = np.all((found.centers >= margin) & (found.centers <= len(tile) - 1 - margin), axis=1)
        found = found.take(inside)
        here = calibration(found.raw_scores).astype(np.float64)
        scores.append(here)
        sizes.append(_disc_diameters(tile > recipe.logit_threshold, found.take(here > CERTAIN_SCORE)))
    diameters = np.concatenate(sizes) / (recipe.core * recipe.particle_pixels)
    measured = float(np.clip(np.median(diameters), 1 / RATIO, RATIO)) if len(diameters) else 1.0
    return ScaleTrial(
        diameter_px=diameter_px,
        expected_f1=expected_f1(np.sort(np.concatenate(scores))[::-1], missed=EXTRA_PARTICLES),
        measured_px=measured * diameter_px,
    )


def _tile(
    image: FloatArray, recipe: ParticleRecipe, diameter: float, anchor: tuple[float, float]
) -> FloatArray:
    """Return the (S, S) tile around an anchor at the scale of a diameter."""
    side = recipe.image_size
    part = []
    for extent, place in zip(image.shape, anchor, strict=True):
        width = min(extent, int(np.ceil(PART_TILES * side * diameter / recipe.particle_pixels)))
        start = int(np.clip(place * extent - width / 2, 0, extent - width))
        part.append(slice(start, start + width))
    clipped = image[part[0], part[1]]
    view = scaled_view(clipped, diameter_px=diameter, particle_pixels=recipe.particle_pixels)
    height, width = view.shape
    corner = (max(0, (height - side) // 2), max(0, (width - side) // 2))
    grid = TileGrid(corners=(corner,), side=side, shape=(height, width))
    return np.asarray(grid.cut(view[None])[0, 0], np.float32)


def _disc_diameters(mask: NDArray[np.bool_], picks: LogitPicks) -> NDArray[np.float64]:
    """Return the equivalent diameters in pixels of the components that contain exactly one pick."""
    components, count = ndimage.label(mask)
    numbers = components[tuple(np.rint(picks.centers).astype(int).T)]
    single = np.bincount(numbers, minlength=count + 1) == 1
    single[0] = False
    return np.asarray(2 * np.sqrt(np.bincount(components.ravel(), minlength=count + 1)[single] / np.pi))
