"""Build Segment Anything networks of any size from the parts of `segment_anything`.

The mask decoder is subclassed, so that it accepts a batch of images with one prompt each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cryoseg.errors import ConfigError, WeightsError
from cryoseg.methods.sam.original import (
    Attention,
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
    get_rel_pos,
)

# Mean and standard deviation of 8-bit RGB images. Source: segment_anything.build_sam.
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True, kw_only=True)
class SamGeometry:
    """Sizes that determine all tensors of a SAM; the defaults are those of all published networks.

    Attributes
    ----------
    embed_dim, depth, num_heads, global_blocks
        Width, number of blocks, number of heads and blocks with global attention of the image encoder; the
        other blocks attend within windows.
    image_size, patch_size, window
        Sides of the image and of a patch in pixels, and of a window in tokens.
    out_channels
        Number of channels of the image embedding, the prompts and the mask decoder.
    in_channels
        3, or 1 for networks that read grey values.
    decoder_mlp_dim, decoder_heads, iou_hidden_dim
        Sizes of the mask decoder.
    fine_widths
        Numbers of channels of a convolutional stem at half and quarter resolution, whose maps the mask
        decoder uses too (see `FineStem`); empty for the patch embedding of SAM.
    """

    embed_dim: int
    depth: int
    num_heads: int
    global_blocks: tuple[int, ...]
    image_size: int = 1024
    patch_size: int = 16
    window: int = 14
    out_channels: int = 256
    in_channels: int = 3
    decoder_mlp_dim: int = 2048
    decoder_heads: int = 8
    iou_hidden_dim: int = 256
    fine_widths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size:
            raise ConfigError(f"image size {self.image_size}: must be a multiple of {self.patch_size}.")
        if self.embed_dim % self.num_heads:
            raise ConfigError(f"width {self.embed_dim}: must be a multiple of {self.num_heads} heads.")
        if self.fine_widths and (len(self.fine_widths) != 2 or self.patch_size != 8):
            raise ConfigError("a fine SAM needs two stem widths and a patch size of 8.")

    @property
    def grid(self) -> int:
        """Number of tokens along one side of the image."""
        return self.image_size // self.patch_size

    @property
    def logit_side(self) -> int:
        """Side of the mask logits of the decoder."""
        return 4 * self.grid


# Source: segment_anything.build_sam.
PUBLISHED: dict[str, SamGeometry] = {
    "sam_vit_h": SamGeometry(embed_dim=1280, depth=32, num_heads=16, global_blocks=(7, 15, 23, 31)),
    "sam_vit_l": SamGeometry(embed_dim=1024, depth=24, num_heads=16, global_blocks=(5, 11, 17, 23)),
    "sam_vit_b": SamGeometry(embed_dim=768, depth=12, num_heads=12, global_blocks=(2, 5, 8, 11)),
}

# 2.5 million parameters; a token has a third of the diameter of a particle.
TINY = SamGeometry(
    embed_dim=160,
    depth=6,
    num_heads=5,
    global_blocks=(2, 5),
    image_size=256,
    patch_size=8,
    window=8,
    out_channels=128,
    in_channels=1,
    decoder_mlp_dim=384,
    decoder_heads=4,
    iou_hidden_dim=128,
    fine_widths=(24, 48),
)


class BatchedMaskDecoder(MaskDecoder):
    """SAM's mask decoder for a batch of images with one prompt each, or one image with many prompts.

    The original decoder repeats every embedding by the number of prompts.
    """

    # Function that returns offsets of the mask tokens (B, tokens, C) for image embeddings (B, C, h, w).
    token_offsets: Callable[[Tensor], Tensor] | None = None

    def mask_token_rows(self, image_embeddings: Tensor, batch: int) -> Tensor:
        """Return the mask tokens of every prompt, (batch, tokens, C)."""
        rows = self.mask_tokens.weight.expand(batch, -1, -1)
        return rows if self.token_offsets is None else rows + self.token_offsets(image_embeddings)

    def upscale(self, source: Tensor, image_embeddings: Tensor) -> Tensor:
        """Upsample the (B, C, h, w) output of the transformer to the map for the mask tokens."""
        return self.output_upscaling(source)

    def image_part(self, image_embeddings: Tensor) -> Tensor:
        """Return the channels of (B, C, h, w) that the transformer attends to, here all."""
        return image_embeddings

    def predict_masks(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Predict mask logits (B, masks, 4h, 4w) and their IoU (B, masks).

        The embeddings are (B, C, h, w) for B prompts, or (1, C, h, w) for any number of prompts; the position
        encoding is (1, C, h, w), and the prompts are (B, N, C) and (B, C, h, w).
        """
        batch = sparse_prompt_embeddings.shape[0]
        tokens = torch.cat(
            [
                self.iou_token.weight.expand(batch, -1, -1),
                self.mask_token_rows(image_embeddings, batch),
                sparse_prompt_embeddings,
            ],
            dim=1,
        )
        if image_embeddings.shape[0] != batch:
            image_embeddings = image_embeddings.expand(batch, -1, -1, -1)
        source = self.image_part(image_embeddings) + dense_prompt_embeddings
        shape = source.shape
        answers, source = self.transformer(source, image_pe.expand(batch, -1, -1, -1), tokens)
        mask_tokens = answers[:, 1 : 1 + self.num_mask_tokens]
        fine = self.upscale(source.transpose(1, 2).reshape(shape), image_embeddings)
        kernels = torch.stack(
            [mlp(mask_tokens[:, i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1
        )
        masks = torch.einsum("bmc,bchw->bmhw", kernels, fine)
        return masks, self.iou_prediction_head(answers[:, 0])


class FusedAttention(nn.Module):
    """SAM's self-attention with PyTorch's fused kernel, which needs less time for the same result.

    Parameters
    ----------
    original
        Attention of SAM's image encoder, whose tensors are used.
    """

    def __init__(self, original: Attention) -> None:
        super().__init__()
        self.num_heads = original.num_heads
        self.qkv, self.proj = original.qkv, original.proj
        self.rel_pos_h, self.rel_pos_w = original.rel_pos_h, original.rel_pos_w

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to (B, H, W, C)."""
        batch, height, width, _ = x.shape
        qkv = self.qkv(x).reshape(batch, height * width, 3, self.num_heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        grid = query.reshape(batch, self.num_heads, height, width, -1)
        encodings = [relative_positions(height, self.rel_pos_h), relative_positions(width, self.rel_pos_w)]
        # The sum takes the layout of its terms. In another layout, `flatten` would copy the largest tensor.
        rows = torch.einsum("bnhwc,hkc->bnhwk", grid, encodings[0]).contiguous()
        columns = torch.einsum("bnhwc,wkc->bnhwk", grid, encodings[1]).contiguous()
        bias = (rows.unsqueeze(-1) + columns.unsqueeze(-2)).flatten(4).flatten(2, 3)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return self.proj(mixed.transpose(1, 2).reshape(x.shape))


def relative_positions(side: int, table: Tensor) -> Tensor:
    """Return the (side, side, C) encodings of relative positions that `get_rel_pos` of SAM returns.

    SAM makes the indices on the CPU and copies them to the device at every call.
    """
    if len(table) != 2 * side - 1:
        encodings: Tensor = get_rel_pos(side, side, table)
        return encodings
    steps = torch.arange(side, device=table.device)
    return table[steps[:, None] - steps + side - 1]


def build_sam(geometry: SamGeometry) -> Sam:
    """Build an untrained SAM in evaluation mode."""
    width = geometry.out_channels
    encoder_settings: dict[str, Any] = {
        "depth": geometry.depth,
        "embed_dim": geometry.embed_dim,
        "img_size": geometry.image_size,
        "in_chans": geometry.in_channels,
        "mlp_ratio": 4,
        "norm_layer": partial(nn.LayerNorm, eps=1e-6),
        "num_heads": geometry.num_heads,
        "patch_size": geometry.patch_size,
        "qkv_bias": True,
        "use_rel_pos": True,
        "global_attn_indexes": geometry.global_blocks,
        "window_size": geometry.window,
        "out_chans": width,
    }
    decoder_settings: dict[str, Any] = {
        "num_multimask_outputs": 3,
        "transformer": TwoWayTransformer(
            depth=2, embedding_dim=width, mlp_dim=geometry.decoder_mlp_dim, num_heads=geometry.decoder_heads
        ),
        "transformer_dim": width,
        "iou_head_depth": 3,
        "iou_head_hidden_dim": geometry.iou_hidden_dim,
    }
    if geometry.fine_widths:
        image_encoder = FineSamEncoder(widths=geometry.fine_widths, **encoder_settings)
        mask_decoder: BatchedMaskDecoder = FineSamMaskDecoder(**decoder_settings)
    else:
        image_encoder = ImageEncoderViT(**encoder_settings)
        mask_decoder = BatchedMaskDecoder(**decoder_settings)
    for block in image_encoder.blocks:
        block.attn = FusedAttention(block.attn)
    sam = Sam(
        image_encoder=image_encoder,
        prompt_encoder=PromptEncoder(
            embed_dim=width,
            image_embedding_size=(geometry.grid, geometry.grid),
            input_image_size=(geometry.image_size, geometry.image_size),
            mask_in_chans=16,
        ),
        mask_decoder=mask_decoder,
        pixel_mean=list(PIXEL_MEAN[: geometry.in_channels]),
        pixel_std=list(PIXEL_STD[: geometry.in_channels]),
    )
    sam.eval()
    return sam


def geometry_of_state(state: Mapping[str, Tensor], source: object) -> SamGeometry:
    """Recognize a published geometry by tensors with the names of `PromptSam`, or raise a `WeightsError`."""
    key = "image_encoder.patch_embed.proj.weight"
    width = state[f"sam.{key}"].shape[0] if f"sam.{key}" in state else None
    for geometry in PUBLISHED.values():
        if geometry.embed_dim == width:
            return geometry
    found = f"an image encoder of width {width}" if width else f"no tensor {key}"
    raise WeightsError(f"{source}: is not a published SAM (ViT-H, L or B): it has {found}.")


QUARTER, HALF = 2, 4  # resolution of the two maps relative to the token grid


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1), nn.GroupNorm(4, outputs), nn.GELU()
    )


class FineStem(nn.Module):
    """Convolutions from an image to maps at half, quarter and eighth resolution."""

    def __init__(self, in_channels: int, widths: tuple[int, ...], embed_dim: int) -> None:
        super().__init__()
        half, quarter = widths
        self.to_half = nn.Sequential(_conv(in_channels, half, stride=2), _conv(half, half))
        self.to_quarter = nn.Sequential(_conv(half, quarter, stride=2), _conv(quarter, quarter))
        self.to_tokens = nn.Conv2d(quarter, embed_dim, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map (B, C, S, S) to (B, half, S/2, S/2), (B, quarter, S/4, S/4) and (B, embed_dim, S/8, S/8)."""
        half = self.to_half(x)
        quarter = self.to_quarter(half)
        return half, quarter, self.to_tokens(quarter)


class FineSamEncoder(ImageEncoderViT):
    """SAM's image encoder after a `FineStem` with `widths` channels at half and quarter resolution."""

    def __init__(self, *, widths: tuple[int, ...], **settings: Any) -> None:
        super().__init__(**settings)
        self.patch_embed = FineStem(settings["in_chans"], widths, settings["embed_dim"])
        # The widths are those of the two upsampling steps of the mask decoder.
        self.quarter_skip = nn.Conv2d(widths[1], settings["out_chans"] // 4, 1)
        self.half_skip = nn.Conv2d(widths[0], settings["out_chans"] // 8, 1)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, S, S) to (B, out + folded, S/8, S/8), with the stem's maps folded into channels."""
        half, quarter, tokens = self.patch_embed(x)
        # The layout of this sum is that of all blocks, whose normalizations copy any other.
        tokens = tokens.permute(0, 2, 3, 1).contiguous() + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        embedding = self.neck(tokens.permute(0, 3, 1, 2))
        folded = [
            functional.pixel_unshuffle(self.quarter_skip(quarter), QUARTER),
            functional.pixel_unshuffle(self.half_skip(half), HALF),
        ]
        return torch.cat([embedding, *folded], dim=1)


class FineSamMaskDecoder(BatchedMaskDecoder):
    """SAM's mask decoder that adds the maps of the stem while it upsamples."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        width = self.transformer_dim
        self.quarter_mix = _conv(width // 4, width // 4)
        self.half_mix = _conv(width // 8, width // 8)

    def image_part(self, image_embeddings: Tensor) -> Tensor:
        """Return the embedding (B, C, h, w) without the folded maps."""
        return image_embeddings[:, : self.transformer_dim]

    def upscale(self, source: Tensor, image_embeddings: Tensor) -> Tensor:
        """Upsample (B, C, h, w) to (B, C/8, 4h, 4w) and add the maps of the stem."""
        width = self.transformer_dim
        split = width + width // 4 * QUARTER**2
        quarter = functional.pixel_shuffle(image_embeddings[:, width:split], QUARTER)
        half = functional.pixel_shuffle(image_embeddings[:, split:], HALF)
        up1, norm, act1, up2, act2 = self.output_upscaling
        x = self.quarter_mix(act1(norm(up1(source) + quarter)))
        return self.half_mix(act2(up2(x) + half))
