"""Training data of CET-pick: checked labels, tomograms on the working grid, and crops with their targets.

The publication rounds a label down to a cell of the heat map, which shifts it by up to a voxel. Here the
Gaussian is centered on the exact position of the label, also after a flip.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from cryoseg.config.cet_pick import CetPickConfig
from cryoseg.core.grids.axes import check_labels
from cryoseg.core.grids.robust import IntensityMap
from cryoseg.core.grids.working_grid import WorkingVolume, normalize_volume
from cryoseg.errors import InputError
from cryoseg.events import Note, OnEvent, Warn
from cryoseg.methods.cet_pick.detector import DetectorSettings
from cryoseg.methods.cet_pick.network import STRIDES, XY_STRIDE
from cryoseg.types import BoolArray, FloatArray, Tomogram

UNLABELED = -1.0
EMPTY = 0.0
IGNORED = -2.0
TRIES = 8  # number of attempts to find a crop that overlaps the mask
SOFT_FLOOR = 0.05  # smaller values of the Gaussian become unlabeled


@dataclass(frozen=True, kw_only=True)
class LabeledVolume:
    """One tomogram on the working grid.

    Attributes
    ----------
    data
        (z, y, x) normalized grey values, float16 to save memory.
    labels
        (n, 3) z, y, x of the training labels in voxels of the working grid.
    diameter
        (z, y, x) diameter of a particle in voxels of the working grid.
    empty
        (z, y, x) mask of voxels that are known to contain no particle, or None.
    mask
        (z, y, x) mask of voxels where particles can be, which excludes all others from the training; None
        for everywhere.
    """

    data: NDArray[np.float16]
    labels: NDArray[np.float64]
    diameter: NDArray[np.float64]
    empty: BoolArray | None = None
    mask: BoolArray | None = None


def gaussian_target(
    labels: NDArray[np.float64], shape: tuple[int, int, int], *, diameter: NDArray[np.float64], sigma: float
) -> FloatArray:
    """Return the maximum of the Gaussians around the labels on the cells of the heat map.

    Values below `SOFT_FLOOR` are 0.

    Parameters
    ----------
    labels
        (n, 3) z, y, x in voxels of the crop, also outside it.
    shape
        (z, y, x) shape of the crop in cells.
    diameter, sigma
        (z, y, x) diameter of a particle in voxels, and standard deviation as a fraction of it.
    """
    target = np.zeros(shape, np.float32)
    axes = [np.arange(n) * step for n, step in zip(shape, STRIDES, strict=True)]
    for label in labels:
        z, y, x = (
            ((axis - position) / (extent * sigma)) ** 2 / 2
            for axis, position, extent in zip(axes, label, diameter, strict=True)
        )
        gaussian = np.exp(-(z[:, None, None] + y[None, :, None] + x[None, None, :]))
        np.maximum(target, gaussian, out=target)
    target[target < SOFT_FLOOR] = 0
    return target


def _padded(volume: LabeledVolume, crop: tuple[int, int, int]) -> LabeledVolume:
    """Pad a volume by reflection to the size of a crop; its mask excludes the padding."""
    missing = [max(0, side - n) for side, n in zip(crop, volume.data.shape, strict=True)]
    if not any(missing):
        return volume
    before = [m // 2 for m in missing]
    width = [(b, m - b) for b, m in zip(before, missing, strict=True)]
    mask = np.ones(volume.data.shape, bool) if volume.mask is None else volume.mask
    return LabeledVolume(
        data=np.pad(volume.data, width, mode="symmetric"),
        labels=volume.labels + np.asarray(before),
        diameter=volume.diameter,
        empty=None if volume.empty is None else np.pad(volume.empty, width),
        mask=np.pad(mask, width),
    )


@dataclass(frozen=True, kw_only=True)
class CropSampler:
    """Sampler of random crops of volumes with labels; those of step n depend on the seed and n only."""

    volumes: list[LabeledVolume]
    config: CetPickConfig
    _owners: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        padded = [_padded(volume, self.config.crop) for volume in self.volumes]
        object.__setattr__(self, "volumes", padded)
        owners = np.repeat(np.arange(len(padded)), [len(volume.labels) for volume in padded])
        object.__setattr__(self, "_owners", owners)

    def batch(self, step: int) -> tuple[FloatArray, FloatArray]:
        """Draw the crops (batch, z, y, x) of one step and their targets (batch, z, y / 2, x / 2).

        The first crop contains a label. Targets are 1 positive, (0, 1) near a positive, 0 empty, -1 unlabeled
        and -2 ignored.
        """
        rng = np.random.default_rng([self.config.seed, step])
        pairs = [self._sample(rng, centered=not number) for number in range(self.config.batch)]
        crops, targets = zip(*pairs, strict=True)
        return np.stack(crops), np.stack(targets)

    def _sample(self, rng: np.random.Generator, *, centered: bool) -> tuple[FloatArray, FloatArray]:
        size = np.asarray(self.config.crop)
        background = rng.random() < self.config.background_fraction and not centered
        number = rng.integers(len(self._owners))
        volume = self.volumes[self._owners[number]]
        if background:
            volume = self.volumes[rng.integers(len(self.volumes))]
            window = self._window(volume, rng.uniform(0, volume.data.shape))
            for _ in range(TRIES):
                if volume.mask is None or volume.mask[window].any():
                    break
                window = self._window(volume, rng.uniform(0, volume.data.shape))
        else:
            first = int(np.searchsorted(self._owners, self._owners[number]))
            reach = np.clip(self.config.jitter * size, 0, np.maximum(size / 2 - 1, 0))
            center = volume.labels[number - first] + rng.uniform(-1, 1, 3) * reach
            window = self._window(volume, center)
        crop = volume.data[window].astype(np.float32)
        labels = volume.labels - [side.start for side in window]
        flips = tuple(int(axis) for axis in np.flatnonzero(rng.random(3) < 0.5))
        crop = np.flip(crop, flips)
        for axis in flips:
            labels[:, axis] = size[axis] - 1 - labels[:, axis]
        target = self._target(volume, labels, window, flips)
        gain = np.exp(rng.uniform(-1, 1) * np.log(self.config.gain))
        noise = rng.standard_normal(crop.shape, dtype=np.float32) * np.float32(
            rng.random() * self.config.noise
        )
        return crop * np.float32(gain) + noise + np.float32(rng.normal(0, 0.1)), target

    def _window(self, volume: LabeledVolume, center: NDArray[np.float64]) -> tuple[slice, ...]:
        """Return the window of a crop around a point, moved into the volume."""
        size = np.asarray(self.config.crop)
        begin = np.round(center - (size - 1) / 2).astype(int)
        begin = np.clip(begin, 0, np.asarray(volume.data.shape) - size)
        return tuple(slice(int(b), int(b + s)) for b, s in zip(begin, size, strict=True))

    def _target(
        self,
        volume: LabeledVolume,
        labels: NDArray[np.float64],
        window: tuple[slice, ...],
        flips: tuple[int, ...],
    ) -> FloatArray:
        depth, height, width = self.config.crop
        shape = (depth, height // XY_STRIDE, width // XY_STRIDE)
        target = gaussian_target(labels, shape, diameter=volume.diameter, sigma=self.config.target_sigma)
        nothing = target == 0
        target[target >= self.config.hard_positive_above] = 1.0
        # A label between cells can leave every cell below the limit; its nearest cell is always positive.
        nearest = np.round(labels / STRIDES).astype(int)
        inside = ((nearest >= 0) & (nearest < shape)).all(axis=1)
        target[tuple(nearest[inside].T)] = 1.0
        target[nothing & (target == 0)] = UNLABELED
        for mask, value, where in ((volume.empty, EMPTY, True), (volume.mask, IGNORED, False)):
            if mask is not None:
                cells = np.flip(mask[window], flips)[:, ::XY_STRIDE, ::XY_STRIDE] == where
                target[cells & (target == UNLABELED)] = value
        return target


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
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        z, y, x = (((axis - p) / r) ** 2 for axis, p, r in zip(np.ogrid[box], point, reach, strict=True))
        near[box] |= z + y + x <= 1
    return near


def known_voxel_size(item: LabeledTomogram) -> tuple[float, float, float]:
    """Return the (z, y, x) voxel size of a tomogram in angstrom; raise an `InputError` if it has none."""
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
    item: LabeledTomogram, config: CetPickConfig, settings: DetectorSettings, held: NDArray[np.bool_]
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


def _inside(points: NDArray[np.float64], item: LabeledTomogram, on_event: OnEvent) -> NDArray[np.float64]:
    """Return the points inside a tomogram, and warn of others."""
    good, warning = check_labels(points, item.tomogram.data.shape, name=item.name, remedy=REMEDY)
    if warning:
        on_event(Warn(text=warning))
    return good


def checked(items: list[LabeledTomogram], config: CetPickConfig, on_event: OnEvent) -> list[LabeledTomogram]:
    """Remove labels outside the tomogram and repeated labels; warn of few labels."""
    good = []
    for item in items:
        if not len(item.labels) and not len(item.negatives):
            good.append(item)
            continue
        labels, negatives = (_inside(points, item, on_event) for points in (item.labels, item.negatives))
        apart = 0.1 * config.particle_diameter_angstrom
        distinct = _distinct(labels, known_voxel_size(item), apart)
        if not distinct.all():
            on_event(
                Note(text=f"{item.name}: {int((~distinct).sum())} labels repeat others and are left out.")
            )
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
