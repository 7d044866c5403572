"""Training crops of CET-pick: around labels and elsewhere, with exact sub-cell targets.

The publication floors a label to a cell of the heat map, which shifts it by up to a voxel. Here
the Gaussian is drawn around the label's true position, and a flip moves it as it moves the crop.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cryoseg.config.cet_pick import CetPickConfig
from cryoseg.methods.cet_pick.network import XY_STRIDE
from cryoseg.types import BoolArray, FloatArray

UNLABELED = -1.0
EMPTY = 0.0
IGNORED = -2.0
TRIES = 8  # to find a crop in which there is something to learn from
SOFT_FLOOR = 0.05  # Gaussian values below this count as unlabeled


@dataclass(frozen=True, kw_only=True)
class LabeledVolume:
    """One tomogram on the working grid.

    Attributes
    ----------
    data
        (z, y, x) normalized, float16 to spare memory.
    labels
        (n, 3) z, y, x of the labels to train from, working voxels.
    diameter
        (z, y, x) of a particle, working voxels.
    empty
        (z, y, x) True where there is known to be no particle, or None.
    mask
        (z, y, x) True where particles may be; elsewhere nothing is learned. None for everywhere.
    """

    data: NDArray[np.float16]
    labels: NDArray[np.float64]
    diameter: NDArray[np.float64]
    empty: BoolArray | None = None
    mask: BoolArray | None = None


@dataclass(frozen=True, kw_only=True)
class CropBatch:
    """Crops and targets of one step.

    Attributes
    ----------
    crops
        (batch, z, y, x).
    targets
        (batch, z, y / 2, x / 2): 1 hard positive, (0, 1) soft, 0 known to be empty, -1 unlabeled,
        -2 to be left out.
    """

    crops: FloatArray
    targets: FloatArray


def gaussian_target(
    labels: NDArray[np.float64], shape: tuple[int, int, int], *, diameter: NDArray[np.float64], sigma: float
) -> FloatArray:
    """Largest of the Gaussians around the labels, on heat-map cells.

    Parameters
    ----------
    labels
        (n, 3) z, y, x, voxels of the crop; may lie outside.
    shape
        (z, y, x) of the crop in cells.
    diameter
        (z, y, x) of a particle, voxels of the crop.
    sigma
        As a fraction of the diameter.

    Returns
    -------
    FloatArray
        (z, y, x) in [0, 1]; 1 only where a label falls on a cell's center. 0 below `SOFT_FLOOR`.
    """
    target = np.zeros(shape, np.float32)
    steps = (1, XY_STRIDE, XY_STRIDE)
    axes = [np.arange(n) * step for n, step in zip(shape, steps, strict=True)]
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
    """The volume, extended by its mirror image (but never to be learned from) to hold a crop."""
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
    """Random crops; those of step n follow from the seed and n alone.

    Attributes
    ----------
    volumes
        At least one holds a label.
    config
        Crop size, augmentation, target, seed.
    """

    volumes: list[LabeledVolume]
    config: CetPickConfig
    _owners: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        padded = [_padded(volume, self.config.crop) for volume in self.volumes]
        object.__setattr__(self, "volumes", padded)
        owners = np.repeat(np.arange(len(padded)), [len(volume.labels) for volume in padded])
        object.__setattr__(self, "_owners", owners)

    def batch(self, step: int) -> CropBatch:
        """The crops of one step; the first always holds a label."""
        rng = np.random.default_rng([self.config.seed, step])
        pairs = [self._sample(rng, centered=not number) for number in range(self.config.batch)]
        crops, targets = zip(*pairs, strict=True)
        return CropBatch(crops=np.stack(crops), targets=np.stack(targets))

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
        """The crop about a point, moved into the volume."""
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
        # A label between cells can leave every cell below the bar; its nearest one must not be lost.
        steps = np.array([1, XY_STRIDE, XY_STRIDE])
        nearest = np.round(labels / steps).astype(int)
        inside = ((nearest >= 0) & (nearest < shape)).all(axis=1)
        target[tuple(nearest[inside].T)] = 1.0
        target[nothing & (target == 0)] = UNLABELED
        for mask, value, where in ((volume.empty, EMPTY, True), (volume.mask, IGNORED, False)):
            if mask is not None:
                cells = np.flip(mask[window], flips)[:, ::XY_STRIDE, ::XY_STRIDE] == where
                target[cells & (target == UNLABELED)] = value
        return target
