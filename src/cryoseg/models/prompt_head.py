"""Head prompt: a small U-Net whose output is added to the image before SAM sees it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Source: reference notes on Prompt_sam_cryoPPP, section 2: widths, slope, and where activations are absent.
WIDTH = 48
SLOPE = 0.1


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def _up(width: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(width, width, 3, stride=2, padding=1, output_padding=1)


def _act() -> nn.LeakyReLU:
    return nn.LeakyReLU(SLOPE)


class HeadUNet(nn.Module):
    """Residual for an image of `channels` channels; 410,019 parameters for 3.

    Parameters
    ----------
    channels
        Of the image.
    zero_start
        Begin with a residual of zero, so that training starts from unchanged SAM.
    """

    def __init__(self, channels: int = 3, *, zero_start: bool = True) -> None:
        super().__init__()
        self.encode1 = nn.Sequential(
            _conv(channels, WIDTH), _act(), _conv(WIDTH, WIDTH), _act(), nn.MaxPool2d(2)
        )
        self.encode2 = nn.Sequential(_conv(WIDTH, WIDTH), _act(), nn.MaxPool2d(2))
        self.encode3 = nn.Sequential(_conv(WIDTH, WIDTH), _up(WIDTH))
        wide = 2 * WIDTH
        self.decode2 = nn.Sequential(_conv(wide, wide), _act(), _conv(wide, wide), _act(), _up(wide))
        self.decode1 = nn.Sequential(_conv(wide + channels, 64), _act(), _conv(64, 32), _act())
        self.output_layer = _conv(32, channels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        if zero_start:
            nn.init.zeros_(self.output_layer.weight)

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, S, S) to a residual of the same shape; S is a multiple of 4."""
        half = self.encode1(image)
        coarse = self.encode3(self.encode2(half))
        fine = self.decode2(torch.cat([coarse, half], dim=1))
        return self.output_layer(self.decode1(torch.cat([fine, image], dim=1)))
