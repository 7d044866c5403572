"""The two networks of ProMISe that predict points from features of the image encoder.

Source: xinkunwang111/ProMISe
ProMISe/utilities/Networks/modeling/{featuremap,resnet,transformer_decoder}.py@ce0cfdb.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

FUSED = 256  # channels after fusion
LEVELS = 3


class FeatureFusion(nn.Module):
    """Three convolutions that combine the features, `channels` in all, of several encoder blocks."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fusion_conv1 = nn.Conv2d(channels, FUSED, 3, padding=1)
        self.fusion_conv2 = nn.Conv2d(FUSED, FUSED, 3, padding=1)
        self.fusion_conv3 = nn.Conv2d(FUSED, FUSED, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, channels, h, w) to (B, 256, h, w)."""
        x = functional.relu(self.fusion_conv1(features))
        x = functional.relu(self.fusion_conv2(x))
        return self.fusion_conv3(x)


class _Block(nn.Module):
    """Residual block of two 3x3 convolutions, whose shortcut has weights if `project` is set."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, project: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if project:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class PointResNet(nn.Module):
    """A residual network of 34 layers that predicts K points.

    The last block has a projection although neither stride nor width changes, as in the published weights.
    The second head of the publication, whose output is not used, is left out.
    """

    def __init__(self, points: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(FUSED, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = self._layer(64, 64, 3, stride=1)
        self.layer2 = self._layer(64, 128, 4, stride=2)
        self.layer3 = self._layer(128, 256, 6, stride=2)
        self.layer4 = self._layer(256, 512, 3, stride=2, project_last=True)
        self.fc = nn.Linear(512, 2 * points)

    @staticmethod
    def _layer(
        inputs: int, outputs: int, count: int, *, stride: int, project_last: bool = False
    ) -> nn.Sequential:
        first = _Block(inputs, outputs, stride, project=stride != 1 or inputs != outputs)
        rest = [_Block(outputs, outputs, 1, project=project_last and i == count - 1) for i in range(1, count)]
        return nn.Sequential(first, *rest)

    def forward(self, fused: Tensor) -> Tensor:
        """Map (B, 256, h, w) to (B, 2 K), whose sigmoid is x, y as fractions of the image."""
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(fused))), 3, stride=2, padding=1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean(dim=(-2, -1)))


def _position_code(height: int, width: int, channels: int) -> Tensor:
    """Return a position encoding, (height * width, channels): sines and cosines of y, then of x.

    The frequencies are divided by 1, 2, 3, ..., as in the published code, and not by a geometric series.
    """
    half = channels // 2
    divisors = torch.arange(1, half + 1, dtype=torch.float32)
    codes = []
    for count in (height, width):
        turns = 2 * math.pi * torch.arange(1, count + 1) / count
        angles = turns[:, None] / divisors
        even = torch.arange(half) % 2 == 0
        codes.append(torch.where(even, angles.sin(), angles.cos()))
    y, x = codes
    grid = torch.cat([y[:, None].expand(-1, width, -1), x[None].expand(height, -1, -1)], dim=-1)
    return grid.flatten(0, 1)


class _Enlarge(nn.Sequential):
    """Upsampling to twice the size minus two, since the published convolution has no padding."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.ConvTranspose2d(channels, channels, 2, stride=2),
            nn.Conv2d(channels, channels, 3),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        )


class _QueryLayer(nn.Module):
    """Attention of queries to the features of one level, followed by an MLP."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.norm1 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )
        self.norm2 = nn.LayerNorm(channels)

    def forward(self, queries: Tensor, places: Tensor, features: Tensor, code: Tensor) -> Tensor:
        found, _ = self.attention(queries + places, features + code, features, need_weights=False)
        queries = self.norm1(queries + found)
        return self.norm2(queries + self.mlp(queries))


class PointQueries(nn.Module):
    """The older prompter: K learned queries with cross-attention to up to `LEVELS` levels in turn."""

    def __init__(self, channels: int, heads: int, points: int, levels: int = LEVELS) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(points, channels))
        self.places = nn.Parameter(torch.randn(points, channels))
        self.levels = nn.Parameter(torch.randn(levels, channels))
        self.enlarge = nn.ModuleList(
            nn.Sequential(*(_Enlarge(channels) for _ in range(times))) for times in range(levels)
        )
        self.layers = nn.ModuleList(_QueryLayer(channels, heads) for _ in range(levels))
        self.point = nn.Linear(channels, 2)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map features (B, C, h, w) of every level, the deepest first, to (B, 2 K) as `PointResNet` does."""
        batch = len(features[0])
        queries = self.queries.expand(batch, -1, -1)
        for level, enlarge, layer, embedding in zip(
            features, self.enlarge, self.layers, self.levels, strict=True
        ):
            large = enlarge(level)
            code = _position_code(large.shape[2], large.shape[3], large.shape[1]).to(large)
            queries = layer(queries, self.places, large.flatten(2).transpose(1, 2) + embedding, code)
        return self.point(queries).flatten(1)
