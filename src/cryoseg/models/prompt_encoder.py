"""Encoder prompt: small adapters after the attention and beside the MLP of SAM's blocks."""

from __future__ import annotations

from segment_anything.modeling import Sam
from segment_anything.modeling.image_encoder import Block, window_partition, window_unpartition
from torch import Tensor, nn
from torch.nn import functional

# Source: reference notes on Prompt_sam_cryoPPP, section 4.
BOTTLENECK = 4
MLP_ADAPTER_SCALE = 0.5
SPACE, MLP = 1, 2  # bits of a block's number


class Adapter(nn.Module):
    """Linear to a quarter of the width, GELU, and back.

    Parameters
    ----------
    width
        Of the tokens.
    zero_start
        Begin with an output of zero.
    """

    def __init__(self, width: int, *, zero_start: bool) -> None:
        super().__init__()
        self.D_fc1 = nn.Linear(width, width // BOTTLENECK)
        self.D_fc2 = nn.Linear(width // BOTTLENECK, width)
        if zero_start:
            nn.init.zeros_(self.D_fc2.weight)
            nn.init.zeros_(self.D_fc2.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to the same shape, without a skip."""
        return self.D_fc2(functional.gelu(self.D_fc1(x)))


class AdapterBlock(Block):
    """A block of SAM's image encoder with adapters; tensors keep the publication's names.

    Parameters
    ----------
    block
        Gives its parts.
    choice
        0 no adapter, 1 after the attention, 2 beside the MLP, 3 both.
    norm_before_window
        False for the order of the released code, which pads windows before it normalizes.
    zero_start
        See `Adapter`.
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
        """(B, h, w, C) to the same shape."""
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
    """Give the blocks of a SAM their adapters, in place."""
    blocks = sam.image_encoder.blocks
    for i, choice in enumerate(per_block):
        # In the released order even a block without adapters computes something else than SAM's.
        if choice or not norm_before_window:
            blocks[i] = AdapterBlock(
                blocks[i], choice, norm_before_window=norm_before_window, zero_start=zero_start
            )
