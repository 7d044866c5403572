"""A small SAM with a convolutional stem whose finer maps reach the mask decoder.

A patch embedding learned from nothing needs far more images than a stem of convolutions. The stem
replaces it; its maps at half and quarter resolution travel to the mask decoder folded into extra
channels of the image embedding, so that every caller of SAM (its predictor, its automatic mask
generator) passes them on without knowing.
"""

from __future__ import annotations

from typing import Any

import torch
from segment_anything.modeling import ImageEncoderViT
from torch import Tensor, nn
from torch.nn import functional

from cryoseg.models.sam_geometry import BatchedMaskDecoder

QUARTER, HALF = 2, 4  # how much finer than the token grid the two maps are


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1), nn.GroupNorm(4, outputs), nn.GELU()
    )


class FineStem(nn.Module):
    """An image to maps at half, quarter and eighth resolution."""

    def __init__(self, in_channels: int, widths: tuple[int, ...], embed_dim: int) -> None:
        super().__init__()
        half, quarter = widths
        self.to_half = nn.Sequential(_conv(in_channels, half, stride=2), _conv(half, half))
        self.to_quarter = nn.Sequential(_conv(half, quarter, stride=2), _conv(quarter, quarter))
        self.to_tokens = nn.Conv2d(quarter, embed_dim, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, C, S, S) to (B, half, S/2, S/2), (B, quarter, S/4, S/4), (B, embed_dim, S/8, S/8)."""
        half = self.to_half(x)
        quarter = self.to_quarter(half)
        return half, quarter, self.to_tokens(quarter)


class FineSamEncoder(ImageEncoderViT):
    """SAM's image encoder behind a `FineStem`.

    Parameters
    ----------
    widths
        Channels of the stem at half and quarter resolution.
    **settings
        Of `ImageEncoderViT`.
    """

    def __init__(self, *, widths: tuple[int, ...], **settings: Any) -> None:
        super().__init__(**settings)
        self.patch_embed = FineStem(settings["in_chans"], widths, settings["embed_dim"])
        # The widths of the mask decoder's two upscaling steps.
        self.quarter_skip = nn.Conv2d(widths[1], settings["out_chans"] // 4, 1)
        self.half_skip = nn.Conv2d(widths[0], settings["out_chans"] // 8, 1)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, S, S) to (B, out + folded, S/8, S/8)."""
        half, quarter, tokens = self.patch_embed(x)
        tokens = tokens.permute(0, 2, 3, 1) + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        embedding = self.neck(tokens.permute(0, 3, 1, 2))
        folded = [
            functional.pixel_unshuffle(self.quarter_skip(quarter), QUARTER),
            functional.pixel_unshuffle(self.half_skip(half), HALF),
        ]
        return torch.cat([embedding, *folded], dim=1)


class FineSamMaskDecoder(BatchedMaskDecoder):
    """SAM's mask decoder that adds the stem's maps on its way up; takes the same arguments."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        width = self.transformer_dim
        self.quarter_mix = _conv(width // 4, width // 4)
        self.half_mix = _conv(width // 8, width // 8)

    def image_part(self, image_embeddings: Tensor) -> Tensor:
        """The embedding (B, C, h, w) without the folded maps."""
        return image_embeddings[:, : self.transformer_dim]

    def upscale(self, source: Tensor, image_embeddings: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C/8, 4h, 4w), with the stem's maps."""
        width = self.transformer_dim
        split = width + width // 4 * QUARTER**2
        quarter = functional.pixel_shuffle(image_embeddings[:, width:split], QUARTER)
        half = functional.pixel_shuffle(image_embeddings[:, split:], HALF)
        up1, norm, act1, up2, act2 = self.output_upscaling
        x = self.quarter_mix(act1(norm(up1(source) + quarter)))
        return self.half_mix(act2(up2(x) + half))
