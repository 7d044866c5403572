"""CET-pick's small ResNet detector, trained from nothing instead of from ImageNet.

Same interface as the U-Nets; like theirs, its output halves y and x.

Source: architecture `ressmall_18` of the CET-pick release (ResNet-18's first two stages, two
up-sampling stages, one 3D convolution, two heads).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

HEAD_CHANNELS = 32
INITIAL_PROBABILITY_BIAS = -2.19  # sigmoid(-2.19) = 0.1, CornerNet's start


class _BasicBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + self.downsample(x))


def _bilinear_kernel(weight: Tensor) -> None:
    """Fill a transposed 4 x 4 convolution with bilinear magnification by 2, channel by channel."""
    ramp = torch.tensor([0.25, 0.75, 0.75, 0.25])
    with torch.no_grad():
        weight.zero_()
        for channel in range(min(weight.shape[:2])):
            weight[channel, channel] = ramp[:, None] * ramp[None, :]


def _up_stage(in_channels: int, out_channels: int) -> nn.Sequential:
    up = nn.ConvTranspose2d(out_channels, out_channels, 4, stride=2, padding=1, bias=False)
    _bilinear_kernel(up.weight)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
        up,
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


class SmallResNetDetector(nn.Module):
    """ResNet-18's first half and back up to half resolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(_BasicBlock(64, 64, 1), _BasicBlock(64, 64, 1))
        self.layer2 = nn.Sequential(_BasicBlock(64, 128, 2), _BasicBlock(128, 128, 1))
        self.deconv_layers = nn.Sequential(_up_stage(128, 64), _up_stage(64, 32))
        self.feature_head = nn.Sequential(nn.Conv3d(32, HEAD_CHANNELS, 3, padding=1), nn.ReLU())
        self.hm = nn.Conv3d(HEAD_CHANNELS, 1, 1)
        self.proj = nn.Conv3d(HEAD_CHANNELS, HEAD_CHANNELS, 1)
        nn.init.constant_(self.hm.bias, INITIAL_PROBABILITY_BIAS)  # type: ignore[arg-type]

    def forward(self, volume: Tensor) -> tuple[Tensor, Tensor]:
        """Heat-map logits and embeddings of (batch, z, y, x), as `TomoConvUNet.forward`."""
        batch, depth, height, width = volume.shape
        x = volume.reshape(batch * depth, 1, height, width)
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.max_pool2d(x, 3, stride=2, padding=1)
        x = self.deconv_layers(self.layer2(self.layer1(x)))
        # Strided convolutions round sides up, so the way back is up to three cells too wide.
        x = x[..., : (height + 1) // 2, : (width + 1) // 2]
        x = x.reshape(batch, depth, *x.shape[1:]).transpose(1, 2)
        x = self.feature_head(x)
        return self.hm(x), functional.normalize(self.proj(x), dim=1)
