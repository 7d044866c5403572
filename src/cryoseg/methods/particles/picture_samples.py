"""Training samples from ordinary pictures: squares, published augmentation and soft targets."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cryoseg.config.prompt_sam import InputScale
from cryoseg.core.picture_frame import frame_picture
from cryoseg.errors import ConfigError, InputError
from cryoseg.io.images.pictures import PictureRow, read_picture_mask, read_rgb, read_size
from cryoseg.methods.particles.samples import shuffled
from cryoseg.methods.prompt_sam.network import PromptSam
from cryoseg.types import FloatArray

CACHE_BYTES = 1 << 30  # largest memory for squares that are kept
LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601
REFLECT = 4  # OpenCV's BORDER_REFLECT_101

Square = tuple[NDArray[np.uint8], NDArray[np.bool_]]
Augment = Callable[[NDArray[np.uint8], NDArray[np.bool_], int], Square]


def check_sizes(row: PictureRow) -> None:
    """Raise an `InputError` if the sizes of a picture and its mask in their headers differ."""
    (height, width), mask = read_size(row.image), read_size(row.mask)
    if (height, width) != mask:
        raise InputError(
            f"{row.mask}: is {mask[1]} x {mask[0]} px, its picture {width} x {height}; a mask must have "
            "the size of its picture."
        )


class PictureSamples:
    """Pictures as squares of `side` pixels, which are read when they are needed.

    A picture and its mask have the same size, as `check_sizes` makes sure.
    """

    def __init__(self, rows: Sequence[PictureRow], side: int, *, crop_black: bool) -> None:
        self.rows = list(rows)
        self.side, self.crop_black = side, crop_black
        self._kept: dict[int, Square] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Square:
        """Return a picture (side, side, 3) and its mask (side, side)."""
        if number in self._kept:
            return self._kept[number]
        row, side = self.rows[number], self.side
        rgb, mask = read_rgb(row.image), read_picture_mask(row.mask)
        frame = frame_picture(rgb, crop_black=self.crop_black)
        image = np.rint(frame.square(rgb, side)).clip(0, 255).astype(np.uint8)
        square = image, frame.square(mask, side) > 0.5
        if (len(self._kept) + 1) * 4 * self.side**2 <= CACHE_BYTES:
            self._kept[number] = square
        return square

    def batch(
        self, size: int, *, seed: int, step: int, augment: Augment | None
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Return the samples of one step, each picture once per epoch: (B, S, S, 3) and (B, S, S).

        All random choices follow from (seed, step) and the index in the batch.
        """
        images, masks = [], []
        for i in range(size):
            image, mask = self[shuffled(step * size + i, len(self), seed)]
            if augment is not None:
                draw = int(np.random.default_rng([seed, step, i]).integers(2**31))
                image, mask = augment(image, mask, draw)
            images.append(image)
            masks.append(mask)
        return np.stack(images), np.stack(masks)


def picture_input(network: PromptSam, images: NDArray[np.uint8]) -> Tensor:
    """Convert (B, S, S, 3) 8-bit pictures to the input of a network.

    Networks that read grey values get the luminance with zero mean and unit deviation.
    """
    rgb = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
    if network.config.input_scale is not InputScale.GREY:
        return rgb
    grey = (rgb * torch.tensor(LUMINANCE).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    spread = grey.std(dim=(1, 2, 3), keepdim=True).clamp(min=1e-6)
    return (grey - grey.mean(dim=(1, 2, 3), keepdim=True)) / spread


def soft_target(masks: NDArray[np.bool_], side: int) -> Tensor:
    """Resize (B, S, S) masks to (B, side, side) soft targets by bilinear interpolation, as published."""
    values = torch.from_numpy(np.ascontiguousarray(masks)).float()[:, None]
    return functional.interpolate(values, (side, side), mode="bilinear", align_corners=False)[:, 0]


def published_augmentation(side: int) -> Augment:
    """Return the augmentation of ProMISe; raise a `ConfigError` if Albumentations is not installed.

    Albumentations no longer accepts crops that are larger than the image, so their scale is 0.95 to 1 instead
    of 0.95 to 1.05.

    Source: xinkunwang111/ProMISe ProMISe/utilities/transformers.py@ce0cfdb, `train2_color`.
    """
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # otherwise it checks for updates on the internet
    try:
        import albumentations as library
    except ImportError:
        raise ConfigError(
            'the augmentation needs Albumentations: pip install "cryoseg[train]", or pass --no-augment.'
        ) from None
    transforms: Any = library.Compose(
        [
            library.RandomResizedCrop((side, side), scale=(0.95, 1.0), ratio=(0.95, 1.05), p=0.25),
            library.HorizontalFlip(p=0.25),
            library.VerticalFlip(p=0.25),
            library.Affine(
                translate_percent=(-0.0625, 0.0625),
                scale=(0.95, 1.05),
                rotate=(-45, 45),
                border_mode=REFLECT,
                p=0.25,
            ),
            library.OneOf(
                [
                    library.Blur(blur_limit=5),
                    library.MotionBlur(blur_limit=5),
                    library.MedianBlur(blur_limit=5),
                    library.GaussianBlur(blur_limit=(3, 5)),
                ],
                p=0.25,
            ),
            library.RandomBrightnessContrast(brightness_limit=0.1, contrast_limit=0.1, p=0.25),
            library.OneOf(
                [
                    library.CLAHE(),
                    library.Sharpen(),
                    library.ImageCompression(),
                    library.GaussNoise(std_range=(0.01, 0.03)),
                ],
                p=0.25,
            ),
            library.CoarseDropout(p=0.1),
        ]
    )

    def augment(image: NDArray[np.uint8], mask: NDArray[np.bool_], draw: int) -> Square:
        # `set_random_seed` gives every transform the same seed, so that all or none of them would apply.
        transforms.set_random_state(np.random.default_rng(draw), random.Random(draw))
        changed = transforms(image=image, mask=mask.astype(np.uint8))
        return changed["image"], changed["mask"] > 0

    return augment


def picture_logits(
    network: PromptSam, image: NDArray[np.uint8], given: Any, device: torch.device
) -> FloatArray:
    """Compute the (n, n) logits of one (S, S, 3) square at the resolution of the network's masks."""
    with torch.inference_mode():
        logits = network(picture_input(network, image[None]).to(device), given)[0]
    return logits[0, 0].float().cpu().numpy()
