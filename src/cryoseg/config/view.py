"""Settings of `cryoseg view`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cryoseg.config.postprocess import PostprocessConfig
from cryoseg.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ViewConfig:
    """What a page begins with, and how large it may be.

    Attributes
    ----------
    binning
        Voxels per page voxel along every axis; None takes the fewest that `max_megabytes` allow.
    max_megabytes
        Of the page.
    logit_threshold
        Where the slider begins; None takes the one recorded beside the logits, else ETSAM's.
    min_slices
        Where that slider begins, in slices of the full size.
    pixel_size
        In angstrom; None takes the header's.
    pick_diameter_angstrom
        Of the circles about picks; None takes the diameter that the file of picks gives.
    """

    binning: int | None = None
    max_megabytes: float = 60.0
    logit_threshold: float | None = None
    min_slices: int = PostprocessConfig.min_slices
    pixel_size: float | None = None
    pick_diameter_angstrom: float | None = None

    def __post_init__(self) -> None:
        PostprocessConfig(logit_threshold=self.logit_threshold, min_slices=self.min_slices)
        if self.binning is not None and self.binning < 1:
            raise ConfigError(f"--bin {self.binning}: must be at least 1.")
        if not self.max_megabytes >= 1:
            raise ConfigError(f"--max-megabytes {self.max_megabytes:g}: must be at least 1.")
        for option, value in (
            ("--pixel-size", self.pixel_size),
            ("--pick-diameter", self.pick_diameter_angstrom),
        ):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{option} {value:g}: must be a positive number of angstrom.")
