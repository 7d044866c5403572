"""Settings of `cryoseg segment-image` and `cryoseg evaluate images`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from cryoseg.config.setting import Settings, setting


class Morphology(StrEnum):
    """What smooths a mask: opening drops thin parts, closing fills narrow gaps."""

    NONE = "none"
    OPEN = "open"
    CLOSE = "close"


@dataclass(frozen=True, kw_only=True)
class Smoothing(Settings):
    """One step after the threshold."""

    morphology: Morphology = setting(
        Morphology.NONE, help="open removes thin parts of the mask, close fills narrow gaps."
    )
    kernel: int = setting(5, help="Side in pixels of the square that opens or closes.", at_least=1)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


# Source: xinkunwang111/ProMISe ProMISe/eval.py@ce0cfdb: masks are scored on a square of this side.
PUBLISHED_SMOOTHING = Smoothing(morphology=Morphology.OPEN)
PUBLISHED_SIDE = 256
