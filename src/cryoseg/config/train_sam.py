"""Settings of `cryoseg train head-prompt|prefix-prompt|encoder-prompt|finetune|promise|sam`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from cryoseg.config.prompt_sam import InputScale, PromptConfig, PromptMethod
from cryoseg.config.setting import Settings, setting
from cryoseg.config.train import LoopConfig, batch_setting
from cryoseg.errors import ConfigError


class SamLoss(StrEnum):
    """`dice-bce`: Dice with squares plus cross-entropy. `dice`: the former alone.

    The released scripts meant `dice-bce`, but their cross-entropy is zero, so they trained with `dice`.
    `double-sigmoid`: what the released ProMISe trains with, for comparison only.
    """

    DICE = "dice"
    DICE_BCE = "dice-bce"
    DOUBLE_SIGMOID = "double-sigmoid"


class TrainView(StrEnum):
    """What a training sample is: a tile at the particle's scale, or a whole micrograph as a square."""

    TILES = "tiles"
    WHOLE = "whole"


@dataclass(frozen=True, kw_only=True)
class SampleConfig(Settings):
    """Training samples and their augmentation.

    Attributes
    ----------
    view
        Tiles or whole micrographs.
    flips
        Mirror and turn by quarters.
    zoom
        Largest factor by which a tile is magnified or shrunk (1 for none).
    noise, blur
        Largest standard deviation of added noise, in units of the normalized image, and of a
        Gaussian blur, in pixels.
    gain
        Largest factor of contrast.
    """

    view: TrainView = TrainView.TILES
    batch: int = batch_setting(4)
    flips: bool = True
    zoom: float = 1.2
    noise: float = 0.5
    blur: float = 1.0
    gain: float = 1.3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.zoom < 1 or self.gain < 1:
            raise ConfigError("zoom and gain of the augmentation must be at least 1.")

    @classmethod
    def plain(cls, **changes: Any) -> SampleConfig:
        """Whole micrographs one by one without augmentation, as the released scripts train."""
        settings = {"view": TrainView.WHOLE, "batch": 1, "flips": False, "zoom": 1.0}
        return cls(**{**settings, "noise": 0.0, "blur": 0.0, "gain": 1.0, **changes})


# Published learning rates are for ViT-H on whole micrographs; what a prompt on a small network needs
# was found on simulated micrographs. Decoder and adapters begin near SAM and move less.
LEARNING_RATES = {
    PromptMethod.HEAD: 5e-4,
    PromptMethod.PREFIX: 5e-3,
    PromptMethod.ENCODER: 1e-3,
    PromptMethod.FINETUNE: 5e-4,
    PromptMethod.PROMISE: 5e-4,
}
PUBLISHED_EPOCHS = 100
HEAD_LOSS_SCALE = 100.0
SMALLEST_CORE = 0.2
USUAL_CORE = 0.6  # of discs that are drawn about coordinates
USUAL_STEPS = 400
PARTICLE_PIXELS = 24.0  # diameter to which particles are scaled for a network that has none of its own


def core_setting(default: float | None, *, shown: str | None = None) -> Any:
    """The share of the particle that is learned."""
    return setting(
        default,
        help="Diameter of the discs that are learned, in particle diameters; below 1, particles that touch "
        "stay apart.",
        at_least=SMALLEST_CORE,
        at_most=1,
        shown=shown,
    )


@dataclass(frozen=True, kw_only=True)
class TrainSamConfig(Settings):
    """Everything that decides what training makes of its data.

    Attributes
    ----------
    prompt
        The method and its settings.
    loop
        The training loop.
    sample
        Samples and augmentation.
    loss, loss_scale
        What is minimized, and a factor.
    core
        Diameter of the discs that are learned; masks are grown back when picking.
    """

    prompt: PromptConfig
    loop: LoopConfig
    sample: SampleConfig = field(default_factory=SampleConfig)
    loss: SamLoss = SamLoss.DICE_BCE
    loss_scale: float = 1.0
    core: float = core_setting(1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.core < 1 and self.sample.view is TrainView.WHOLE:
            raise ConfigError("--core: whole micrographs are too coarse for cores; train on tiles.")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "prompt": self.prompt.to_dict()}

    @classmethod
    def ours(
        cls, prompt: PromptConfig, *, steps: int = USUAL_STEPS, seed: int = 0, core: float = 1.0, **loop: Any
    ) -> TrainSamConfig:
        """Tiles, augmentation, a cosine schedule, averaged weights."""
        settings: dict[str, Any] = {
            "steps": steps,
            "learning_rate": LEARNING_RATES.get(prompt.method, 1e-3),
            "warmup_steps": min(20, steps // 10),
            "weight_decay": 0.01,
            "ema_decay": 0.98,
            "validate_every": max(1, steps // 8),
            "checkpoint_every": max(1, steps // 8),
            "seed": seed,
        }
        return cls(prompt=prompt, loop=LoopConfig(**{**settings, **loop}), core=core)

    @classmethod
    def faithful(
        cls, prompt: PromptConfig, *, images: int, epochs: int = PUBLISHED_EPOCHS, seed: int = 0, **loop: Any
    ) -> TrainSamConfig:
        """The released scripts' training.

        Adam at a constant rate, one whole micrograph a step, the squared Dice alone, times 100 for
        the head. The best weights are chosen by validation Dice, since the scripts' rule, any of three
        figures better than its own last best, keeps no best.

        Source: yangyang-69/Prompt_sam_cryoPPP notebooks/train_*.py@d4f8b28.
        """
        head = prompt.method is PromptMethod.HEAD
        settings: dict[str, Any] = {
            "steps": epochs * images,
            "learning_rate": 5e-5 if head else 1e-4,
            "final_learning_rate_fraction": 1.0,
            "warmup_steps": 0,
            "weight_decay": 0.0,
            "clip_norm": 1e9,
            "ema_decay": 0.0,
            "validate_every": images,
            "checkpoint_every": images,
            "seed": seed,
        }
        return cls(
            prompt=prompt,
            loop=LoopConfig(**{**settings, **loop}),
            sample=SampleConfig.plain(),
            loss=SamLoss.DICE,
            loss_scale=HEAD_LOSS_SCALE if head else 1.0,
        )


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(Settings):
    """Training of a small promptable SAM from nothing.

    Attributes
    ----------
    loop, sample
        The loop, and tiles with their augmentation.
    grid_side
        Points along one side of the grid of foreground points, the prompt for everything.
    particle_pixels
        Diameter to which particles are scaled.
    """

    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            steps=4000, learning_rate=8e-4, warmup_steps=200, validate_every=250, checkpoint_every=50
        )
    )
    sample: SampleConfig = field(default_factory=lambda: SampleConfig(zoom=1.4))
    grid_side: int = 8
    prompts: int = setting(
        3, help="Particles per tile that are prompted by points, and as many by boxes.", at_least=0
    )
    particle_pixels: float = PARTICLE_PIXELS

    @property
    def prompt(self) -> PromptConfig:
        """The network's own settings."""
        return PromptConfig(input_scale=InputScale.GREY, grid_side=self.grid_side)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)
