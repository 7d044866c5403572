"""Training samples from micrographs: augmented tiles or whole images, and their targets.

All random choices of step n follow from (seed, n), so that a resumed run gets the same samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cryoseg.config.train_sam import SampleConfig
from cryoseg.methods.training.augment import add_noise, gaussian_blur

TRIES = 8  # number of attempts to find a tile with a known pixel
NEAR_PARTICLE = 0.8  # fraction of tiles that are placed on a particle
SMALLEST_OBJECT = 12  # smallest number of pixels of a particle that is prompted


@dataclass(frozen=True, kw_only=True)
class TrainingMicrograph:
    """A micrograph as `core.grids.robust.particle_view` shows it, with labels on the same grid.

    Attributes
    ----------
    name
        Name for messages.
    grey
        (y, x) float16 grey values of zero median and unit deviation, with dark particles.
    labels
        (y, x) int32 labels: number of the particle, 0 background, -1 unknown.
    centers
        (n, 2) y, x of the particles in pixels of `grey`.
    square
        (3, S, S) float16 in [0, 1], the whole micrograph as a square, for `TrainView.WHOLE`.
    square_labels
        (s, s) float16 in [0, 1], the soft mask at the size of the network's logits.
    """

    name: str
    grey: NDArray[np.float16]
    labels: NDArray[np.int32]
    centers: NDArray[np.float64]
    square: NDArray[np.float16] | None = None
    square_labels: NDArray[np.float16] | None = None


def tile_targets(labels: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Return the fraction of particle and the weight of the pixels of logits, (B, side, side) each.

    `labels` are (B, S, S) labels of tiles with the values of `TrainingMicrograph`.
    """
    share, known = (
        functional.adaptive_avg_pool2d(chosen.float()[:, None], side)[:, 0]
        for chosen in (labels > 0, labels >= 0)
    )
    return share, (known > 0.5).float()


def sample_tile(
    micrograph: TrainingMicrograph, rng: np.random.Generator, config: SampleConfig, side: int
) -> tuple[Tensor, Tensor]:
    """Draw one augmented tile: (side, side) float32 grey values and int64 labels."""
    zoom = float(np.exp(rng.uniform(-1, 1) * np.log(config.zoom)))
    crop = max(8, round(side / zoom))
    y, x = _corner(micrograph, rng, crop)
    for _ in range(TRIES):
        if (micrograph.labels[y : y + crop, x : x + crop] >= 0).any():
            break
        y, x = _corner(micrograph, rng, crop)
    grey, labels = _cut(micrograph, y, x, crop)
    image = torch.from_numpy(grey)[None, None]
    numbers = torch.from_numpy(labels)[None, None].float()
    if crop != side:
        image = functional.interpolate(
            image, (side, side), mode="bilinear", align_corners=False, antialias=True
        )
        numbers = functional.interpolate(numbers, (side, side), mode="nearest-exact")
    image, numbers = image[0, 0], numbers[0, 0].long()
    if config.flips:
        turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
        image, numbers = torch.rot90(image, turns), torch.rot90(numbers, turns)
        if mirror:
            image, numbers = image.flip(1), numbers.flip(1)
    return _augment_intensity(image.contiguous(), rng, config), numbers.contiguous()


def _corner(micrograph: TrainingMicrograph, rng: np.random.Generator, crop: int) -> tuple[int, int]:
    height, width = micrograph.grey.shape
    ends = np.maximum(0, [height - crop, width - crop])
    if len(micrograph.centers) and rng.random() < NEAR_PARTICLE:
        center = micrograph.centers[rng.integers(len(micrograph.centers))]
        corner = center - rng.uniform(0.1, 0.9, 2) * crop
    else:
        corner = rng.uniform(0, ends + 1)
    y, x = np.clip(corner, 0, ends).astype(int)
    return int(y), int(x)


