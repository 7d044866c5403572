"""Settings of `cryoseg segment-image` and `cryoseg evaluate images`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from cryoseg.errors import ConfigError


class Morphology(StrEnum):
    """What smooths a mask: opening drops thin parts, closing fills narrow gaps."""

    NONE = "none"
    OPEN = "open"
    CLOSE = "close"


@dataclass(frozen=True, kw_only=True)
class Smoothing:
    """One step after the threshold.

    Attributes
    ----------
    morphology
        See `Morphology`.
    kernel
        Side of the square it works with, in pixels.
    """

    morphology: Morphology = Morphology.NONE
    kernel: int = 5

    def __post_init__(self) -> None:
        if self.kernel < 1:
            raise ConfigError(f"--kernel {self.kernel}: must be at least 1.")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


# Source: xinkunwang111/ProMISe ProMISe/eval.py@ce0cfdb: masks are scored on a square of this side.
PUBLISHED_SMOOTHING = Smoothing(morphology=Morphology.OPEN)
PUBLISHED_SIDE = 256
