"""Settings of `cryoseg segment` and `cryoseg postprocess`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cryoseg.config.common import Mode0, Naming
from cryoseg.errors import ConfigError


class ModelName(StrEnum):
    """Models that segment membranes; `auto` takes ETSAM where both its checkpoints are installed."""

    AUTO = "auto"
    ETSAM = "etsam"
    MEMBRANE_TINY = "membrane-tiny"


class Preset(StrEnum):
    """ETSAM's two published settings."""

    V1 = "v1"
    V2 = "v2"


class Stage1Prompt(StrEnum):
    """What stage 1 is told before it propagates.

    `grid-zero` puts a dot every few pixels on slice 0, `grid` on every n-th slice, `zero` an empty
    mask on slice 0; `none` gives no prompt at all.
    """

    GRID_ZERO = "grid-zero"
    GRID = "grid"
    ZERO = "zero"
    NONE = "none"


class Stage2Prompt(StrEnum):
    """As `Stage1Prompt`; `stage1-masks` gives the stage-1 mask of every n-th slice."""

    STAGE1_MASKS = "stage1-masks"
    GRID_ZERO = "grid-zero"
    GRID = "grid"
    ZERO = "zero"
    NONE = "none"


class Normalize(StrEnum):
    """Intensity map before the network.

    `positive-max`: negatives to 0, divided by the maximum (ETSAM). `softplus`: softplus, then
    min-max (ETSAM's option). `robust`: median and interquartile range, clipped (membrane-tiny).
    """

    POSITIVE_MAX = "positive-max"
    SOFTPLUS = "softplus"
    ROBUST = "robust"


class Polarity(StrEnum):
    """Whether membranes are darker or brighter than their surroundings; `as-is` never inverts."""

    DARK = "dark"
    BRIGHT = "bright"
    AS_IS = "as-is"


class PostprocessStep(StrEnum):
    """Mask-to-mask steps, applied in this order.

    `thin-noise` drops components on few slices; `bridges` cuts short links between parallel
    membranes.
    """

    THIN_NOISE = "thin-noise"
    BRIDGES = "bridges"


class View(StrEnum):
    """Passes whose logits are averaged: along z upward, and along z downward."""

    FORWARD = "forward"
    BACKWARD = "backward"


# Source: jianlin-cheng/ETSAM etsam.py@b859060 (v1) and etsam.py@58e8df8 (v2).
PRESET_LOGIT_THRESHOLD = {Preset.V1: -0.5, Preset.V2: -0.25}
PRESET_STAGE1_THRESHOLD = {Preset.V1: 0.0, Preset.V2: -0.25}
PRESET_STAGE2_PROMPT = {Preset.V1: Stage2Prompt.STAGE1_MASKS, Preset.V2: Stage2Prompt.ZERO}
PRESET_POSTPROCESS = {
    Preset.V1: (PostprocessStep.THIN_NOISE,),
    Preset.V2: (PostprocessStep.THIN_NOISE, PostprocessStep.BRIDGES),
}
ETSAM_PROMPT_INTERVAL = 50
ETSAM_SPLIT_PROMPT_INTERVAL = 10


@dataclass(frozen=True, kw_only=True)
class PostprocessLengths:
    """Numbers that the post-processing steps need; the settings of every command that takes steps have them.

    Attributes
    ----------
    min_slices
        Components on fewer slices are dropped by `thin-noise`.
    max_bridge_length, max_spur_length
        Skeleton segments up to this many pixels are cut by `bridges`; 0 switches spurs off.
    """

    min_slices: int = 10
    max_bridge_length: int = 5
    max_spur_length: int = 0

    def __post_init__(self) -> None:
        if self.min_slices < 1:
            raise ConfigError(f"--post-process-min-slices {self.min_slices}: must be at least 1.")
        if self.max_bridge_length < 0:
            raise ConfigError(
                f"--post-process-max-bridge-len {self.max_bridge_length}: must not be negative."
            )
        if self.max_spur_length < 0:
            raise ConfigError(f"--post-process-max-spur-len {self.max_spur_length}: must not be negative.")


@dataclass(frozen=True, kw_only=True)
class SegmentConfig(PostprocessLengths):
    """Everything that changes the result of `cryoseg segment`.

    A field that is None is filled by the model: ETSAM takes it from `preset`, membrane-tiny from
    the settings recorded with its weights.

    Attributes
    ----------
    logit_threshold
        Voxels whose logit is greater are membrane.
    stage1_threshold
        The same for the stage-1 masks that prompt stage 2.
    prompt_interval
        Distance in voxels of grid dots and in slices of prompted slices.
    split_processing
        Run the four y, x quadrants one by one (ETSAM's `--split-processing`).
    postprocess
        Steps to apply; empty for none.
    pixel_size
        In angstrom; overrides the header. None reads the header.
    views
        Passes to average.
    """

    preset: Preset = Preset.V1
    logit_threshold: float | None = None
    stage1_threshold: float | None = None
    stage1_prompt: Stage1Prompt | None = None
    stage2_prompt: Stage2Prompt | None = None
    prompt_interval: int | None = None
    normalize: Normalize | None = None
    polarity: Polarity | None = None
    split_processing: bool = False
    postprocess: tuple[PostprocessStep, ...] = ()
    pixel_size: float | None = None
    views: tuple[View, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prompt_interval is not None and self.prompt_interval < 1:
            raise ConfigError(f"--prompt-interval {self.prompt_interval}: must be at least 1.")
        if self.pixel_size is not None and not 0.1 <= self.pixel_size <= 1000:
            raise ConfigError(
                f"--pixel-size {self.pixel_size}: must lie between 0.1 and 1000 angstrom "
                "(it is not in nanometers)."
            )
        if self.views is not None and not self.views:
            raise ConfigError("--views: name at least one of forward, backward.")


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """Which network segments, and where its weights are.

    Attributes
    ----------
    name
        A known model; with `model_file` or checkpoints it is taken from them.
    model_file
        A packaged model that `cryoseg train membrane` wrote.
    stage1_checkpoint, stage2_checkpoint
        Weights of anybody's own SAM 2 family network, used as ETSAM uses its own.
    sam2_config
        Its configuration: a path, or a name inside the sam2 package.
    checkpoints_dir
        Where known weights are looked for first.
    """

    name: ModelName = ModelName.AUTO
    model_file: Path | None = None
    stage1_checkpoint: Path | None = None
    stage2_checkpoint: Path | None = None
    sam2_config: str | None = None
    checkpoints_dir: Path | None = None

    def __post_init__(self) -> None:
        own = self.stage1_checkpoint or self.stage2_checkpoint or self.sam2_config
        if own and (self.model_file or self.name is ModelName.MEMBRANE_TINY):
            raise ConfigError(
                "--stage1-checkpoint, --stage2-checkpoint and --sam2-config go with --model etsam; "
                "leave --model out."
            )


@dataclass(frozen=True, kw_only=True)
class SegmentOutputs:
    """What `cryoseg segment` writes, and how it reads.

    Attributes
    ----------
    store_logits, preview
        Write the logits, and a picture.
    naming
        Of the output files.
    overwrite
        Replace finished outputs.
    mode0
        How bytes of MRC mode 0 are read.
    """

    store_logits: bool = False
    preview: bool = False
    naming: Naming = Naming.CRYOSEG
    overwrite: bool = False
    mode0: Mode0 = Mode0.AUTO
