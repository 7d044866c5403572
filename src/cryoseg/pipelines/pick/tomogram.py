"""Pick particles in one tomogram."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cryoseg.config.cet_pick import Specimen
from cryoseg.config.pick import FilamentConfig, ThicknessAxis, TomogramPickConfig
from cryoseg.core.grids.blank import BLANK_LOGIT
from cryoseg.core.grids.working_grid import (
    ORDERS,
    points_thin_back,
    thin_along_y,
    thin_back,
    thin_first,
    triple_thin_first,
)
from cryoseg.core.masks.binarize import check_logits
from cryoseg.core.picking.detection import by_mask, clear_of_borders
from cryoseg.core.picking.filaments import trace_filaments
from cryoseg.errors import InputError
from cryoseg.events import Note, OnEvent, StageProgress, Warn, ignore
from cryoseg.io.images.volumes import check_finite
from cryoseg.methods.cet_pick.detector import MIN_DISTANCE, Detector, ScoreMap
from cryoseg.methods.cet_pick.inference import BlockShape
from cryoseg.methods.device import release_memory
from cryoseg.pipelines.batches.memory import step_down
from cryoseg.types import BoolArray, FloatArray, Geometry, Picks, Tomogram


@dataclass(frozen=True, kw_only=True)
class PickResult:
    """Picks of one tomogram with the heat map from which they were computed.

    Attributes
    ----------
    picks
        Picks above the threshold, in voxels of the tomogram.
    candidates
        All peaks, before threshold and regions.
    heat_map
        Sigmoid of the logits, without calibration, in the axis order of the tomogram.
    heat_geometry
        Voxel size and origin of the heat map in the frame of the tomogram.
    threshold
        Score threshold in [0, 1].
    dropped
        Number of picks above the threshold that each rule removed.
    """

    picks: Picks
    candidates: Picks
    heat_map: FloatArray
    heat_geometry: Geometry
    threshold: float
    dropped: dict[str, int]


def pick_tomogram(
    tomogram: Tomogram,
    detector: Detector,
    config: TomogramPickConfig | None = None,
    *,
    mask: BoolArray | None = None,
    memory_level: int = 0,
    on_event: OnEvent = ignore,
) -> PickResult:
    """Pick particles in one tomogram.

    Parameters
    ----------
    tomogram
        Tomogram (z, y, x) with a known voxel size.
    detector
        Detector from `load_detector` or from a training.
    config
        Threshold, limits and regions.
    mask
        Mask (z, y, x) on the grid of the tomogram; `config.mask_side` selects the picks to keep.
    memory_level
        First memory level: 0, 1 or 2. Higher levels use smaller blocks; the level rises if memory does
        not suffice.
    on_event
        Callback for progress and warnings.

    Raises
    ------
    InputError
        If the tomogram has no voxel size, holds NaN, or is a single image.
    MemoryError
        If memory does not suffice.
    """
    config = config or TomogramPickConfig()
    check_tomogram(tomogram, mask)
    name, voxel_size = tomogram.source.name, tomogram.geometry.voxel_size
    axis = config.thickness_axis or detector.settings.thickness_axis
    if axis is ThicknessAxis.Z and (thin := thin_along_y(tomogram.data.shape)):
        on_event(Warn(text=f"{name}: {thin}. Pass --thickness-axis y if the sample is thin along y."))

    def score(memory_level: int) -> ScoreMap:
        return detector.score(
            thin_first(tomogram.data, axis),
            triple_thin_first(voxel_size, axis),
            symmetric=config.symmetric,
            blocks=BlockShape(slices=BlockShape.slices >> memory_level, tile=BlockShape.tile >> memory_level),
            on_block=lambda done, total: on_event(
                StageProgress(name=name, stage="picking", done=done, total=total, unit="blocks")
            ),
        )

    scores = step_down(
        score,
        name=name,
        first=memory_level,
        on_event=on_event,
        release=partial(release_memory, detector.device),
    )
    check_logits(scores.logits, tomogram.source)
    blank = float((scores.logits == BLANK_LOGIT).mean())
    if blank == 1:
        on_event(Warn(text=f"{name}: every voxel has the same value, so nothing is picked."))
    elif blank:
        text = f"{100 * blank:.1f} % of the volume is blank (regions of one repeated value)"
        on_event(Note(text=f"{name}: {text}; nothing is picked there."))
    diameter = detector.settings.particle_diameter_angstrom
    apart = config.min_distance_angstrom
    if apart is None:
        apart = MIN_DISTANCE[detector.settings.specimen] * diameter
    ridge = config.filament is not None or detector.settings.specimen is Specimen.FILAMENT
    centers, logits = scores.candidates(diameter_angstrom=diameter, min_distance_angstrom=apart, ridge=ridge)
    candidates = Picks(
        centers=points_thin_back(centers, axis),
        scores=detector.settings.scores(logits),
        shape=tomogram.data.shape,
        pixel_size=float(voxel_size[2]),
        source=tomogram.source,
    )
    threshold = config.score_threshold
    if threshold is None:
        threshold = detector.settings.score_threshold
    picks, dropped = _select(candidates, threshold, config, axis, voxel_size, mask)
    if ridge:
        points = len(picks)
        picks = _as_filaments(picks, diameter, config.filament or FilamentConfig(), voxel_size)
        if points and not len(picks):
            dropped["filaments"] = points
    heat = thin_back(1 / (1 + np.exp(-scores.logits)), axis)
    return PickResult(
        picks=picks,
        candidates=candidates,
        heat_map=np.ascontiguousarray(heat, dtype=np.float32),
        heat_geometry=_heat_geometry(scores, tomogram.geometry, axis),
        threshold=threshold,
        dropped=dropped,
    )


def check_tomogram(tomogram: Tomogram, mask: BoolArray | None = None) -> None:
    """Check that `pick_tomogram` can take a tomogram and its (z, y, x) mask, with its errors."""
    name, voxel_size = tomogram.source.name, tomogram.geometry.voxel_size
    if tomogram.data.ndim != 3 or min(tomogram.data.shape) < 2:
        raise InputError(
            f"{name}: is a single image, and the model picks in tomograms. Give a tomogram, or a model for "
            "micrographs."
        )
    if min(voxel_size) <= 0:
        raise InputError(f"{name}: the header gives no voxel size, which sets the scale. Pass --pixel-size.")
    if mask is not None and mask.shape != tomogram.data.shape:
        raise InputError(
            f"{name}: the mask is {mask.shape} voxels and the tomogram {tomogram.data.shape} (z, y, x). "
            "Give the mask of this tomogram."
        )
    check_finite(tomogram)


def _select(
    candidates: Picks,
    threshold: float,
    config: TomogramPickConfig,
    axis: ThicknessAxis,
    voxel_size: tuple[float, float, float],
    mask: BoolArray | None,
) -> tuple[Picks, dict[str, int]]:
    assert candidates.scores is not None
    assert candidates.shape is not None
    picks = candidates.take(candidates.scores > threshold)
    dropped: dict[str, int] = {}

    def keep(rule: str, chosen: NDArray[np.bool_]) -> None:
        nonlocal picks
        if not chosen.all():
            dropped[rule] = int((~chosen).sum())
        picks = picks.take(chosen)

    thin = ORDERS[axis][0]
    border = [config.border_angstrom / size for size in voxel_size]
    border[thin] = config.z_border_angstrom / voxel_size[thin]
    keep("border", clear_of_borders(picks.centers, candidates.shape, border_voxels=tuple(border)))
    if mask is not None:
        keep(
            "mask",
            by_mask(
                picks.centers,
                mask,
                side=config.mask_side,
                distance_angstrom=config.mask_distance_angstrom,
                voxel_size=voxel_size,
            ),
        )
    if config.max_picks is not None:
        keep("max-picks", np.arange(len(picks)) < config.max_picks)
    return picks, dropped


def _as_filaments(
    picks: Picks, width: float, config: FilamentConfig, voxel_size: tuple[float, float, float]
) -> Picks:
    size = np.asarray(voxel_size)
    filaments = trace_filaments(picks.centers * size, width=width, config=config, scores=picks.scores)
    if not filaments:
        return replace(
            picks, centers=np.empty((0, 3)), scores=np.empty(0, np.float32), tracks=np.empty(0, np.int64)
        )
    assert picks.scores is not None
    scores = [np.full(len(f.points), picks.scores[f.members].mean(), np.float32) for f in filaments]
    tracks = [np.full(len(f.points), number, np.int64) for number, f in enumerate(filaments)]
    centers = np.concatenate([f.points for f in filaments]) / size
    return replace(picks, centers=centers, scores=np.concatenate(scores), tracks=np.concatenate(tracks))


def _heat_geometry(scores: ScoreMap, geometry: Geometry, axis: ThicknessAxis) -> Geometry:
    """Return the geometry of the heat map, whose cell centers lie on even voxels of the working grid."""
    cell = scores.cell_voxels
    first = scores.grid.to_source(np.zeros((1, 3)))[0]
    corner = first + 0.5 - cell / 2
    cell, corner = (points_thin_back(values[None], axis)[0] for values in (cell, corner))
    size = np.asarray(geometry.voxel_size)
    origin = np.asarray(geometry.origin) + corner * size
    sizes = cell * size
    return replace(
        geometry,
        voxel_size=(float(sizes[0]), float(sizes[1]), float(sizes[2])),
        origin=(float(origin[0]), float(origin[1]), float(origin[2])),
        start=(0, 0, 0),
    )
