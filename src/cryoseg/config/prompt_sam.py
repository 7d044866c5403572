"""Settings of prompt-adapted Segment Anything networks, and of ProMISe."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cryoseg.config.setting import Settings, setting, write_list
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
        help="Origin of the points. apm: a network. gt: the true mask, an upper bound and never an "
        "automatic result. grid: a regular grid; none: no points; both with --ips only.",
    )
    apm: ApmKind = setting(ApmKind.RESNET, help="Kind of the network that places points.")
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


class PromptMethod(StrEnum):
    """Part that is added to SAM, or changed in it, and trained.

    `native`: nothing. `head`: a U-Net before the encoder. `prefix`: rows of learned tokens above the
    grid. `encoder`: adapters inside the blocks. `finetune`: the mask decoder itself. `promise`: a network
    that places points, and offsets of the mask tokens.
    """

    NATIVE = "native"
    HEAD = "head"
    PREFIX = "prefix"
    ENCODER = "encoder"
    FINETUNE = "finetune"
    PROMISE = "promise"


class InputScale(StrEnum):
    """Normalization of the input of the image encoder.

    `sam`: RGB in [0, 1], then SAM's mean and standard deviation. `unit`: RGB in [0, 1], as in the
    released Prompt-SAM scripts. `grey`: one channel, zero mean and unit deviation.
    """

    SAM = "sam"
    UNIT = "unit"
    GREY = "grey"


class NativeMode(StrEnum):
    """Prompts: one mask for a grid of points, or the automatic mask generator of SAM."""

    GRID = "grid"
    AMG = "amg"


BOTH_ADAPTERS = 3


def read_numbers(text: str, *, option: str) -> tuple[int, ...]:
    """Read whole numbers with commas between them."""
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise ConfigError(f"{option} {text}: write numbers with commas, such as 4,5.") from None


@dataclass(frozen=True, kw_only=True)
class PromptConfig(Settings):
    """Settings of the adaptation of a SAM. Defaults follow the paper, `faithful` the released scripts.

    Attributes
    ----------
    blocks
        Number for each encoder block. `prefix`: 0 none, 1 tokens. `encoder`: 0 none, 1 space adapter, 2 MLP
        adapter, 3 both. None uses all of them in every block.
    norm_before_window
        Whether `encoder` normalizes before the window partition, as SAM does. In the released adapters, the
        padding is normalized too and becomes the bias of the normalization.
    grid_side
        Number of points along a side of the fixed grid of foreground points.
    zero_start
        Whether the last layers start at zero, so that training starts from the unchanged SAM, and not at
        random, as published.
    promise
        Settings of `promise`; None uses its defaults.
    """

    method: PromptMethod = PromptMethod.NATIVE
    blocks: tuple[int, ...] | None = None
    num_tokens: int | None = setting(
        None,
        help="For prefix: number of tokens per block, a multiple of the width of the token grid.",
        at_least=1,
        shown="one row",
    )
    norm_before_window: bool = True
    train_decoder: bool = setting(
        False,
        help="Train the mask decoder beside the prompt; the released scripts do so for head and prefix.",
    )
    tuned_blocks: tuple[int, ...] = setting(
        (),
        help="For finetune: encoder blocks to train beside the mask decoder, such as 4,5.",
        read=read_numbers,
        write=write_list,
        repeat=False,
        shown="none",
    )
    tune_prompt_encoder: bool = setting(False, help="For finetune: train the prompt encoder too.")
    tune_stem: bool = setting(
        False, help="For finetune: train the layers of the image encoder before and after its blocks too."
    )
    input_scale: InputScale = InputScale.SAM
    grid_side: int = 32
    zero_start: bool = True
    promise: PromiseConfig | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method is PromptMethod.PROMISE and self.promise is None:
            object.__setattr__(self, "promise", PromiseConfig())
        if self.method is not PromptMethod.PROMISE and self.promise is not None:
            raise ConfigError(
                f"--prompter and related options: are for promise, not {self.method}; leave them out."
            )
        largest = {PromptMethod.PREFIX: 1, PromptMethod.ENCODER: BOTH_ADAPTERS}.get(self.method)
        if self.blocks is not None and largest is None:
            raise ConfigError(f"--blocks: {self.method} has no choice per block; leave it out.")
        if self.blocks is not None and any(not 0 <= n <= (largest or 0) for n in self.blocks):
            raise ConfigError(f"--blocks {self.blocks}: {self.method} takes numbers from 0 to {largest}.")
        if self.grid_side < 1:
            raise ConfigError(f"--grid-side {self.grid_side}: must be at least 1.")
        if self.num_tokens is not None and self.method is not PromptMethod.PREFIX:
            raise ConfigError(f"--num-tokens: is for prefix, not {self.method}; leave it out.")
        tuned = {"--tuned-blocks": bool(self.tuned_blocks), "--tune-prompt-encoder": self.tune_prompt_encoder}
        tuned["--tune-stem"] = self.tune_stem
        given = ", ".join(option for option, is_given in tuned.items() if is_given)
        if given and self.method is not PromptMethod.FINETUNE:
            raise ConfigError(f"{given}: is for finetune, not {self.method}; leave it out.")

    @classmethod
    def faithful(cls, method: PromptMethod, **changes: Any) -> PromptConfig:
        """Return the settings of the released scripts, where they differ from the paper.

        Source: yangyang-69/Prompt_sam_cryoPPP notebooks/train_*.py@d4f8b28.
        """
        settings: dict[str, Any] = {
            "norm_before_window": method is not PromptMethod.ENCODER,
            "train_decoder": method in (PromptMethod.HEAD, PromptMethod.PREFIX),
            "input_scale": InputScale.UNIT,
            "zero_start": False,
        }
        return cls(method=method, **{**settings, **changes})

    @property
    def label(self) -> str:
        """Name of the adaptation in tables."""
        return self.method.value if self.promise is None else f"{self.method.value} {self.promise.label}"

    def per_block(self, depth: int) -> tuple[int, ...]:
        """Return the number for every block of an encoder of `depth` blocks.

        Raises
        ------
        ConfigError
            If `blocks` has another length.
        """
        if self.blocks is None:
            return ((1 if self.method is PromptMethod.PREFIX else BOTH_ADAPTERS),) * depth
        if len(self.blocks) != depth:
            raise ConfigError(
                f"--blocks has {len(self.blocks)} numbers, the image encoder {depth} blocks; give one each."
            )
        return self.blocks

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, without an empty `promise`."""
        values = super().to_dict()
        if self.promise is None:
            del values["promise"]
        return values


