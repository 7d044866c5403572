"""Changes of intensity that several trainings use as augmentation."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def gaussian_blur(images: Tensor, sigma: float) -> Tensor:
    """Blur (n, y, x) images with a Gaussian of `sigma` pixels in a window of 7 pixels."""
    reach = torch.arange(-3, 4, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (reach / sigma) ** 2)
    kernel /= kernel.sum()
    padded = functional.pad(images[:, None], (3, 3, 3, 3), mode="replicate")
    return functional.conv2d(functional.conv2d(padded, kernel.view(1, 1, 7, 1)), kernel.view(1, 1, 1, 7))[
        :, 0
    ]


def add_noise(images: Tensor, rng: np.random.Generator, highest: float) -> Tensor:
    """Add Gaussian noise of a random deviation up to `highest` to images (B, y, x) of unit deviation."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    sigma = float(rng.uniform(0, highest))
    return (images + sigma * torch.randn(images.shape, generator=generator)) / (1 + sigma**2) ** 0.5