def _cut(
    micrograph: TrainingMicrograph, y: int, x: int, crop: int
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    grey = np.zeros((crop, crop), np.float32)
    labels = np.full((crop, crop), -1, np.int32)
    piece = micrograph.grey[y : y + crop, x : x + crop]
    grey[: piece.shape[0], : piece.shape[1]] = piece
    labels[: piece.shape[0], : piece.shape[1]] = micrograph.labels[y : y + crop, x : x + crop]
    return grey, labels


def _augment_intensity(image: Tensor, rng: np.random.Generator, config: SampleConfig) -> Tensor:
    if config.blur and rng.random() < 0.3:
        sigma = float(rng.uniform(0.3, max(0.3, config.blur)))
        image = gaussian_blur(image[None], sigma)[0]
    if config.noise and rng.random() < 0.5:
        image = add_noise(image, rng, config.noise)
    if config.gain > 1:
        image = image * float(np.exp(rng.uniform(-1, 1) * np.log(config.gain)))
        image = image + float(rng.uniform(-0.2, 0.2))
    return image


def sample_tiles(
    micrographs: list[TrainingMicrograph], config: SampleConfig, *, side: int, seed: int, step: int
) -> tuple[Tensor, Tensor]:
    """Draw the tiles of one step: (B, S, S) float32 grey values and int64 labels."""
    tiles = []
    for i in range(config.batch):
        rng = np.random.default_rng([seed, step, i])
        micrograph = micrographs[int(rng.integers(len(micrographs)))]
        tiles.append(sample_tile(micrograph, rng, config, side))
    return torch.stack([grey for grey, _ in tiles]), torch.stack([labels for _, labels in tiles])


@dataclass(frozen=True, kw_only=True)
class TileSampler:
    """Function from the number of a step to its tiles, as arrays that another process can send.

    Attributes
    ----------
    micrographs, config, seed
        Parameters of `sample_tiles`.
    side, logit_side
        Sides of tiles and of logits in pixels.
    """

    micrographs: list[TrainingMicrograph]
    config: SampleConfig
    side: int
    logit_side: int
    seed: int

    def __call__(self, step: int) -> tuple[NDArray[Any], ...]:
        """Return grey values (B, S, S), the signs of the labels, and the result of `tile_targets`."""
        grey, labels = sample_tiles(self.micrographs, self.config, side=self.side, seed=self.seed, step=step)
        share, weight = tile_targets(labels, self.logit_side)
        # Under autocast on the CPU a blur may give another type.
        return grey.float().numpy(), labels.sign().to(torch.int8).numpy(), share.numpy(), weight.numpy()


def shuffled(number: int, count: int, seed: int) -> int:
    """Return the index of sample `number` where each of `count` items occurs once per epoch, shuffled."""
    epoch, place = divmod(number, count)
    return int(np.random.default_rng([seed, epoch]).permutation(count)[place])


def sample_squares(
    micrographs: list[TrainingMicrograph], config: SampleConfig, *, seed: int, step: int
) -> tuple[Tensor, Tensor]:
    """Return the whole micrographs of one step, each once per epoch: (B, 3, S, S) and (B, s, s)."""
    images, labels = [], []
    for i in range(config.batch):
        micrograph = micrographs[shuffled(step * config.batch + i, len(micrographs), seed)]
        assert micrograph.square is not None
        assert micrograph.square_labels is not None
        images.append(torch.from_numpy(micrograph.square.astype(np.float32)))
        labels.append(torch.from_numpy(micrograph.square_labels.astype(np.float32)))
    return torch.stack(images), torch.stack(labels)


@dataclass(frozen=True, kw_only=True)
class ObjectPrompts:
    """Points and boxes that prompt single particles.

    Attributes
    ----------
    image
        (n,) indices of tiles in the batch.
    masks
        (n, S, S) bool masks of the particles.
    points, labels
        (n, k, 2) points x, y in pixels, and (n, k) labels: 1 inside, 0 outside, -1 no point.
    boxes
        (n, 4) boxes x0, y0, x1, y1 in pixels.
    """

    image: Tensor
    masks: Tensor
    points: Tensor
    labels: Tensor
    boxes: Tensor


POINTS = 3


def draw_object_prompts(labels: Tensor, rng: np.random.Generator, *, each: int) -> ObjectPrompts | None:
    """Draw prompts for up to `each` particles of every tile; return None if there is no particle.

    `labels` are (B, S, S) int64 labels.
    """
    chosen: list[tuple[int, NDArray[np.bool_]]] = []
    for i, tile in enumerate(labels.numpy()):
        numbers, counts = np.unique(tile[tile > 0], return_counts=True)
        numbers = numbers[counts >= SMALLEST_OBJECT]
        chosen += [(i, tile == n) for n in rng.permutation(numbers)[:each]]
    if not chosen:
        return None
    points = np.zeros((len(chosen), POINTS, 2), np.float32)
    kinds = np.full((len(chosen), POINTS), -1, np.float32)
    boxes = np.zeros((len(chosen), 4), np.float32)
    for row, (_, mask) in enumerate(chosen):
        inside = np.argwhere(mask)
        count = 1 + int(rng.integers(2))
        points[row, :count] = inside[rng.integers(len(inside), size=count)][:, ::-1]
        kinds[row, :count] = 1
        low, high = inside.min(axis=0), inside.max(axis=0) + 1
        extent = high - low
        if rng.random() < 0.5:  # a point outside the particle, as a user corrects a mask that is too large
            away = low + extent / 2 + extent * rng.choice([-0.8, 0.8], 2)
            y, x = np.clip(np.round(away), 0, np.array(mask.shape) - 1).astype(int)
            if not mask[y, x]:
                points[row, -1], kinds[row, -1] = (x, y), 0
        jitter = rng.normal(0, 0.05, (2, 2)) * extent
        boxes[row] = np.concatenate([(low + jitter[0])[::-1], (high + jitter[1])[::-1]])
    return ObjectPrompts(
        image=torch.tensor([i for i, _ in chosen]),
        masks=torch.from_numpy(np.stack([mask for _, mask in chosen])),
        points=torch.from_numpy(points),
        labels=torch.from_numpy(kinds),
        boxes=torch.from_numpy(boxes),
    )
