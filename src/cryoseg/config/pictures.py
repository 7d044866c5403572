"""Settings of `cryoseg segment-image` and `cryoseg evaluate images`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path

from cryoseg.config.common import logit_threshold_setting
from cryoseg.config.setting import Settings, setting


class Morphology(StrEnum):
    """Smoothing of a mask: opening removes thin parts, closing fills narrow gaps."""

    NONE = "none"
    OPEN = "open"
    CLOSE = "close"


@dataclass(frozen=True, kw_only=True)
class Smoothing(Settings):
    """Smoothing of masks after the threshold."""

    morphology: Morphology = setting(
        Morphology.NONE, help="Smoothing of the mask: open removes thin parts, close fills narrow gaps."
    )
    kernel: int = setting(5, help="Side in pixels of the square that opens or closes.", at_least=1)


prepare_setting = partial(
    setting,
    None,
    help="For pictures: leave out a black border, in the training and in segment-image.",
    flags=("--prepare/--no-prepare",),
)

points_setting = partial(
    setting,
    None,
    help="True masks, from which a ProMISe model takes its points; the result is an upper bound.",
    metavar="TRUTH_MASKS",
    shown="the model's own prompter",
)


@dataclass(frozen=True, kw_only=True)
class ImageSettings(Settings):
    """Settings of `cryoseg segment-image`; None uses the settings of the training."""

    logit_threshold: float | None = logit_threshold_setting(shown="the model's")
    smoothing: Smoothing = dataclasses.field(default_factory=Smoothing)
    crop_black: bool | None = prepare_setting(shown="as the model was trained")
    points: Path | None = points_setting()
    overlay: bool = setting(
        False, help="Write the picture with its mask too.", flags=("--overlay", "--preview")
    )


# Source: xinkunwang111/ProMISe ProMISe/eval.py@ce0cfdb: masks are scored on a square of this side.
PUBLISHED_SMOOTHING = Smoothing(morphology=Morphology.OPEN)
PUBLISHED_SIDE = 256
