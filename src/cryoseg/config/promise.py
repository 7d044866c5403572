"""Settings of ProMISe, which prompts a frozen Segment Anything network."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cryoseg.config.setting import Settings, setting
from cryoseg.errors import ConfigError


class Prompter(StrEnum):
    """Origin of the points.

    `apm`: the auto-prompting module. `gt`: drawn from the true mask, an upper bound and never an
    automatic result. `grid`: a regular grid of foreground points. `none`: no points.
    """

    APM = "apm"
    GT = "gt"
    GRID = "grid"
    NONE = "none"


class ApmKind(StrEnum):
    """Network that predicts points: a ResNet on fused features, or queries with cross-attention to them."""

    RESNET = "resnet"
    CROSS = "cross"


class FreezeType(StrEnum):
    """Parts of SAM that are trained too. Source: ProMISe, _FZ0 (the default) to _FZ4."""

    ALL = "fz0"
    PROMPT_ENCODER_FREE = "fz1"
    MASK_DECODER_FREE = "fz2"
    PROMPTS_AND_DECODER_FREE = "fz3"
    NOTHING = "fz4"


@dataclass(frozen=True, kw_only=True)
class PromiseConfig(Settings):
    """Settings of the modules that ProMISe adds to SAM.

    The first half of the points of the auto-prompting module is labeled foreground, the rest background.
    """

    prompter: Prompter = setting(
        Prompter.APM,
        help="Where points come from. apm: a network. gt: the true mask, an upper bound and never an "
        "automatic result. grid: a regular grid; none: no points; both with --ips only.",
    )
    apm: ApmKind = setting(ApmKind.RESNET, help="The network that places points.")
    ips: bool = setting(True, help="Shift SAM's mask tokens by an offset that depends on the image.")
    points: int = setting(16, help="Number of points in a tile or picture.", at_least=1)
    zero_start: bool = setting(
        True,
        help="Begin with an offset of zero, so that training starts from SAM, or at random, as published.",
        flags=("--zero-start/--random-start",),
    )
    freeze: FreezeType = setting(
        FreezeType.ALL,
        help="Parts of SAM that learn. fz0: none. fz1: the prompt encoder, fz2: the mask decoder, fz3: both, "
        "fz4: everything.",
    )
    best_mask: bool = setting(
        True,
        help="Take the mask with the highest predicted IoU of SAM's three, or the first, as published.",
        flags=("--best-mask/--first-mask",),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prompter is not Prompter.APM and not self.ips:
            raise ConfigError(
                f"--prompter {self.prompter} --no-ips: nothing would be left to train; add --ips or take apm."
            )

    @property
    def label(self) -> str:
        """Name in tables: `apm+ips`, `ips+grid`, and `ips+gt (upper bound)`, which uses the truth."""
        if self.prompter is Prompter.APM:
            return "apm+ips" if self.ips else "apm"
        return f"ips+{self.prompter}" + (" (upper bound)" if self.prompter is Prompter.GT else "")