def parse_blocks(text: str, method: PromptMethod, depth: int) -> tuple[int, ...] | None:
    """Read the choice for each encoder block.

    Parameters
    ----------
    text
        `all`, or blocks and ranges from 0, such as `0-3,7`; for adapters, each may be followed by
        `:1` (space), `:2` (MLP) or `:3` (both, the default).
    method
        `prefix` or `encoder`.
    depth
        Number of blocks of the encoder.

    Returns
    -------
    tuple of int or None
        Number for every block, as in `PromptConfig.blocks`; None for all blocks.

    Raises
    ------
    ConfigError
        If the text has another form, or the encoder has no such block.
    """
    if text.strip().lower() == "all":
        return None
    if method not in (PromptMethod.PREFIX, PromptMethod.ENCODER):
        raise ConfigError(f"--blocks {text}: {method} has no choice per block; leave it out.")
    choice = [0] * depth
    for part in text.split(","):
        span, _, number = part.partition(":")
        first, _, last = span.partition("-")
        try:
            begin, end = int(first), int(last or first)
            value = int(number) if number else (1 if method is PromptMethod.PREFIX else BOTH_ADAPTERS)
        except ValueError:
            raise ConfigError(f"--blocks {text}: write blocks as 0-3,7 or all.") from None
        if not 0 <= begin <= end < depth:
            raise ConfigError(f"--blocks {text}: the image encoder has blocks 0 to {depth - 1}.")
        choice[begin : end + 1] = [value] * (end + 1 - begin)
    return tuple(choice)
