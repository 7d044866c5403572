"""Read training volumes, cut clips of consecutive slices from them and augment the clips.

The clips of step n follow from (seed, n), so that a resumed run gets the same clips.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cryoseg.config.segment import Polarity
from cryoseg.config.train import ClipConfig
from cryoseg.core.grids.blank import find_blank
from cryoseg.core.grids.resample import Resampled, Slices, nearest
from cryoseg.core.grids.robust import FilledSlices, robust_map
from cryoseg.core.grids.working_grid import model_shape
from cryoseg.events import OnEvent, ignore
from cryoseg.io.images.pixel_size import settle_pixel_size
from cryoseg.io.images.volumes import check_finite, read_tomogram
from cryoseg.methods.membrane_tiny.network import (
    LOGIT_CLIP,
    LOGIT_OFFSETS,
    REACH,
    SLICE_OFFSETS,
    MembraneRecipe,
)
from cryoseg.methods.membranes import Pair, read_labels
from cryoseg.methods.training.augment import add_noise, gaussian_blur

Place = tuple[int, slice, slice]  # First slice, rows and columns of a clip.


@dataclass(frozen=True, kw_only=True)
class TrainingVolume:
    """One tomogram ready for training.

    Attributes
    ----------
    name
        Name for messages.
    data
        (z, y, x) float16 normalized grey values, with dark membranes.
    labels
        (z, y, x) int8 labels: 1 membrane, 0 background, -1 unknown.
    stage1_logits
        (z, y, x) float16 logits of stage 1, for training stage 2.
    """

    name: str
    data: NDArray[np.float16]
    labels: NDArray[np.int8]
    stage1_logits: NDArray[np.float16] | None = None

    @cached_property
    def labeled_slices(self) -> NDArray[np.int64]:
        """Indices of the slices with a known voxel, (n,)."""
        return np.flatnonzero((self.labels >= 0).any(axis=(1, 2)))


def load_volume(
    pair: Pair,
    *,
    polarity: Polarity = Polarity.DARK,
    stage1_logits: Path | None = None,
    on_event: OnEvent = ignore,
) -> TrainingVolume:
    """Read and normalize one pair on the grid that the packaged model uses for such a tomogram.

    Parameters
    ----------
    pair
        Pair from `split_pairs`.
    polarity
        Polarity of the membranes where the pair does not say.
    stage1_logits
        `.npy` file of (z, y, x) float16 logits on that grid, for training stage 2.
    on_event
        Receiver of warnings about the files.
    """
    tomogram = read_tomogram(pair.image, mode0=pair.mode0)
    check_finite(tomogram)
    values = read_labels(pair, tomogram, on_event)
    blank = find_blank(tomogram.data)
    invert = (pair.polarity or polarity) is Polarity.BRIGHT
    intensity = robust_map(tomogram.data, invert=invert, blank=blank)
    source: Slices = tomogram.data if blank is None else FilledSlices(tomogram.data, blank, intensity.center)
    recipe = MembraneRecipe()
    size, _ = settle_pixel_size(tomogram, override=pair.pixel_size, assumed=recipe.assumed_pixel_size)
    shape = model_shape(tomogram.data.shape, size.angstrom, recipe.pixel_size_range)
    resampled: Slices = source if shape == tomogram.data.shape else Resampled(source, shape)
    data = np.empty(shape, np.float16)
    for z in range(len(data)):
        data[z] = intensity(resampled[z])
    return TrainingVolume(
        name=pair.name,
        data=data,
        labels=_labels_on_grid(values, shape),
        stage1_logits=None if stage1_logits is None else np.load(stage1_logits),
    )


def _labels_on_grid(labels: NDArray[np.int8], shape: tuple[int, int, int]) -> NDArray[np.int8]:
    """Resample (z, y, x) labels; on a coarser grid every labeled slice is kept."""
    if shape[0] >= len(labels):
        return np.asarray(nearest(labels, shape))
    moved = np.full(shape, -1, np.int8)
    for z in np.flatnonzero((labels >= 0).any(axis=(1, 2))):
        target = int((z + 0.5) * shape[0] / len(labels))
        slice_ = nearest(labels[z], shape[1:])
        moved[target] = np.where(slice_ >= 0, slice_, moved[target])
    return moved


def _span(rng: np.random.Generator, extent: int, wanted: int) -> slice:
    start = int(rng.integers(0, max(0, extent - wanted) + 1))
    return slice(start, min(extent, start + wanted))


def _labeled_span(rng: np.random.Generator, volume: TrainingVolume, wanted: int) -> slice:
    """Choose the slices of a clip of which at least one has labels."""
    depth = len(volume.data)
    known = volume.labeled_slices
    if len(known) == depth:
        return _span(rng, depth, wanted)
    labeled = int(known[rng.integers(len(known))])
    start = int(np.clip(labeled - rng.integers(wanted), 0, max(0, depth - wanted)))
    return slice(start, min(depth, start + wanted))


def _place(volume: TrainingVolume, rng: np.random.Generator, length: int, side: int) -> Place:
    """Choose first slice, rows and columns of a clip."""
    _, height, width = volume.data.shape
    z = _labeled_span(rng, volume, length)
    return z.start, _span(rng, height, side), _span(rng, width, side)


def _rows(volume: TrainingVolume, start: int, stop: int) -> NDArray[np.intp]:
    """Return the indices of slices; beyond the ends the outermost slices repeat."""
    return np.clip(np.arange(start, stop), 0, len(volume.data) - 1)


def _planes(volume: TrainingVolume, place: Place, length: int) -> NDArray[np.float32]:
    """Return all planes that the slices of a clip read, (z + 2 reach, planes, y, x)."""
    z, y, x = place
    reach = REACH[1 if volume.stage1_logits is None else 2]
    rows = _rows(volume, z - reach, z + length + reach)
    planes = [volume.data[rows, y, x]]
    if volume.stage1_logits is not None:
        planes.append(np.clip(volume.stage1_logits[rows, y, x], -LOGIT_CLIP, LOGIT_CLIP) / LOGIT_CLIP)
    return np.stack(planes, axis=1).astype(np.float32)


def _clip_with_membrane(
    volumes: list[TrainingVolume], rng: np.random.Generator, config: ClipConfig, side: int
) -> tuple[TrainingVolume, Place]:
    """Choose a clip with membrane; `empty_fraction` of the clips may have none."""
    may_be_empty = rng.random() < config.empty_fraction
    for _ in range(8):
        volume = volumes[int(rng.integers(len(volumes)))]
        place = z, y, x = _place(volume, rng, config.length, side)
        labels = volume.labels[_rows(volume, z, z + config.length), y, x]
        if (may_be_empty and (labels >= 0).any()) or (labels > 0).mean() > 0.005:
            break
    return volume, place


def _hard_negative(
    volumes: list[TrainingVolume], rng: np.random.Generator, length: int, side: int
) -> tuple[TrainingVolume, Place]:
    """Choose, of eight clips, one without membrane and with the most that resembles one.

    Stage-1 logits show what resembles membrane; for stage 1 it is the deviation of blocks of 4 x 4 pixels.
    """
    found: list[tuple[bool, float, int, TrainingVolume, Place]] = []
    for _ in range(8):
        volume = volumes[int(rng.integers(len(volumes)))]
        place = z, y, x = _place(volume, rng, length, side)
        rows = _rows(volume, z, z + length)
        labels = volume.labels[rows, y, x]
        if volume.stage1_logits is not None:
            logits = np.clip(volume.stage1_logits[rows, y, x], -LOGIT_CLIP, LOGIT_CLIP)
            likeness = float(logits.mean(dtype=np.float64))
        else:
            images = torch.from_numpy(volume.data[rows, y, x].astype(np.float32))
            likeness = float(functional.avg_pool2d(images, 4).std())
        is_negative = bool((labels == 0).any() and (labels > 0).mean() < 1e-3)
        found.append((is_negative, likeness, len(found), volume, place))
    _, _, _, volume, place = max(found, key=lambda one: one[:3])
    return volume, place


def sample_clip(
    volumes: list[TrainingVolume], rng: np.random.Generator, config: ClipConfig
) -> tuple[Tensor, Tensor]:
    """Draw one augmented clip: (T, C, S, S) float32 slice stacks, and (T, S, S) int8 labels."""
    zoom = float(np.exp(rng.uniform(-1, 1) * np.log(config.zoom))) if rng.random() < 0.5 else 1.0
    side = round(config.size / zoom)
    # Without hard negatives nothing is drawn, so that such a training keeps its clips.
    if config.hard_negatives and rng.random() < config.hard_negatives:
        volume, place = _hard_negative(volumes, rng, config.length, side)
    else:
        volume, place = _clip_with_membrane(volumes, rng, config, side)
    z, y, x = place
    labels = volume.labels[_rows(volume, z, z + config.length), y, x]
    planes = _planes(volume, place, config.length)
    images, targets = _resize(torch.from_numpy(planes), torch.from_numpy(labels), config.size)
    images, targets = _flip(images, targets, rng)
    first = (len(images) - len(targets)) // 2
    used = slice(first - REACH[1], first + len(targets) + REACH[1])
    images[used, 0] = _change_intensity(images[used, 0], rng, config)
    offsets = (SLICE_OFFSETS, LOGIT_OFFSETS)[: images.shape[1]]
    stacks = [
        torch.cat(
            [images[[t + first + step for step in steps], plane] for plane, steps in enumerate(offsets)]
        )
        for t in range(len(targets))
    ]
    return torch.stack(stacks), targets


def _resize(images: Tensor, labels: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Resize y and x to `size`; a smaller volume is padded, its images with the edge, its labels with -1."""
    height, width = images.shape[-2:]
    if height != width:
        pad = (0, max(0, height - width), 0, max(0, width - height))
        images = functional.pad(images, pad, mode="replicate")
        labels = functional.pad(labels, pad, value=-1)
    if images.shape[-1] != size:
        images = functional.interpolate(images, size=(size, size), mode="bilinear", antialias=True)
        # Nearest-neighbor interpolation does not mix -1 with 0 and 1.
        labels = functional.interpolate(labels[:, None].float(), size=(size, size), mode="nearest")[:, 0].to(
            torch.int8
        )
    return images, labels


