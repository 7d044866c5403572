"""Clips of whole slices for SAM 2 networks, with the augmentation of ETSAM.

Two faults of the published augmentation are corrected. Its color jitter clamps to [0, 1], although the
inputs of stage 2 reach 2; here nothing is clamped. Its affine transform fills corners with 123 although the
data lie in [0, 1]; here they get the mean of the clip, and their labels are unknown. Saturation and random
grey do not change three equal channels and are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import affine

from cryoseg.config.train_sam2 import Sam2ClipConfig
from cryoseg.errors import InputError
from cryoseg.methods.etsam.network import NetworkInput
from cryoseg.methods.etsam.training_network import ClipBatch
from cryoseg.types import BoolArray

MASK_LEVEL = 0.5  # threshold of sam2 for a resized prompt mask


@dataclass(frozen=True, kw_only=True)
class SliceVolume:
    """A tomogram whose slices are read when they are needed.

    Attributes
    ----------
    name
        Name for messages.
    plane
        Function that returns slice z as (y, x) floats, the input of this stage.
    labels
        (z, y, x) labels: 1 membrane, 0 background, -1 unknown.
    prompt
        Function that returns the (y, x) mask that prompts slice z in inference, or None.
    """

    name: str
    plane: Callable[[int], NDArray[np.floating[Any]]]
    labels: NDArray[np.int8]
    prompt: Callable[[int], BoolArray | None]

    def first_slices(self, length: int) -> NDArray[np.int64]:
        """Return the slices with membrane that can start a clip, or else the first slice with membrane."""
        holding = np.flatnonzero((self.labels > 0).any(axis=(1, 2)))
        latest = max(len(self.labels) - length, 0)
        return holding[holding <= latest] if (holding <= latest).any() else holding[:1]


def sample_slice_clip(
    volumes: list[SliceVolume], rng: np.random.Generator, config: Sam2ClipConfig, side: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Draw one augmented clip.

    Parameters
    ----------
    volumes
        Volumes to draw from, each with membrane.
    rng
        Random generator of this clip alone.
    config
        Length and augmentation.
    side
        Side of the network's square input in pixels.

    Returns
    -------
    tuple
        (T, 3, side, side) float32 images, (T, side, side) int8 labels and a (side, side) bool
        prompt or None. A volume of fewer than T slices ends with copies of its last slice,
        labeled unknown.
    """
    volume = volumes[int(rng.integers(len(volumes)))]
    starts = volume.first_slices(config.length)
    if not len(starts):
        raise InputError(f"{volume.name}: no slice is labeled membrane; leave this volume out.")
    first = int(starts[rng.integers(len(starts))])
    depth = len(volume.labels)
    rows = np.minimum(np.arange(first, first + config.length), depth - 1)
    images = torch.from_numpy(np.stack([np.asarray(volume.plane(int(z)), np.float32) for z in rows]))
    labels = torch.from_numpy(volume.labels[rows].copy())
    labels[torch.from_numpy(np.arange(first, first + config.length) >= depth)] = -1
    mask = volume.prompt(first)
    prompt = None if mask is None else torch.from_numpy(np.ascontiguousarray(mask))
    images, labels, prompt = _warp(images, labels, prompt, rng, config)
    images = _jitter(images, rng, config)
    network = NetworkInput(lambda t: images[t].numpy(), len(images), side)
    return (
        torch.stack([network[t] for t in range(len(images))]),
        functional.interpolate(labels[:, None].float(), size=(side, side), mode="nearest-exact")[:, 0].to(
            torch.int8
        ),
        None if prompt is None else resize_mask(prompt, side),
    )


def resize_mask(mask: Tensor, side: int) -> Tensor:
    """Resize a (y, x) mask to (side, side) as sam2's predictor resizes a prompt."""
    resized = functional.interpolate(
        mask[None, None].float(), size=(side, side), mode="bilinear", align_corners=False, antialias=True
    )
    return resized[0, 0] >= MASK_LEVEL


def _warp(
    images: Tensor, labels: Tensor, prompt: Tensor | None, rng: np.random.Generator, config: Sam2ClipConfig
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Mirror, rotate and shear all slices in the same way."""
    if rng.random() < config.flip:
        images, labels = images.flip(-1), labels.flip(-1)
        prompt = None if prompt is None else prompt.flip(-1)
    angle, shear = (float(rng.uniform(-most, most)) for most in (config.rotation, config.shear))
    if angle == 0 and shear == 0:
        return images, labels, prompt
    transform: dict[str, Any] = {"angle": angle, "translate": [0, 0], "scale": 1.0, "shear": [shear, 0.0]}
    known = labels.to(torch.float32) + 1  # 0 where a label is unknown, so that corners become unknown
    moved = affine(known, **transform, interpolation=InterpolationMode.NEAREST, fill=[0.0] * len(known)) - 1
    if not bool((moved[0] > 0).any()):
        return images, labels, prompt
    mean = float(images.mean())
    images = (
        affine(images - mean, **transform, interpolation=InterpolationMode.BILINEAR, fill=[0.0] * len(images))
        + mean
    )
    if prompt is not None:
        prompt = (
            affine(prompt[None].float(), **transform, interpolation=InterpolationMode.NEAREST)[0] > MASK_LEVEL
        )
    return images, moved.to(torch.int8), prompt


def _jitter(images: Tensor, rng: np.random.Generator, config: Sam2ClipConfig) -> Tensor:
    """Change brightness and contrast of all slices in the same way."""
    brightness, contrast = (1 + float(rng.uniform(-c, c)) for c in (config.brightness, config.contrast))
    mean = images.mean(dim=(-2, -1), keepdim=True)
    return brightness * (mean + contrast * (images - mean))


def sample_slice_clips(
    volumes: list[SliceVolume], config: Sam2ClipConfig, *, side: int, seed: int, step: int, part: range
) -> ClipBatch:
    """Draw the clips of a step with indices in `part`.

    Parameters
    ----------
    volumes, config, side
        Parameters of `sample_slice_clip`.
    seed, step
        All random choices follow from (seed, step, index of the clip).
    part
        Part of `range(config.batch)` that this process draws.
    """
    clips = [sample_slice_clip(volumes, np.random.default_rng([seed, step, i]), config, side) for i in part]
    prompts = [prompt for _, _, prompt in clips if prompt is not None]
    return ClipBatch(
        images=torch.stack([images for images, _, _ in clips]),
        labels=torch.stack([labels for _, labels, _ in clips]),
        prompts=torch.stack(prompts) if len(prompts) == len(clips) else None,
    )
