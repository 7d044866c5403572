"""Settings for training any SAM 2 network as ETSAM was trained."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from cryoseg.config.common import Precision, precision_setting
from cryoseg.config.segment import (
    ETSAM_PROMPT_INTERVAL,
    Normalize,
    Stage1Prompt,
    Stage2Prompt,
    sam2_config_setting,
)
from cryoseg.config.setting import Settings, setting
from cryoseg.config.train import LoopConfig, batch_setting, clip_length_setting

# Source: jianlin-cheng/ETSAM sam2/configs/etsam_training/etsam_stage{1,2}.yaml@b859060.
ETSAM_SAMPLES_PER_EPOCH = 222
ETSAM_EPOCHS = {1: 2000, 2: 1000}
ETSAM_GPUS = 4


class ClipPrompts(StrEnum):
    """How a training clip is prompted.

    `sam2` is the publication's: clicks, boxes or the true mask, with correction clicks. `inference`
    gives what `cryoseg segment` gives, so that training and use agree.
    """

    SAM2 = "sam2"
    INFERENCE = "inference"


class Part(StrEnum):
    """A part of the network that can be frozen."""

    IMAGE_ENCODER = "image-encoder"
    PROMPT_ENCODER = "prompt-encoder"
    MASK_DECODER = "mask-decoder"
    MEMORY = "memory"


@dataclass(frozen=True, kw_only=True)
class Sam2ClipConfig(Settings):
    """Clips of whole slices and their augmentation, the same for all slices of a clip.

    Attributes
    ----------
    length
        Consecutive slices; the first one holds membrane.
    flip
        Probability of a mirror image.
    rotation, shear
        Largest angles, in degrees.
    brightness, contrast
        Largest relative change.
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
    """Everything that decides what a stage of ETSAM learns from its data.

    Attributes
    ----------
    stage
        1 sees the tomogram, 2 the tomogram plus the clipped and stretched logits of stage 1.
    normalize
        Normalization of the grey values, as in `cryoseg segment`.
    stage1_prompt, stage2_prompt, prompt_interval
        Prompts for `ClipPrompts.INFERENCE`, and for the logits that stage 2 learns from.
    encoder_rate
        Learning rate of the image encoder, as a fraction of the others'.
    layer_decay
        Factor per layer below the encoder's last one.
    drop_path
        Probability of leaving out a block of the encoder in training.
    """

    stage: int = 1
    sam2_config: str = sam2_config_setting("configs/sam2.1/sam2.1_hiera_b+.yaml")
    normalize: Normalize = Normalize.POSITIVE_MAX
    loop: LoopConfig = field(default_factory=LoopConfig)
    clip: Sam2ClipConfig = field(default_factory=Sam2ClipConfig)
    prompts: ClipPrompts = setting(
        ClipPrompts.SAM2,
        help="Prompts of clips. sam2: clicks, boxes and masks as published. inference: as segment does.",
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

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def etsam_loop(stage: int, *, batch: int = ETSAM_GPUS) -> LoopConfig:
    """The published schedule of a stage, in steps of `batch` clips.

    Notes
    -----
    Source: ETSAM, 2000 and 1000 epochs of 222 clips on four GPUs; rates from 5e-6 to 5e-7 along a
    cosine without warm-up, weight decay 0.1, gradients clipped at 0.1. The publication keeps the
    last weights; here validation chooses, and the weights are not averaged.
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
    """The published settings of a stage, in steps of `batch` clips."""
    return TrainSam2Config(stage=stage, loop=etsam_loop(stage, batch=batch))
