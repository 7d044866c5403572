"""Check labels and prepare tomograms for the training of CET-pick."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from cryoseg.config.cet_pick import CetPickConfig
from cryoseg.core.grids.robust import IntensityMap
from cryoseg.core.grids.working_grid import WorkingVolume, normalize_volume
from cryoseg.core.picking.label_checks import check_labels
from cryoseg.errors import InputError
from cryoseg.events import Note, OnEvent, Warn
from cryoseg.methods.cet_pick.detector import DetectorSettings
from cryoseg.methods.cet_pick.samples import LabeledVolume
from cryoseg.types import BoolArray, Tomogram

FEW_LABELS = 10
REMEDY = "--picks-pixel-size converts"


@dataclass(frozen=True, kw_only=True)
class LabeledTomogram:
    """A training tomogram.

    Attributes
    ----------
    tomogram
        Tomogram with a voxel size and finite values.
    labels
        (n, 3) z, y, x of particles in voxels; may be empty.
    negatives
        (n, 3) z, y, x of objects that look like a particle but are none, in voxels.
    mask
        (z, y, x) mask of voxels where particles can be; None for everywhere.
    """

    tomogram: Tomogram
    labels: NDArray[np.float64]
    negatives: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 3)))
    mask: BoolArray | None = None

    @property
    def name(self) -> str:
        """Name of the file for messages."""
        return self.tomogram.source.name


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A tomogram on the working grid, with its labels in voxels of the tomogram."""

    source: LabeledTomogram
    intensity: IntensityMap
    volume: LabeledVolume
    train_labels: NDArray[np.float64]
    held_labels: NDArray[np.float64]


def _nearest_within(
    shape: tuple[int, ...], points: NDArray[np.float64], reach: NDArray[np.float64]
) -> BoolArray:
    """Return the mask of voxels inside ellipsoids around points, with half axes `reach`."""
    near = np.zeros(shape, bool)
    for point in points:
        low = np.maximum(np.floor(point - reach).astype(int), 0)
        high = np.minimum(np.ceil(point + reach).astype(int) + 1, shape)
        z, y, x = np.ogrid[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        ball = (
            ((z - point[0]) / reach[0]) ** 2
            + ((y - point[1]) / reach[1]) ** 2
            + ((x - point[2]) / reach[2]) ** 2
        )
        near[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] |= ball <= 1
    return near


def known_voxel_size(item: LabeledTomogram) -> tuple[float, float, float]:
    """Return the (z, y, x) voxel size of a tomogram in angstrom.

    Raises
    ------
    InputError
        If the header gives none.
    """
    size = item.tomogram.geometry.voxel_size
    if min(size) <= 0:
        raise InputError(
            f"{item.name}: the header gives no voxel size, and --particle-diameter is in angstrom. "
            "Pass --pixel-size."
        )
    return size


def _distinct(
    labels: NDArray[np.float64], voxel_size: tuple[float, float, float], apart: float
) -> NDArray[np.bool_]:
    """Return an (n,) mask of the labels that are not within `apart` angstrom of an earlier one."""
    keep = np.ones(len(labels), bool)
    if len(labels) > 1:
        for first, second in sorted(cKDTree(labels * np.asarray(voxel_size)).query_pairs(apart)):
            if keep[first]:
                keep[second] = False
    return keep


def prepare(
    item: LabeledTomogram,
    config: CetPickConfig,
    settings: DetectorSettings,
    held: NDArray[np.bool_],
) -> Prepared:
    """Resample a tomogram to the working grid, without the labels in the (n,) mask `held`."""
    shape = item.tomogram.data.shape
    grid = settings.grid((shape[0], shape[1], shape[2]), known_voxel_size(item))
    normalized = normalize_volume(item.tomogram.data, grid)
    intensity = normalized.intensity
    data = np.empty(grid.shape, np.float16)
    for z in range(grid.shape[0]):
        data[z] = intensity(normalized.slices[z])
    diameter = config.particle_diameter_angstrom / (grid.scale * known_voxel_size(item))
    empty = None
    if len(item.negatives):
        empty = _nearest_within(grid.shape, grid.to_working(item.negatives), diameter / 2)
    mask = None
    if item.mask is not None:
        mask = WorkingVolume(item.mask.astype(np.float32), grid).load() >= 0.5
    if normalized.blank is not None:
        mask = ~normalized.blank if mask is None else mask & ~normalized.blank
    train = item.labels[~held]
    volume = LabeledVolume(
        data=data, labels=grid.to_working(train), diameter=diameter, empty=empty, mask=mask
    )
    return Prepared(
        source=item, intensity=intensity, volume=volume, train_labels=train, held_labels=item.labels[held]
    )


def checked(items: list[LabeledTomogram], config: CetPickConfig, on_event: OnEvent) -> list[LabeledTomogram]:
    """Remove labels outside the tomogram and repeated labels; warn of few labels."""
    good = []
    for item in items:
        if not len(item.labels) and not len(item.negatives):
            good.append(item)
            continue
        labels, warning = check_labels(item.labels, item.tomogram.data.shape, name=item.name, remedy=REMEDY)
        if warning:
            on_event(Warn(text=warning))
        apart = 0.1 * config.particle_diameter_angstrom
        distinct = _distinct(labels, known_voxel_size(item), apart)
        if not distinct.all():
            on_event(
                Note(text=f"{item.name}: {int((~distinct).sum())} labels repeat others and are left out.")
            )
        negatives, warning = check_labels(
            item.negatives, item.tomogram.data.shape, name=item.name, remedy=REMEDY
        )
        if warning:
            on_event(Warn(text=warning))
        good.append(replace(item, labels=labels[distinct], negatives=negatives))
    count = sum(len(item.labels) for item in good)
    if not count:
        names = ", ".join(item.name for item in good)
        raise InputError(
            f"{names}: no labels. Check that the names in the picks file are those of the tomograms, "
            "without suffix."
        )
    if count < FEW_LABELS:
        on_event(
            Warn(
                text=f"Only {count} label{'s' if count > 1 else ''}: the model and its threshold may be "
                "poor. 20 or more are advised."
            )
        )
    return good


def held_out_labels(items: list[LabeledTomogram], config: CetPickConfig) -> list[NDArray[np.bool_]]:
    """Choose the labels to hold out of training; return an (n,) mask per tomogram."""
    counts = [len(item.labels) for item in items]
    total = sum(counts)
    flags = np.zeros(total, bool)
    if total >= config.holdout_from and config.holdout_fraction > 0:
        rng = np.random.default_rng([config.seed, 0x401D])
        flags[rng.permutation(total)[: max(1, round(config.holdout_fraction * total))]] = True
    return np.split(flags, np.cumsum(counts)[:-1])
