"""Settings of ProMISe: prompts without a person on a frozen Segment Anything network."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cryoseg.errors import ConfigError


class Prompter(StrEnum):
    """Where points come from.

    `apm`: the auto-prompting module. `gt`: drawn from the true mask, an upper bound and never an
    automatic result. `grid`: a regular grid of foreground points. `none`: no point at all.
    """

    APM = "apm"
    GT = "gt"
    GRID = "grid"
    NONE = "none"


class ApmKind(StrEnum):
    """The network that predicts points: a ResNet on fused features, or queries that attend to them."""

    RESNET = "resnet"
    CROSS = "cross"


class FreezeType(StrEnum):
    """Parts of SAM that learn too. Source: ProMISe, _FZ0 (the default) to _FZ4."""

    ALL = "fz0"
    PROMPT_ENCODER_FREE = "fz1"
    MASK_DECODER_FREE = "fz2"
    PROMPTS_AND_DECODER_FREE = "fz3"
    NOTHING = "fz4"


@dataclass(frozen=True, kw_only=True)
class PromiseConfig:
    """What is added to SAM.

    Attributes
    ----------
    prompter, apm
        See `Prompter` and `ApmKind`.
    ips
        Shift SAM's mask tokens by an offset that depends on the image.
    points
        Number of points, K; of those of the auto-prompting module the first half is labeled
        foreground, the rest background.
    zero_start
        Begin with an offset of zero, so that training starts from SAM; the publication does not.
    freeze
        See `FreezeType`.
    best_mask
        Take the mask with the highest predicted IoU of SAM's three; the publication takes the first
        whatever SAM thinks of it.
    """

    prompter: Prompter = Prompter.APM
    apm: ApmKind = ApmKind.RESNET
    ips: bool = True
    points: int = 16
    zero_start: bool = True
    freeze: FreezeType = FreezeType.ALL
    best_mask: bool = True

    def __post_init__(self) -> None:
        if self.points < 1:
            raise ConfigError(f"--points {self.points}: must be at least 1.")
        if self.prompter is not Prompter.APM and not self.ips:
            raise ConfigError(
                f"--prompter {self.prompter} --no-ips: nothing would be left to train; add --ips or take apm."
            )

    @property
    def label(self) -> str:
        """Name in tables: `apm+ips`, `ips+grid`, and `ips+gt (upper bound)`, which knows the truth."""
        if self.prompter is Prompter.APM:
            return "apm+ips" if self.ips else "apm"
        return f"ips+{self.prompter}" + (" (upper bound)" if self.prompter is Prompter.GT else "")
