"""Sizes of a SAM that do not fit are refused, and its fused attention computes what the original does."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from segment_anything.modeling.image_encoder import Attention

from cryoseg.errors import ConfigError
from cryoseg.methods.sam.geometry import FusedAttention, SamGeometry


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_size": 60}, "multiple of 8"),
        ({"num_heads": 3}, "multiple of 3 heads"),
        ({"fine_widths": (16,)}, "two stem widths"),
        ({"fine_widths": (16, 32), "patch_size": 16}, "two stem widths"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(
    small_sam: SamGeometry, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        replace(small_sam, **changes)  # type: ignore[arg-type]


def test_fused_attention_computes_what_the_attention_of_sam_does() -> None:
    torch.manual_seed(0)
    original = Attention(32, num_heads=4, use_rel_pos=True, input_size=(6, 6))
    for parameter in original.parameters():
        torch.nn.init.normal_(parameter)
    fused = FusedAttention(original)
    assert fused.state_dict().keys() == original.state_dict().keys()
    x = torch.randn(3, 6, 6, 32)
    torch.testing.assert_close(fused(x), original(x), rtol=1e-4, atol=1e-4)
