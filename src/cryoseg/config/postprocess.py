"""Settings of `cryoseg postprocess`."""

from __future__ import annotations

from dataclasses import dataclass

from cryoseg.config.common import Mode0, logit_threshold_setting, mode0_setting
from cryoseg.config.segment import PostprocessLengths, PostprocessStep


@dataclass(frozen=True, kw_only=True)
class PostprocessConfig(PostprocessLengths):
    """Settings of `cryoseg postprocess`.

    Attributes
    ----------
    steps
        Steps in the order in which they are applied; if empty, only the threshold is applied. None: the
        steps in the record of `cryoseg segment` beside the input, otherwise thin-noise.
    """

    steps: tuple[PostprocessStep, ...] | None = None
    logit_threshold: float | None = logit_threshold_setting(shown="recorded, else -0.5")
    mode0: Mode0 = mode0_setting()