def _flip(images: Tensor, labels: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    coins = rng.random(4) < 0.5
    for coin, axis in zip(coins[:2], (-2, -1), strict=True):
        if coin:
            images, labels = images.flip(axis), labels.flip(axis)
    if coins[2]:
        images, labels = images.transpose(-1, -2), labels.transpose(-1, -2)
    if coins[3]:
        images, labels = images.flip(0), labels.flip(0)
    return images.contiguous(), labels.contiguous()


def _change_intensity(images: Tensor, rng: np.random.Generator, config: ClipConfig) -> Tensor:
    """Change (z, y, x) intensities by blur, noise, contrast, offset and a linear ramp."""
    if rng.random() < 0.3 and config.blur:
        sigma = float(rng.uniform(0.3, config.blur))
        images = gaussian_blur(images, sigma)
        images = images / images.std().clamp(min=0.3)
    if rng.random() < 0.4 and config.noise:
        images = add_noise(images, rng, config.noise)
    images = images * float(np.exp(rng.uniform(-0.3, 0.3))) + float(rng.uniform(-0.3, 0.3))
    if rng.random() < 0.2:
        ramp = torch.linspace(-1, 1, images.shape[-1])
        images = images + float(rng.uniform(-0.6, 0.6)) * ramp + float(rng.uniform(-0.6, 0.6)) * ramp[:, None]
    return images


def sample_clips(
    volumes: list[TrainingVolume], config: ClipConfig, *, seed: int, step: int, part: range | None = None
) -> tuple[Tensor, Tensor]:
    """Draw the clips of one step: images (B, T, C, S, S) and labels (B, T, S, S).

    `part` selects from `range(config.batch)` the clips to draw; None draws all.
    """
    numbers = range(config.batch) if part is None else part
    clips = [sample_clip(volumes, np.random.default_rng([seed, step, i]), config) for i in numbers]
    return torch.stack([images for images, _ in clips]), torch.stack([labels for _, labels in clips])
