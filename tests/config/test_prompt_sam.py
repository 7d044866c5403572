"""The choice of encoder blocks, as typed."""

from __future__ import annotations

import pytest

from cryoseg.config.prompt_sam import PromptMethod, parse_blocks
from cryoseg.errors import ConfigError


def test_blocks_are_written_as_ranges() -> None:
    assert parse_blocks("all", PromptMethod.PREFIX, 4) is None
    assert parse_blocks("0-1,3", PromptMethod.PREFIX, 4) == (1, 1, 0, 1)
    assert parse_blocks("0-1:1,3", PromptMethod.ENCODER, 4) == (1, 1, 0, 3)
    for text, message in (("2-9", "blocks 0 to 3"), ("x", "0-3,7")):
        with pytest.raises(ConfigError, match=message):
            parse_blocks(text, PromptMethod.PREFIX, 4)
    with pytest.raises(ConfigError, match="no choice per block"):
        parse_blocks("1", PromptMethod.HEAD, 4)
