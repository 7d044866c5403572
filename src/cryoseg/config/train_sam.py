"""Settings of `cryoseg train head-prompt|prefix-prompt|encoder-prompt|finetune|promise|sam`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any

from cryoseg.config.prompt_sam import InputScale, PromptConfig, PromptMethod
from cryoseg.config.setting import Settings, setting
from cryoseg.config.train import LoopConfig, batch_setting
from cryoseg.errors import ConfigError


class SamLoss(StrEnum):
    """Losses: `dice-bce` is Dice with squares plus cross-entropy, `dice` is Dice alone.

    The released Prompt-SAM scripts trained with `dice`, since their cross-entropy is always zero.
    `double-sigmoid` is the loss of the released ProMISe, for comparison only.
    """

    DICE = "dice"
    DICE_BCE = "dice-bce"
    DOUBLE_SIGMOID = "double-sigmoid"


class TrainView(StrEnum):
    """Training samples: tiles at the scale of the particle, or whole micrographs as squares."""

    TILES = "tiles"
    WHOLE = "whole"


@dataclass(frozen=True, kw_only=True)
class SampleConfig(Settings):
    """Training samples and their augmentation.

    Attributes
    ----------
    flips
        Whether samples are mirrored and rotated by multiples of 90 degrees.
    zoom
        Largest factor of magnification or reduction; 1 for none.
    noise, blur
        Largest standard deviation of added noise in units of the normalized image, and of a Gaussian blur in
        pixels.
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
        """Return settings for whole micrographs without augmentation, as in the released scripts."""
        settings = {"view": TrainView.WHOLE, "batch": 1, "flips": False, "zoom": 1.0}
        return cls(**{**settings, "noise": 0.0, "blur": 0.0, "gain": 1.0, **changes})


# Published learning rates are for ViT-H on whole micrographs; those of prompts for a small network were found
# on simulated micrographs. Decoder and adapters start near SAM and change less.
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
USUAL_CORE = 0.6  # for discs that are drawn around coordinates
USUAL_STEPS = 400
PARTICLE_PIXELS = 24.0  # diameter to which particles are scaled if the network sets none

core_setting = partial(
    setting,
    help="Diameter of the discs that are learned, in particle diameters; a value below 1 separates "
    "particles that touch.",
    at_least=SMALLEST_CORE,
    at_most=1,
)


@dataclass(frozen=True, kw_only=True)
class TrainSamConfig(Settings):
    """Settings of the adaptation of a SAM; `loss_scale` is a factor of the loss."""

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
        """Return plain values for JSON."""
        return {**super().to_dict(), "prompt": self.prompt.to_dict()}

    @classmethod
    def ours(
        cls, prompt: PromptConfig, *, steps: int = USUAL_STEPS, seed: int = 0, core: float = 1.0, **loop: Any
    ) -> TrainSamConfig:
        """Return settings for tiles with augmentation, a cosine schedule and averaged weights."""
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
        """Return the settings of the released scripts.

        They use Adam at a constant rate with one whole micrograph per step and the squared Dice alone, times
        100 for the head. Here the validation Dice chooses the weights. The scripts keep the weights whenever
        one of three metrics exceeds its own maximum, which may not be the best ones.

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
    """Settings of the training of a small promptable SAM from random weights.

    Attributes
    ----------
    grid_side
        Number of points along a side of the grid of foreground points, which prompts all particles.
    particle_pixels
        Diameter in pixels to which particles are scaled.
    """

    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            steps=4000, learning_rate=8e-4, warmup_steps=200, validate_every=250, checkpoint_every=50
        )
    )
    sample: SampleConfig = field(default_factory=lambda: SampleConfig(zoom=1.4))
    grid_side: int = 8
    prompts: int = setting(
        3, help="Number of particles per tile that are prompted by points, and as many by boxes.", at_least=0
    )
    particle_pixels: float = PARTICLE_PIXELS

    @property
    def prompt(self) -> PromptConfig:
        """Settings of the network."""
        return PromptConfig(input_scale=InputScale.GREY, grid_side=self.grid_side)
