"""Pick particles in one micrograph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cryoseg.config.pick_micrograph import MicrographPickConfig, PickView
from cryoseg.config.segment import Polarity
from cryoseg.core.grids.blank import BLANK_LOGIT, signal_box
from cryoseg.core.grids.resample import nearest, resample_image, rescale_points, tile_grid
from cryoseg.core.grids.robust import RGB_SPAN, fill_by_mirror, robust_map, scaled_view, view_shape
from cryoseg.core.masks.binarize import check_logits
from cryoseg.core.picking.calibration import (
    Calibration,
    count_for_false_picks,
    count_for_precision,
)
from cryoseg.core.picking.contrast import (
    POLARITY_SKEWNESS,
    clip_outliers,
    flatten_background,
    low_pass,
    particle_skewness,
)
from cryoseg.core.picking.detection import clear_of_borders
from cryoseg.core.picking.micrograph_picks import LogitPicks, disc_mask, grow_cores, logits_to_picks
from cryoseg.events import Note, OnEvent, StageProgress, Warn, ignore
from cryoseg.io.images.micrographs import read_micrograph, read_warnings
from cryoseg.methods.particles.files import ParticleRecipe
from cryoseg.pipelines.pick.micrograph_checks import check_micrograph, length_in_pixels, particle_diameter
from cryoseg.pipelines.pick.micrograph_scale import (
    ScaleTrial,
    auto_diameters,
    diameters_around,
    scale_message,
    search_scale,
    tile_saving_diameter,
)
from cryoseg.types import BoolArray, FloatArray, Micrograph, Picks

UNCALIBRATED_THRESHOLD = 0.4  # for models whose file contains no score threshold


class PicksParticles(Protocol):
    """A network with its recipe, such as `methods.particles.model.ParticleModel`."""

    @property
    def recipe(self) -> ParticleRecipe:
        """Preparation of micrographs."""

    def tile_logits(self, tiles: FloatArray, on_done: Callable[[int], None]) -> FloatArray:
        """Return logits (n, S, S) of grey values (n, S, S); call `on_done` with the number of tiles."""

    def whole_image_logits(self, rgb: NDArray[np.uint8]) -> FloatArray:
        """Return logits (256, 256) of a picture (y, x, 3)."""


@dataclass(frozen=True, kw_only=True)
class MicrographPickResult:
    """Picks of one micrograph with the logits from which they were computed.

    Attributes
    ----------
    picks
        Picks in pixels of the micrograph, in the order of decreasing score.
    logits
        Logits (y, x) on the grid of the network, which covers the box that contains all signal.
    shape
        Shape (y, x) of the micrograph.
    logit_threshold
        Logit threshold that was used.
    diameter_px
        Given or estimated diameter of the particle in pixels of the micrograph.
    scale
        Measured width of the particles, by which the micrograph is scaled for the network; None if the
        given diameter was used.
    core
        Fraction of the diameter of a particle that the network marks.
    score_threshold
        Score threshold that was used, or the lowest score that `--precision` or `--false-picks` kept; None if
        they kept none.
    candidates
        Number of picks before the score threshold and the other limits.
    dropped
        Number of picks that each rule removed.
    blank
        Mask (y, x) of the pixels without signal; None if there are none.
    """

    picks: Picks
    logits: FloatArray
    shape: tuple[int, int]
    logit_threshold: float
    diameter_px: float
    scale: ScaleTrial | None
    core: float
    score_threshold: float | None
    candidates: int
    dropped: dict[str, int]
    blank: BoolArray | None = None

    def native_logits(self) -> FloatArray:
        """Return the logits (y, x) at the size of the micrograph."""
        if self.blank is None:
            return resample_image(self.logits, self.shape)
        whole = np.full(self.shape, BLANK_LOGIT, np.float32)
        part = whole[signal_box(self.blank)]
        part[:] = resample_image(self.logits, (part.shape[0], part.shape[1]))
        whole[self.blank] = BLANK_LOGIT
        return whole

    def mask(self) -> BoolArray:
        """Return the mask (y, x) of particles.

        A network that marks cores was trained on discs, so its mask holds the discs of the picks; the
        mask of other networks holds the logits above the threshold.
        """
        if self.core < 1:
            mask = disc_mask(self.picks.centers, self.shape, diameter_px=self.diameter_px)
        else:
            mask = self.native_logits() > self.logit_threshold
        return np.asarray(mask if self.blank is None else mask & ~self.blank)


def read_for_picking(path: Path, config: MicrographPickConfig, on_event: OnEvent) -> Micrograph:
    """Read a micrograph, and warn of a doubtful pixel size if a length in angstrom needs it."""
    micrograph = read_micrograph(path, pixel_size=config.pixel_size, mode0=config.mode0)
    lengths = (config.particle_diameter_angstrom, config.border_angstrom, config.min_distance_angstrom)
    for warning in read_warnings(micrograph, needs_pixel_size=any(lengths)):
        on_event(Warn(text=warning))
    return micrograph


def pick_micrograph(
    micrograph: Micrograph,
    model: PicksParticles,
    config: MicrographPickConfig,
    *,
    on_event: OnEvent = ignore,
) -> MicrographPickResult:
    """Pick particles in one micrograph.

    Parameters
    ----------
    micrograph
        Micrograph from `read_micrograph`.
    model
        Model from `load_particle_model`.
    config
        Diameter of the particle, thresholds and limits.
    on_event
        Callback for progress and warnings.

    Raises
    ------
    InputError
        If the image is constant, its pixel size is needed but unknown, the particle is larger than
        half of the image or smaller than five pixels, or the image at the network's scale does not fit
        into memory.
    """
    blank = check_micrograph(micrograph, model.recipe, config, on_event=on_event)
    if blank is None:
        return _pick_signal(micrograph, model, config, None, on_event)
    on_event(
        Note(
            text=f"{micrograph.source.name}: {100 * blank.mean():.1f} % of the micrograph is blank (regions "
            "of one repeated value); nothing is picked there."
        )
    )
    box = signal_box(blank)
    image, hidden = micrograph.data[box], blank[box]
    if hidden.any():
        image = fill_by_mirror(image, hidden)
    result = _pick_signal(replace(micrograph, data=image), model, config, hidden, on_event)
    return replace(result, picks=_in_micrograph(result.picks, blank, box), shape=blank.shape, blank=blank)


def _in_micrograph(picks: Picks, blank: BoolArray, box: tuple[slice, ...]) -> Picks:
    """Move picks from a box to the micrograph, and remove those in blank regions."""
    centers = picks.centers + [side.start for side in box]
    y, x = np.clip(np.rint(centers).astype(int), 0, np.array(blank.shape) - 1).T
    kept = ~blank[y, x]
    return replace(picks, centers=centers, shape=blank.shape).take(kept)


def _pick_signal(
    micrograph: Micrograph,
    model: PicksParticles,
    config: MicrographPickConfig,
    blank: BoolArray | None,
    on_event: OnEvent,
) -> MicrographPickResult:
    """Pick particles in a micrograph whose blank pixels have been filled."""
    name = micrograph.source.name
    height, width = micrograph.data.shape
    given = particle_diameter(micrograph, config)
    tried = auto_diameters((height, width)) if given is None else diameters_around(given)
    diameter = tried[len(tried) // 2]
    image = _prepared(micrograph, config, diameter)
    invert = _is_inverted(image, config, model.recipe, diameter, name, on_event)
    clipped = robust_map(image, invert=invert)(image)
    found_scale = None
    searches = config.find_scale and model.recipe.any_scale and config.view is not PickView.WHOLE
    if given is None or searches:
        found_scale = search_scale(clipped, model.tile_logits, model.recipe, tried)
        on_event(scale_message(name, found_scale, given))
    viewed = diameter if found_scale is None else found_scale.measured_px
    diameter = given or viewed
    if config.view is PickView.WHOLE:
        logits = _whole(image, clipped, model, viewed, invert=invert)
    else:
        viewed = tile_saving_diameter((height, width), model.recipe, viewed)

        def show(done: int, total: int) -> None:
            on_event(StageProgress(name=name, stage="picking", done=done, total=total, unit="tiles"))

        logits = _tiled(clipped, model, viewed, blank=blank, on_tiles=show)
    check_logits(logits, micrograph.source)
    if blank is not None:
        logits[nearest(blank, logits.shape)] = BLANK_LOGIT
    threshold = config.logit_threshold
    if threshold is None:
        threshold = model.recipe.logit_threshold
    scale = model.recipe.particle_pixels / viewed
    apart = config.min_distance_angstrom
    found = logits_to_picks(
        logits,
        diameter_px=model.recipe.particle_pixels,
        logit_threshold=threshold,
        peak_sigma=model.recipe.peak_sigma,
        min_distance_px=None
        if apart is None
        else length_in_pixels(apart, micrograph, config, "--min-distance") * scale,
    )
    picks, used, dropped = _selected(found, logits.shape, micrograph, config, model.recipe, diameter)
    return MicrographPickResult(
        picks=picks,
        logits=grow_cores(logits, core=model.recipe.core, diameter_px=model.recipe.particle_pixels),
        shape=(height, width),
        logit_threshold=threshold,
        diameter_px=diameter,
        scale=found_scale,
        core=model.recipe.core,
        score_threshold=used,
        candidates=len(found),
        dropped=dropped,
    )


def _prepared(micrograph: Micrograph, config: MicrographPickConfig, diameter: float) -> FloatArray:
    image = micrograph.data
    if config.clip_outliers:
        image = clip_outliers(image)
    if config.flatten_diameters is not None:
        image = flatten_background(image, sigma_px=config.flatten_diameters * diameter)
    if config.low_pass_angstrom is not None:
        # Both lengths are given in pixels, of which the function needs the ratio only.
        blur = length_in_pixels(config.low_pass_angstrom, micrograph, config, "--low-pass")
        image = low_pass(image, resolution_angstrom=blur, pixel_size=1.0)
    return image


def _is_inverted(
    image: FloatArray,
    config: MicrographPickConfig,
    recipe: ParticleRecipe,
    diameter: float,
    name: str,
    on_event: OnEvent,
) -> bool:
    """Whether to invert the contrast for the model; warn if the image has another polarity."""
    if config.polarity is Polarity.AS_IS:
        return False
    skewness = particle_skewness(image, diameter_px=diameter)
    looks = Polarity.DARK if skewness < 0 else Polarity.BRIGHT
    if abs(skewness) > POLARITY_SKEWNESS and looks is not config.polarity:
        on_event(
            Warn(
                text=f"{name}: particles look {looks}, not {config.polarity}. If they are, pass "
                f"--polarity {looks}."
            )
        )
    return config.polarity is not recipe.polarity


def _tiled(
    clipped: FloatArray,
    model: PicksParticles,
    diameter: float,
    *,
    blank: BoolArray | None,
    on_tiles: Callable[[int, int], None],
) -> FloatArray:
    """Compute the logits of blended tiles on the grid of the network."""
    recipe = model.recipe
    view = scaled_view(clipped, diameter_px=diameter, particle_pixels=recipe.particle_pixels)
    height, width = view.shape
    grid = tile_grid((height, width), recipe.image_size, recipe.overlap)
    if blank is not None:
        grid = grid.over(~nearest(blank, view.shape))
    tiles = grid.cut(view[None])[:, 0]
    return grid.stitch(model.tile_logits(tiles, lambda done: on_tiles(done, len(tiles))))


def _whole(
    image: FloatArray, clipped: FloatArray, model: PicksParticles, diameter: float, *, invert: bool
) -> FloatArray:
    """Compute the logits of the whole image, resampled to the scale at which particles are picked."""
    # Eight-bit images are not normalized, as in the publication.
    is_eight_bit = bool(image.min() >= 0 and image.max() <= 255 and image.max() > 1) and bool(
        (image == np.rint(image)).all()
    )
    if is_eight_bit:
        grey = 255 - image if invert else image
    else:
        grey = (clipped / (2 * RGB_SPAN) + 0.5) * 255
    eight_bit = np.clip(np.rint(grey), 0, 255).astype(np.uint8)
    logits = model.whole_image_logits(np.repeat(eight_bit[..., None], 3, axis=2))
    height, width = image.shape
    shape = view_shape((height, width), diameter_px=diameter, particle_pixels=model.recipe.particle_pixels)
    return resample_image(logits, shape)


def _selected(
    found: LogitPicks,
    view: tuple[int, ...],
    micrograph: Micrograph,
    config: MicrographPickConfig,
    recipe: ParticleRecipe,
    diameter: float,
) -> tuple[Picks, float | None, dict[str, int]]:
    """Calibrate the scores and apply the limits.

    The result are the picks in pixels of the micrograph, the lowest score that was kept or the score
    threshold, and the number of picks that each limit removed.
    """
    calibration = Calibration(slope=recipe.score_slope, intercept=recipe.score_intercept)
    scores = calibration(found.raw_scores)
    stretch = np.asarray(micrograph.data.shape) / np.asarray(view)
    centers = rescale_points(found.centers, stretch)
    dropped: dict[str, int] = {}
    rule, count = _count_of_good(scores, config, recipe)
    dropped[rule] = len(scores) - count
    used: float | None = score_threshold(config, recipe)
    if rule != "score-threshold":
        used = float(scores[count - 1]) if count else None
    centers, scores = centers[:count], scores[:count]
    if config.border_angstrom > 0:
        border = length_in_pixels(config.border_angstrom, micrograph, config, "--border")
        inside = clear_of_borders(centers, micrograph.data.shape, border_voxels=(border, border))
        dropped["border"] = int((~inside).sum())
        centers, scores = centers[inside], scores[inside]
    if config.max_picks is not None and len(centers) > config.max_picks:
        dropped["max-picks"] = len(centers) - config.max_picks
        centers, scores = centers[: config.max_picks], scores[: config.max_picks]
    picks = Picks(
        centers=centers,
        scores=scores,
        shape=micrograph.data.shape,
        pixel_size=config.pixel_size or micrograph.pixel_size,
        diameter_px=diameter,
        source=micrograph.source,
    )
    return picks, used, {rule: count for rule, count in dropped.items() if count}


def score_threshold(config: MicrographPickConfig, recipe: ParticleRecipe) -> float:
    """Return the score threshold of a run without `--precision` and `--false-picks`."""
    if config.score_threshold is not None:
        return config.score_threshold
    return recipe.score_threshold or UNCALIBRATED_THRESHOLD


def _count_of_good(
    scores: FloatArray, config: MicrographPickConfig, recipe: ParticleRecipe
) -> tuple[str, int]:
    """Return the name of the rule that ends the list of picks, best first, and how many it keeps."""
    if config.precision is not None:
        return "precision", count_for_precision(scores, config.precision)
    if config.false_picks is not None:
        return "false-picks", count_for_false_picks(scores, config.false_picks)
    return "score-threshold", int((scores >= score_threshold(config, recipe)).sum())
