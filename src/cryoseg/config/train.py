"""Settings of `cryoseg train` for segmentation networks, and the training loop of all methods."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial

from cryoseg.config.common import Precision, precision_setting, seed_setting
from cryoseg.config.segment import (
    ETSAM_PROMPT_INTERVAL,
    Normalize,
    Stage1Prompt,
    Stage2Prompt,
    sam2_config_setting,
)
from cryoseg.config.setting import Settings, setting
from cryoseg.errors import ConfigError

steps_setting = partial(setting, help="Number of optimizer steps.", at_least=1)

learning_rate_setting = partial(setting, help="Largest learning rate.", above=0)

batch_setting = partial(
    setting,
    help="Number of samples (clips, crops or tiles) per step, over all processes.",
    flags=("--batch",),
    at_least=1,
)

clip_length_setting = partial(
    setting, help="Number of consecutive slices per clip.", flags=("--clip-length",)
)

max_minutes_setting = partial(
    setting,
    None,
    help="Stop after this many minutes; the same command continues later.",
    at_least=0,
    shown="no limit",
)

validation_setting = partial(setting, (), help="Data for validation, which are not used for training.")


@dataclass(frozen=True, kw_only=True)
class LoopConfig(Settings):
    """Settings of the training loop of all methods.

    The learning rate rises linearly and then follows a cosine. All random choices of step n depend on the
    seed and on n only, so that a resumed run gives the same result.

    Attributes
    ----------
    warmup_steps
        Number of steps in which the learning rate rises.
    final_learning_rate_fraction
        Last learning rate as a fraction of the largest one.
    weight_decay
        Weight decay of AdamW for matrices and kernels.
    clip_norm
        Largest L2 norm of the gradients; None does not clip them.
    ema_decay
        Decay of the averaged weights, which are validated and kept; 0 disables averaging.
    checkpoint_every
        Number of steps between two checkpoints.
    """

    steps: int = steps_setting(3000)
    warmup_steps: int = 100
    learning_rate: float = learning_rate_setting(1e-3)
    final_learning_rate_fraction: float = 0.01
    weight_decay: float = 0.05
    clip_norm: float | None = 1.0
    ema_decay: float = 0.995
    validate_every: int = setting(500, help="Number of steps between two validations.", at_least=1)
    checkpoint_every: int = 100
    max_minutes: float | None = max_minutes_setting()
    seed: int = seed_setting()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"ema_decay {self.ema_decay}: must be at least 0 and less than 1.")

    def with_short_warmup(self) -> LoopConfig:
        """Return the settings with at most a tenth of the steps as warm-up."""
        return replace(self, warmup_steps=min(self.warmup_steps, self.steps // 10))


@dataclass(frozen=True, kw_only=True)
class ClipConfig(Settings):
    """Clips of consecutive slices and their augmentation.

    Attributes
    ----------
    length
        Number of slices in a clip, and of the memory of inference.
    zoom
        Largest factor of magnification or reduction; 1 for none.
    noise, blur
        Largest standard deviation of added white noise in units of the normalized volume, and of a Gaussian
        blur in pixels.
    empty_fraction
        Fraction of the clips that may hold no membrane.
    """

    length: int = clip_length_setting(4, at_least=1)
    size: int = setting(
        192, help="Side of the square crops in pixels, a multiple of 32.", flags=("--crop-size",), at_least=32
    )
    batch: int = batch_setting(2)
    zoom: float = 1.35
    noise: float = 0.7
    blur: float = 1.0
    empty_fraction: float = 0.1
    hard_negatives: float = setting(
        0.0,
        help="Fraction of the clips that are chosen without membrane and with the most that resembles one.",
        at_least=0,
        at_most=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size % 32:
            raise ConfigError(f"--crop-size {self.size}: must be a multiple of 32.")


class MembraneStage(StrEnum):
    """What `cryoseg train membrane` trains: both stages, packed into one file, or one of them."""

    BOTH = "both"
    FIRST = "1"
    SECOND = "2"


@dataclass(frozen=True, kw_only=True)
class TrainMembraneConfig(Settings):
    """Settings of the training of one stage of membrane-tiny."""

    stage: int = 1
    loop: LoopConfig = field(default_factory=LoopConfig)
    clip: ClipConfig = field(default_factory=ClipConfig)


# Source: jianlin-cheng/ETSAM sam2/configs/etsam_training/etsam_stage{1,2}.yaml@b859060.
ETSAM_SAMPLES_PER_EPOCH = 222
ETSAM_EPOCHS = {1: 2000, 2: 1000}
ETSAM_GPUS = 4


class ClipPrompts(StrEnum):
    """Prompts of training clips.

    `sam2`: clicks, boxes or the true mask, with correction clicks, as published. `inference`: the prompts of
    `cryoseg segment`.
    """

    SAM2 = "sam2"
    INFERENCE = "inference"


class Part(StrEnum):
    """Parts of the network that can be frozen."""

    IMAGE_ENCODER = "image-encoder"
    PROMPT_ENCODER = "prompt-encoder"
    MASK_DECODER = "mask-decoder"
    MEMORY = "memory"


@dataclass(frozen=True, kw_only=True)
class Sam2ClipConfig(Settings):
    """Clips of whole slices, and their augmentation, which is the same for all slices of a clip.

    Attributes
    ----------
    length
        Number of consecutive slices, of which the first one holds membrane.
    flip
        Probability of a mirror image.
    rotation, shear
        Largest angles in degrees.
    brightness, contrast
        Largest relative changes.
    """

    length: int = clip_length_setting(22, at_least=2)
    batch: int = batch_setting(ETSAM_GPUS)
    flip: float = 0.5
    rotation: float = 25.0
    shear: float = 20.0
    brightness: float = 0.1
    contrast: float = 0.03


@dataclass(frozen=True, kw_only=True)
class TrainSam2Config(Settings):
    """Settings of the training of one stage of ETSAM.

    Attributes
    ----------
    stage
        Stage 1 receives the tomogram, stage 2 the sum of the tomogram and the clipped and scaled logits of
        stage 1.
    stage1_prompt, stage2_prompt, prompt_interval
        Prompts of `ClipPrompts.INFERENCE`, and of the logits that stage 2 receives.
    encoder_rate
        Learning rate of the image encoder as a fraction of that of other parts.
    layer_decay
        Factor of the learning rate from one layer of the encoder to the layer below.
    drop_path
        Probability that a block of the encoder is skipped.
    """

    stage: int = 1
    sam2_config: str = sam2_config_setting("configs/sam2.1/sam2.1_hiera_b+.yaml")
    normalize: Normalize = Normalize.POSITIVE_MAX
    loop: LoopConfig = field(default_factory=LoopConfig)
    clip: Sam2ClipConfig = field(default_factory=Sam2ClipConfig)
    prompts: ClipPrompts = setting(
        ClipPrompts.SAM2,
        help="Prompts of clips. sam2: clicks, boxes and masks, as published. inference: the prompts of "
        "segment.",
    )
    stage1_prompt: Stage1Prompt = Stage1Prompt.GRID_ZERO
    stage2_prompt: Stage2Prompt = Stage2Prompt.ZERO
    prompt_interval: int = ETSAM_PROMPT_INTERVAL
    encoder_rate: float = 0.6
    layer_decay: float = 0.9
    drop_path: float = 0.1
    freeze: tuple[Part, ...] = setting(
        (), help="Part of the network that keeps its weights; repeat for several."
    )
    precision: Precision = precision_setting()


def etsam_loop(stage: int, *, batch: int = ETSAM_GPUS) -> LoopConfig:
    """Return the published schedule of a stage, in steps of `batch` clips.

    The publication keeps the last weights; here validation chooses them.

    Source: ETSAM, 2000 and 1000 epochs of 222 clips on four GPUs; learning rates from 5e-6 to 5e-7 along a
    cosine without warm-up, weight decay 0.1, gradients clipped at 0.1.
    """
    return LoopConfig(
        steps=ETSAM_EPOCHS[stage] * ETSAM_SAMPLES_PER_EPOCH // batch,
        warmup_steps=0,
        learning_rate=5e-6,
        final_learning_rate_fraction=0.1,
        weight_decay=0.1,
        clip_norm=0.1,
        ema_decay=0.0,
        validate_every=2000,
        checkpoint_every=500,
        seed=123,
    )


def etsam_config(stage: int, *, batch: int = ETSAM_GPUS) -> TrainSam2Config:
    """Return the published settings of a stage, in steps of `batch` clips."""
    return TrainSam2Config(stage=stage, loop=etsam_loop(stage, batch=batch))
