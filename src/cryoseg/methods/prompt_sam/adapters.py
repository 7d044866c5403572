"""Modules that adapt a frozen SAM: prefix tokens, a U-Net before it, and adapters in its blocks."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from cryoseg.errors import ConfigError
from cryoseg.methods.sam.original import Block, ImageEncoderViT, Sam, window_partition, window_unpartition


class PrefixBlock(Block):
    """A block of SAM's image encoder that adds its own rows of tokens before the token grid.

    They replace the rows of an earlier block. Tensors keep the names of the original block. `columns` is the
    width of the token grid, and `patch_size` sets the range of the initial values.
    """

    def __init__(self, block: Block, rows: int, columns: int, *, patch_size: int) -> None:
        nn.Module.__init__(self)
        self.norm1, self.attn, self.norm2, self.mlp = block.norm1, block.attn, block.norm2, block.mlp
        self.window_size = block.window_size
        width = block.norm1.normalized_shape[0]
        # The publication repeats this tensor for every image of the training batch.
        self.prompt_embeddings = nn.Parameter(torch.empty(1, rows, columns, width))
        # Source: yangyang-69/Prompt_sam_cryoPPP
        # segment_anything/modeling/image_encoder_prompting_new_token.py@d4f8b28.
        bound = math.sqrt(6 / (3 * patch_size**2 + width))
        nn.init.uniform_(self.prompt_embeddings, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, h, w, C), with or without the rows of an earlier block, to (B, rows + h, w, C)."""
        if x.shape[1] > x.shape[2]:
            x = x[:, self.prompt_embeddings.shape[1] :]
        prompt = self.prompt_embeddings.expand(x.shape[0], -1, -1, -1)
        return super().forward(torch.cat([prompt, x], dim=1))


class DropRows(nn.Module):
    """Removal of the rows of tokens after the neck."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, rows + side, side) to (B, C, side, side)."""
        return x[:, :, -self.side :]


def add_prefix(sam: Sam, per_block: tuple[int, ...], num_tokens: int | None) -> None:
    """Add rows of tokens to blocks of a SAM for square images, in place.

    `per_block` is 1 for blocks with tokens, else 0. `num_tokens` must be a multiple of the width of the token
    grid; None adds one row.
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


# Widths, slope and positions of activations.
# Source: yangyang-69/Prompt_sam_cryoPPP notebooks/unet_model.py@d4f8b28.
WIDTH = 48
SLOPE = 0.1


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def _up(width: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(width, width, 3, stride=2, padding=1, output_padding=1)


def _act() -> nn.LeakyReLU:
    return nn.LeakyReLU(SLOPE)


class HeadUNet(nn.Module):
    """U-Net that predicts a residual to add to the image; 410,019 parameters for 3 channels.

    With `zero_start` the residual is zero at the start, so that training starts from the unchanged SAM.
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
        """Map (B, C, S, S) to a residual of the same shape; S is a multiple of 4."""
        half = self.encode1(image)
        coarse = self.encode3(self.encode2(half))
        fine = self.decode2(torch.cat([coarse, half], dim=1))
        return self.output_layer(self.decode1(torch.cat([fine, image], dim=1)))


# Source: yangyang-69/Prompt_sam_cryoPPP segment_anything/modeling/image_encoder_adapter.py@d4f8b28.
BOTTLENECK = 4
MLP_ADAPTER_SCALE = 0.5
SPACE, MLP = 1, 2  # bits of the choice of a block


class Adapter(nn.Module):
    """Linear layer to a quarter of the width, GELU, and linear layer to the full width.

    With `zero_start` the output is zero at the start.
    """

    def __init__(self, width: int, *, zero_start: bool) -> None:
        super().__init__()
        self.D_fc1 = nn.Linear(width, width // BOTTLENECK)
        self.D_fc2 = nn.Linear(width // BOTTLENECK, width)
        if zero_start:
            nn.init.zeros_(self.D_fc2.weight)
            nn.init.zeros_(self.D_fc2.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., width) to the same shape, without a skip connection."""
        return self.D_fc2(functional.gelu(self.D_fc1(x)))


class AdapterBlock(Block):
    """A block of SAM's image encoder with adapters, whose tensors have the published names.

    Parameters
    ----------
    block
        Block whose parts are used.
    choice
        0 for no adapter, 1 for one after the attention, 2 for one beside the MLP, 3 for both.
    norm_before_window
        Whether to normalize before windows are padded; the released code pads first.
    zero_start
        Whether the outputs of the adapters are zero at the start.
    """

    def __init__(self, block: Block, choice: int, *, norm_before_window: bool, zero_start: bool) -> None:
        nn.Module.__init__(self)
        self.norm1, self.attn, self.norm2, self.mlp = block.norm1, block.attn, block.norm2, block.mlp
        self.window_size = block.window_size
        self.norm_before_window = norm_before_window
        width = block.norm1.normalized_shape[0]
        # The capitals are the names in published checkpoints.
        self.Space_Adapter = Adapter(width, zero_start=zero_start) if choice & SPACE else None
        self.MLP_Adapter = Adapter(width, zero_start=zero_start) if choice & MLP else None

    def _attend(self, x: Tensor) -> Tensor:
        x = self.attn(x if self.norm_before_window else self.norm1(x))
        return x if self.Space_Adapter is None else x + self.Space_Adapter(x)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, h, w, C) to the same shape."""
        y = self.norm1(x) if self.norm_before_window else x
        if self.window_size > 0:
            windows, padded = window_partition(y, self.window_size)
            y = window_unpartition(self._attend(windows), self.window_size, padded, x.shape[1:3])
        else:
            y = self._attend(y)
        x = x + y
        normed = self.norm2(x)
        x = x + self.mlp(normed)
        return x if self.MLP_Adapter is None else x + MLP_ADAPTER_SCALE * self.MLP_Adapter(normed)


def add_adapters(sam: Sam, per_block: tuple[int, ...], *, norm_before_window: bool, zero_start: bool) -> None:
    """Add adapters to blocks of a SAM in place."""
    blocks = sam.image_encoder.blocks
    for i, choice in enumerate(per_block):
        # With the order of the released code even a block without adapters differs from that of SAM.
        if choice or not norm_before_window:
            blocks[i] = AdapterBlock(
                blocks[i], choice, norm_before_window=norm_before_window, zero_start=zero_start
            )
