"""Training samples from ordinary pictures: prepared squares, the published augmentation, soft targets."""

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
from cryoseg.core.picture_frame import PictureFrame, frame_picture
from cryoseg.errors import ConfigError, InputError
from cryoseg.io.images.pictures import PictureRow, read_picture_mask, read_rgb, read_size
from cryoseg.methods.prompt_sam.network import PromptSam
from cryoseg.types import FloatArray

CACHE_BYTES = 1 << 30  # of prepared squares kept in memory
LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601
REFLECT = 4  # OpenCV's name for a border mode that mirrors without repeating the last pixel

Square = tuple[NDArray[np.uint8], NDArray[np.bool_]]
Augment = Callable[[NDArray[np.uint8], NDArray[np.bool_], int], Square]


def load_square(row: PictureRow, side: int, *, crop_black: bool) -> tuple[Square, PictureFrame]:
    """A picture and its mask as squares of `side` pixels.

    Returns
    -------
    tuple
        ((side, side, 3) 8 bit, (side, side) bool), and where they lie in the picture.

    Raises
    ------
    InputError
        If one is unreadable, or they differ in size.
    """
    check_sizes(row)
    rgb, mask = read_rgb(row.image), read_picture_mask(row.mask)
    frame = frame_picture(rgb, crop_black=crop_black)
    square = np.rint(frame.square(rgb, side)).clip(0, 255).astype(np.uint8)
    return (square, frame.square(mask, side) > 0.5), frame


def check_sizes(row: PictureRow) -> None:
    """Look at the first bytes of both files, so that a wrong one is found before training begins.

    Raises
    ------
    InputError
        If one is no picture, or they differ in size.
    """
    (height, width), mask = read_size(row.image), read_size(row.mask)
    if (height, width) != mask:
        raise InputError(
            f"{row.mask}: is {mask[1]} x {mask[0]} px, its picture {width} x {height}; a mask must lie on "
            "the picture's grid."
        )


class PictureSamples:
    """Squares of many pictures, read when they are needed.

    Parameters
    ----------
    rows
        Pictures and masks.
    side
        Of the squares, in pixels.
    crop_black
        Leave out black borders.
    """

    def __init__(self, rows: Sequence[PictureRow], side: int, *, crop_black: bool) -> None:
        self.rows = list(rows)
        self.side, self.crop_black = side, crop_black
        self._kept: dict[int, Square] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Square:
        if number in self._kept:
            return self._kept[number]
        square, _ = load_square(self.rows[number], self.side, crop_black=self.crop_black)
        if (len(self._kept) + 1) * 4 * self.side**2 <= CACHE_BYTES:
            self._kept[number] = square
        return square

    def batch(
        self, size: int, *, seed: int, step: int, augment: Augment | None
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Samples of one step, every picture once an epoch: (B, S, S, 3) and (B, S, S).

        Every random choice follows from (seed, step) and the place in the batch.
        """
        images, masks = [], []
        for i in range(size):
            epoch, place = divmod(step * size + i, len(self))
            order = np.random.default_rng([seed, epoch]).permutation(len(self))
            image, mask = self[int(order[place])]
            if augment is not None:
                draw = int(np.random.default_rng([seed, step, i]).integers(2**31))
                image, mask = augment(image, mask, draw)
            images.append(image)
            masks.append(mask)
        return np.stack(images), np.stack(masks)


def picture_input(network: PromptSam, images: NDArray[np.uint8]) -> Tensor:
    """(B, S, S, 3) 8-bit pictures as what the network takes.

    Networks that see grey values get the luminance at zero mean and unit deviation.
    """
    rgb = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
    if network.config.input_scale is not InputScale.GREY:
        return rgb
    grey = (rgb * torch.tensor(LUMINANCE).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    spread = grey.std(dim=(1, 2, 3), keepdim=True).clamp(min=1e-6)
    return (grey - grey.mean(dim=(1, 2, 3), keepdim=True)) / spread


def soft_target(masks: NDArray[np.bool_], side: int) -> Tensor:
    """(B, S, S) masks as (B, side, side) targets with soft edges, bilinear as published."""
    values = torch.from_numpy(np.ascontiguousarray(masks)).float()[:, None]
    return functional.interpolate(values, (side, side), mode="bilinear", align_corners=False)[:, 0]


def published_augmentation(side: int) -> Augment:
    """The augmentation set that ProMISe trained with, as Albumentations has it today.

    Where the library no longer takes the published value, the nearest one that it takes stands: a
    crop cannot be larger than the image (0.95 to 1 instead of 0.95 to 1.05).

    Raises
    ------
    ConfigError
        If Albumentations is not installed.

    Source: xinkunwang111/ProMISe ProMISe/utilities/transformers.py@ce0cfdb, `train2_color`.
    """
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the internet for news otherwise
    try:
        import albumentations as library
    except ImportError:
        raise ConfigError(
            'the augmentation needs Albumentations: pip install "cryoseg[train]", or pass --no-augment.'
        ) from None
    set_: Any = library.Compose(
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
        # One stream for all: `set_random_seed` starts every transform from the same number, so that
        # either all of them would happen or none.
        set_.set_random_state(np.random.default_rng(draw), random.Random(draw))
        changed = set_(image=image, mask=mask.astype(np.uint8))
        return changed["image"], changed["mask"] > 0

    return augment


def picture_logits(
    network: PromptSam, image: NDArray[np.uint8], given: Any, device: torch.device
) -> FloatArray:
    """(n, n) logits of one square (S, S, 3), at the resolution of the network's masks."""
    with torch.inference_mode():
        logits = network(picture_input(network, image[None]).to(device), given)[0]
    return logits[0, 0].float().cpu().numpy()
