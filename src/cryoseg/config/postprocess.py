"""Settings of `cryoseg postprocess`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cryoseg.config.segment import PostprocessLengths, PostprocessStep
from cryoseg.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class PostprocessConfig(PostprocessLengths):
    """Everything that changes the result of `cryoseg postprocess`.

    Attributes
    ----------
    steps
        Applied in this order; empty thresholds only.
    logit_threshold
        For inputs that hold logits: voxels above it are membrane. None takes the one recorded
        beside the input, else ETSAM's -0.5.
    """

    steps: tuple[PostprocessStep, ...] = (PostprocessStep.THIN_NOISE,)
    logit_threshold: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.logit_threshold is not None and not math.isfinite(self.logit_threshold):
            raise ConfigError(f"--logit-threshold {self.logit_threshold}: must be a finite number.")
