"""Settings of `cryoseg postprocess`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cryoseg.config.segment import PostprocessStep, SegmentConfig
from cryoseg.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class PostprocessConfig:
    """Everything that changes the result of `cryoseg postprocess`.

    Attributes
    ----------
    steps
        Applied in this order; empty thresholds only.
    logit_threshold
        For inputs that hold logits: voxels above it are membrane. None takes the one recorded
        beside the input, else ETSAM's -0.5.
    min_slices, max_bridge_length, max_spur_length
        As in `SegmentConfig`.
    """

    steps: tuple[PostprocessStep, ...] = (PostprocessStep.THIN_NOISE,)
    logit_threshold: float | None = None
    min_slices: int = SegmentConfig.min_slices
    max_bridge_length: int = SegmentConfig.max_bridge_length
    max_spur_length: int = SegmentConfig.max_spur_length

    def __post_init__(self) -> None:
        SegmentConfig(
            min_slices=self.min_slices,
            max_bridge_length=self.max_bridge_length,
            max_spur_length=self.max_spur_length,
        )
        if self.logit_threshold is not None and not math.isfinite(self.logit_threshold):
            raise ConfigError(f"--logit-threshold {self.logit_threshold}: must be a finite number.")
