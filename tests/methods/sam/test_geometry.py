"""Sizes of a SAM that do not fit together are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cryoseg.errors import ConfigError
from cryoseg.methods.sam.geometry import SamGeometry


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
