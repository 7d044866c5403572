"""Settings for training any SAM 2 network as ETSAM was trained."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from cryoseg.config.common import Precision
from cryoseg.config.segment import ETSAM_PROMPT_INTERVAL, Normalize, Stage1Prompt, Stage2Prompt
from cryoseg.config.train import LoopConfig
from cryoseg.errors import ConfigError

# Source: jianlin-cheng/ETSAM sam2/configs/etsam_training/etsam_stage{1,2}.yaml@b859060.
ETSAM_SAMPLES_PER_EPOCH = 222
ETSAM_EPOCHS = {1: 2000, 2: 1000}
ETSAM_GPUS = 4


class Recipe(StrEnum):
    """What `cryoseg train` makes of the pairs."""

    MEMBRANE_TINY = "membrane-tiny"
    ETSAM = "etsam"


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
class Sam2ClipConfig:
    """Clips of whole slices and their augmentation, the same for all slices of a clip.

    Attributes
    ----------
    length
        Consecutive slices; the first one holds membrane.
    batch
        Clips in a step, over all processes.
    flip
        Probability of a mirror image.
    rotation, shear
        Largest angles, in degrees.
    brightness, contrast
        Largest relative change.
    """

    length: int = 22
    batch: int = ETSAM_GPUS
    flip: float = 0.5
    rotation: float = 25.0
    shear: float = 20.0
    brightness: float = 0.1
    contrast: float = 0.03

    def __post_init__(self) -> None:
        if self.length < 2 or self.batch < 1:
            raise ConfigError("--clip-length must be at least 2, --batch at least 1.")


@dataclass(frozen=True, kw_only=True)
class TrainSam2Config:
    """Everything that decides what `--recipe etsam` makes of its data.

    Attributes
    ----------
    stage
        1 sees the tomogram, 2 the tomogram plus the clipped and stretched logits of stage 1.
    sam2_config
        Name or path of a SAM 2 configuration.
    normalize
        Of the grey values, as in `cryoseg segment`.
    prompts
        See `ClipPrompts`.
    stage1_prompt, stage2_prompt, prompt_interval
        For `ClipPrompts.INFERENCE`, and for the logits that stage 2 learns from.
    encoder_rate
        Learning rate of the image encoder, as a fraction of the others'.
    layer_decay
        Factor per layer below the encoder's last one.
    drop_path
        Probability of leaving out a block of the encoder in training.
    freeze
        Parts that keep their weights.
    precision
        Of the forward pass.
    """

    stage: int = 1
    sam2_config: str = "configs/sam2.1/sam2.1_hiera_b+.yaml"
    normalize: Normalize = Normalize.POSITIVE_MAX
    loop: LoopConfig = field(default_factory=LoopConfig)
    clip: Sam2ClipConfig = field(default_factory=Sam2ClipConfig)
    prompts: ClipPrompts = ClipPrompts.SAM2
    stage1_prompt: Stage1Prompt = Stage1Prompt.GRID_ZERO
    stage2_prompt: Stage2Prompt = Stage2Prompt.ZERO
    prompt_interval: int = ETSAM_PROMPT_INTERVAL
    encoder_rate: float = 0.6
    layer_decay: float = 0.9
    drop_path: float = 0.1
    freeze: tuple[Part, ...] = ()
    precision: Precision = Precision.AUTO

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
