"""CET-pick's detectors: a 2D network for every slice, then small 3D heads.

The input is (batch, z, y, x) with one channel. Both outputs keep z and halve y and x. The first
convolution has stride 2 and padding 3, so that cell (z, i, j) of an output is centered on voxel
(z, 2 i, 2 j) of the input.

The names of modules are those of the published state dict.

Source: Huang et al., ECCV 2022, doi 10.1007/978-3-031-19803-8_38 (detector of MiLoPYP, 2024).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from cryoseg.config.cet_pick import Arch

STEM_CHANNELS = 16
START_FILTERS = 32
HEAD_CHANNELS = 32
XY_STRIDE = 2
STRIDES = (1, XY_STRIDE, XY_STRIDE)  # voxels per cell of the heat map, (z, y, x)
Z_HALO = 3  # the heads have three kernels of size 3 along z
HEAD_INIT_STD = 0.001
HEAT_MAP_INIT_GAIN = 0.3
# Number of resolutions; a cell of the coarsest map has 2**(levels - 1) cells of the heat map.
LEVELS = {Arch.UNET_4: 4, Arch.UNET_5: 5}


class _DownBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm0 = nn.BatchNorm2d(out_channels)
        self.norm1 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.norm0(self.conv1(x)))
        return functional.relu(self.norm1(self.conv2(x)))


class _UpBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.upconv = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)
        self.conv1 = nn.Conv2d(2 * out_channels, out_channels, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm0 = nn.BatchNorm2d(out_channels)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.norm2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        up = functional.relu(self.norm0(self.upconv(x)))
        # Pooling rounds odd sides up, so the upsampled map can be one cell too wide.
        up = up[..., : skip.shape[-2], : skip.shape[-1]]
        joined = torch.cat((up, skip), dim=1)
        joined = functional.relu(self.norm1(self.conv1(joined)))
        return functional.relu(self.norm2(self.conv2(joined)))


class _SliceUNet(nn.Module):
    def __init__(self, levels: int) -> None:
        super().__init__()
        widths = [START_FILTERS * 2**level for level in range(levels)]
        self.down_convs = nn.ModuleList(
            _DownBlock(before, width) for before, width in zip([STEM_CHANNELS, *widths], widths, strict=False)
        )
        self.up_convs = nn.ModuleList(
            _UpBlock(deep, shallow) for deep, shallow in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.conv_final = nn.Conv2d(START_FILTERS, START_FILTERS, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for level, block in enumerate(self.down_convs):
            if level:
                x = functional.max_pool2d(x, 2, ceil_mode=True)
            x = block(x)
            skips.append(x)
        for block, skip in zip(self.up_convs, skips[-2::-1], strict=True):
            x = block(x, skip)
        return self.conv_final(x)


class TomoConvUNet(nn.Module):
    """U-Net over slices with 4 (unet_4) or 5 (unet_5) resolutions, a heat-map head and an embedding head."""

    def __init__(self, levels: int = 4) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, STEM_CHANNELS, 7, stride=XY_STRIDE, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_CHANNELS)
        self.unet = _SliceUNet(levels)
        dilated = {"dilation": (1, 4, 4), "padding": (1, 4, 4), "bias": False}
        self.feature_head = nn.Sequential(
            nn.Conv3d(START_FILTERS, HEAD_CHANNELS, 3, **dilated),  # type: ignore[arg-type]
            nn.ReLU(),
            nn.Conv3d(HEAD_CHANNELS, HEAD_CHANNELS, 3, **dilated),  # type: ignore[arg-type]
            nn.ReLU(),
        )
        self.hm = nn.Conv3d(HEAD_CHANNELS, 1, (3, 1, 1), padding=(1, 0, 0), bias=False)
        self.proj = nn.Conv3d(HEAD_CHANNELS, HEAD_CHANNELS, (3, 1, 1), padding=(1, 0, 0), bias=False)
        self._initialize()

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.xavier_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv3d):
                nn.init.normal_(module.weight, std=HEAD_INIT_STD)

    def forward(self, volume: Tensor) -> tuple[Tensor, Tensor]:
        """Map (batch, z, y, x) normalized grey values to heat-map logits and embeddings.

        The logits are (batch, 1, z, y / 2, x / 2), the embeddings unit vectors (batch, 32, z, y / 2, x /
        2); odd sides are rounded up.
        """
        batch, depth = volume.shape[:2]
        slices = volume.reshape(batch * depth, 1, *volume.shape[2:])
        features = functional.relu(self.bn1(self.conv1(slices)))
        # This memory format takes a quarter less CPU time for the many small convolutions.
        features = self.unet(features.contiguous(memory_format=torch.channels_last))
        features = features.reshape(batch, depth, *features.shape[1:]).transpose(1, 2)
        features = self.feature_head(features)
        return self.hm(features), functional.normalize(self.proj(features), dim=1)


def build(arch: Arch) -> nn.Module:
    """Build an untrained detector, which maps (batch, z, y, x) to logits and embeddings.

    The 3D heads have gradients from the first step on. The publication initializes three consecutive layers
    with a standard deviation of 0.001, so that the heat map stays at 0.5 for some hundred steps.
    """
    network = SmallResNetDetector() if arch is Arch.RESSMALL_18 else TomoConvUNet(LEVELS[arch])
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if name == "hm":
                with torch.no_grad():
                    module.weight.mul_(HEAT_MAP_INIT_GAIN)
    return network


INITIAL_PROBABILITY_BIAS = -2.19  # sigmoid(-2.19) = 0.1, as in CornerNet


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
    """Set a transposed 4 x 4 convolution to bilinear upsampling by 2 of every channel."""
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
    """First half of a ResNet-18, upsampled to half of the input's resolution."""

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
        """Compute heat-map logits and embeddings of (batch, z, y, x), as `TomoConvUNet.forward` does."""
        batch, depth, height, width = volume.shape
        x = volume.reshape(batch * depth, 1, height, width)
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.max_pool2d(x, 3, stride=2, padding=1)
        x = self.deconv_layers(self.layer2(self.layer1(x)))
        # Strided convolutions round sides up, so the upsampled map is up to three cells too wide.
        x = x[..., : (height + 1) // 2, : (width + 1) // 2]
        x = x.reshape(batch, depth, *x.shape[1:]).transpose(1, 2)
        x = self.feature_head(x)
        return self.hm(x), functional.normalize(self.proj(x), dim=1)
