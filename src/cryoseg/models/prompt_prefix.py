"""Prefix prompt: rows of learned tokens above the token grid, replaced from block to block."""

from __future__ import annotations

import math

import torch
from segment_anything.modeling import ImageEncoderViT, Sam
from segment_anything.modeling.image_encoder import Block
from torch import Tensor, nn

from cryoseg.errors import ConfigError


class PrefixBlock(Block):
    """A block of SAM's image encoder that puts its own token rows in front.

    The rows of an earlier block are replaced, so that their number never grows. Tensors keep the
    names of the block they come from.

    Parameters
    ----------
    block
        Gives its parts.
    rows, columns
        Of tokens; `columns` is the width of the grid.
    patch_size
        Of the encoder, for the size of the random start.
    """

    def __init__(self, block: Block, rows: int, columns: int, *, patch_size: int) -> None:
        nn.Module.__init__(self)
        self.norm1, self.attn, self.norm2, self.mlp = block.norm1, block.attn, block.norm2, block.mlp
        self.window_size = block.window_size
        width = block.norm1.normalized_shape[0]
        # The publication repeats this tensor for every image of the training batch; one row set is
        # shared here.
        self.prompt_embeddings = nn.Parameter(torch.empty(1, rows, columns, width))
        # Source: reference notes on Prompt_sam_cryoPPP, section 3.
        bound = math.sqrt(6 / (3 * patch_size**2 + width))
        nn.init.uniform_(self.prompt_embeddings, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, C), with or without the rows of an earlier block, to (B, rows + h, w, C)."""
        if x.shape[1] > x.shape[2]:
            x = x[:, self.prompt_embeddings.shape[1] :]
        prompt = self.prompt_embeddings.expand(x.shape[0], -1, -1, -1)
        return super().forward(torch.cat([prompt, x], dim=1))


class DropRows(nn.Module):
    """Cuts the token rows off again, after the neck."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, rows + side, side) to (B, C, side, side)."""
        return x[:, :, -self.side :]


def add_prefix(sam: Sam, per_block: tuple[int, ...], num_tokens: int | None) -> None:
    """Give the chosen blocks of a SAM their token rows, in place.

    Parameters
    ----------
    sam
        Square images only.
    per_block
        1 where a block has tokens.
    num_tokens
        A multiple of the width of the grid; None for one row.

    Raises
    ------
    ConfigError
        If `num_tokens` is no multiple.
    """
    encoder = sam.image_encoder
    assert isinstance(encoder, ImageEncoderViT)
    patch = sam.image_encoder.img_size // sam.prompt_encoder.image_embedding_size[0]
    columns = encoder.img_size // patch
    tokens = columns if num_tokens is None else num_tokens
    if tokens % columns:
        raise ConfigError(
            f"--num-tokens {tokens}: must be a multiple of {columns}, the width of the token grid."
        )
    for i, chosen in enumerate(per_block):
        if chosen:
            encoder.blocks[i] = PrefixBlock(encoder.blocks[i], tokens // columns, columns, patch_size=patch)
    encoder.neck.append(DropRows(columns))
