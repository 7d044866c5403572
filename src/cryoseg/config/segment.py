"""Settings of `cryoseg segment`, `postprocess` and `view`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path

from cryoseg.config.common import (
    ComponentChoice,
    Mode0,
    Naming,
    Precision,
    ResultOutputs,
    checkpoints_dir_setting,
    logit_threshold_setting,
    mode0_setting,
    pixel_size_setting,
)
from cryoseg.config.setting import Settings, setting
from cryoseg.errors import ConfigError


class ModelName(StrEnum):
    """Models that segment membranes; `auto` is ETSAM if both of its checkpoints are installed."""

    AUTO = "auto"
    ETSAM = "etsam"
    MEMBRANE_TINY = "membrane-tiny"


class Preset(StrEnum):
    """The two published settings of ETSAM."""

    V1 = "v1"
    V2 = "v2"


class Stage1Prompt(StrEnum):
    """Prompts of stage 1.

    `grid-zero` puts a dot every few pixels on slice 0, `grid` on every n-th slice, `zero` an empty
    mask on slice 0; `none` gives no prompt.
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
    """Normalization of the input of the network.

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
    """Post-processing steps of masks, in the order in which they are applied.

    `thin-noise` removes components on few slices; `bridges` cuts short links between parallel
    membranes.
    """

    THIN_NOISE = "thin-noise"
    BRIDGES = "bridges"


class Direction(StrEnum):
    """Directions along z in which a volume is segmented: upward and downward; their logits are averaged."""

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

polarity_setting = partial(setting, help="Whether membranes or particles are dark or bright in the files.")

sam2_config_setting = partial(
    setting, help="SAM 2 configuration of the weights: a YAML file, or a name in sam2."
)


# Spellings of the script of ETSAM.
_ETSAM_WORDS = {
    "grid_zero": "grid-zero",
    "etsam_stage1_partial": "stage1-masks",
    "min_max_positive_values": "positive-max",
    "softplus_minmax": "softplus",
}


@dataclass(frozen=True, kw_only=True)
class PostprocessLengths(Settings):
    """Settings of the post-processing steps, and the width of the bands that are made after them."""

    min_slices: int = setting(
        10,
        help="The step thin-noise removes components on fewer slices than this. In a thinner volume it "
        "removes those that are not on all slices.",
        flags=("--post-process-min-slices",),
        at_least=1,
    )
    max_bridge_length: int = setting(
        5,
        help="The step bridges cuts links of up to this many pixels between membranes.",
        flags=("--post-process-max-bridge-len",),
        at_least=0,
    )
    max_spur_length: int = setting(
        0,
        help="The step bridges cuts spurs of up to this many pixels; 0 cuts none.",
        flags=("--post-process-max-spur-len",),
        at_least=0,
    )
    band_width_nm: float | None = setting(
        None,
        help="Write bands of this width around the mid-surfaces of the membranes.",
        flags=("--band-width",),
        above=0,
        unit="nm",
        shown="as predicted",
    )


@dataclass(frozen=True, kw_only=True)
class NamedSteps(Settings):
    """Post-processing steps that were given one by one; the last two are options of ETSAM."""

    step: tuple[PostprocessStep, ...] = setting((), help="Apply only this step; repeat for several.")
    thin_noise: bool = setting(
        False,
        help="The step thin-noise.",
        flags=(
            "--postprocess-remove-thin-noise",
            "--post-process-remove-thin-noise",
            "--postprocess-remove-small-noise",
        ),
        hidden=True,
    )
    bridges: bool = setting(
        False,
        help="The step bridges.",
        flags=(
            "--postprocess-remove-parallel-membrane-misconnections",
            "--post-process-remove-parallel-membrane-misconnections",
        ),
        hidden=True,
    )

    @property
    def steps(self) -> tuple[PostprocessStep, ...]:
        """The named steps in the order in which they are applied."""
        named = {
            *self.step,
            *([PostprocessStep.THIN_NOISE] if self.thin_noise else []),
            *([PostprocessStep.BRIDGES] if self.bridges else []),
        }
        return tuple(one for one in PostprocessStep if one in named)


@dataclass(frozen=True, kw_only=True)
class SegmentConfig(PostprocessLengths):
    """Settings of `cryoseg segment`.

    The model sets the fields that are None: ETSAM by `preset`, membrane-tiny by the settings that its weights
    hold.

    Attributes
    ----------
    stage1_threshold
        Logit threshold of the stage-1 masks that prompt stage 2.
    postprocess
        Post-processing steps; empty for none.
    """

    preset: Preset = setting(
        Preset.V1,
        help="ETSAM's published settings. v1: threshold -0.5, stage-1 masks as prompts, thin-noise. "
        "v2: threshold -0.25, an empty prompt, thin-noise and bridges.",
    )
    logit_threshold: float | None = logit_threshold_setting(
        flags=("--logit-threshold", "--segmentation-threshold"), shown="preset or model"
    )
    stage1_threshold: float | None = None
    stage1_prompt: Stage1Prompt | None = setting(
        None, help="Prompt of stage 1.", words=_ETSAM_WORDS, shown="grid-zero"
    )
    stage2_prompt: Stage2Prompt | None = setting(
        None, help="Prompt of stage 2.", words=_ETSAM_WORDS, shown="preset"
    )
    prompt_interval: int | None = setting(
        None,
        help="Distance between grid points in pixels, and between prompted slices in slices.",
        at_least=1,
        shown=f"{ETSAM_PROMPT_INTERVAL}; {ETSAM_SPLIT_PROMPT_INTERVAL} with --split-processing",
    )
    normalize: Normalize | None = setting(
        None,
        help="Normalization of the grey values before the network.",
        flags=("--normalize", "--normalize-method"),
        words=_ETSAM_WORDS,
        shown="model",
    )
    polarity: Polarity | None = polarity_setting(None, shown="as-is for etsam, dark for membrane-tiny")
    split_processing: bool = setting(False, help="Process the four y, x quadrants one by one (ETSAM).")
    postprocess: tuple[PostprocessStep, ...] = ()
    pixel_size: float | None = pixel_size_setting()
    views: tuple[Direction, ...] | None = setting(
        None, help="Direction of the propagation along z; repeat to average both.", shown="model"
    )
    tta: int = setting(
        1,
        help="Number of orientations of the volume (mirrored, turned) over which the logits are averaged; "
        "2, 4 and 8 are balanced.",
        at_least=1,
        at_most=8,
    )
    uncertainty: bool = setting(
        False, help="Write the standard deviation of the probability over the orientations of --tta."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.uncertainty and self.tta < 2:
            raise ConfigError("--uncertainty: needs several orientations; add --tta 4, for example.")
        if self.views is not None and not self.views:
            raise ConfigError("--views: name at least one of forward, backward.")


@dataclass(frozen=True, kw_only=True)
class ModelChoice(Settings):
    """Choice of a model and its weights.

    Attributes
    ----------
    name
        Name of a known model; ignored with `model_file` or checkpoints.
    model_file
        Packaged model from `cryoseg train membrane`.
    """

    name: ModelName = ModelName.AUTO
    model_file: Path | None = None
    stage1_checkpoint: Path | None = setting(
        None, help="Weights of stage 1 of your own SAM 2 network, .pt or .safetensors.", shown="ETSAM's"
    )
    stage2_checkpoint: Path | None = setting(
        None, help="Weights of stage 2 of your own SAM 2 network.", shown="ETSAM's"
    )
    sam2_config: str | None = sam2_config_setting(None, shown="hiera b+")
    checkpoints_dir: Path | None = checkpoints_dir_setting()

    def __post_init__(self) -> None:
        super().__post_init__()
        own = self.stage1_checkpoint or self.stage2_checkpoint or self.sam2_config
        if own and (self.model_file or self.name is ModelName.MEMBRANE_TINY):
            raise ConfigError(
                "--stage1-checkpoint, --stage2-checkpoint and --sam2-config go with --model etsam; "
                "leave --model out."
            )

    def named(self, model: str) -> ModelChoice:
        """Return the choice with another model, given by its name or file."""
        if model in set(ModelName):
            return replace(self, name=ModelName(model), model_file=None)
        return replace(self, name=ModelName.AUTO, model_file=Path(model))


@dataclass(frozen=True, kw_only=True)
class SegmentOutputs(ResultOutputs):
    """Outputs of `cryoseg segment`, and how it reads bytes."""

    store_logits: bool = setting(
        False, help="Write the logits as float32.", flags=("--store-logits", "--store-probabilities")
    )
    preview: bool = setting(False, help="Write a picture of sections and slices with outlines of the mask.")
    naming: Naming = setting(
        Naming.CRYOSEG, help="Rule for the names of the outputs; etsam takes the names of ETSAM's script."
    )
    mode0: Mode0 = mode0_setting()


@dataclass(frozen=True, kw_only=True)
class SegmentRequest:
    """Request to segment tomograms.

    Attributes
    ----------
    config
        Settings; fields that are None are set by the model.
    choice
        Model and its weights.
    outputs
        Outputs to write, and how inputs are read.
    precision
        Precision of the networks; `auto` is bfloat16 on CUDA, otherwise float32.
    """

    config: SegmentConfig = SegmentConfig()
    choice: ModelChoice = ModelChoice()
    outputs: SegmentOutputs = SegmentOutputs()
    precision: Precision = Precision.AUTO


@dataclass(frozen=True, kw_only=True)
class PostprocessConfig(PostprocessLengths, ComponentChoice):
    """Settings of `cryoseg postprocess`.

    Attributes
    ----------
    steps
        Steps in the order in which they are applied; if empty, only the threshold is applied. None: the
        steps in the record of `cryoseg segment` beside the input, otherwise thin-noise.
    """

    steps: tuple[PostprocessStep, ...] | None = None
    logit_threshold: float | None = logit_threshold_setting(shown="recorded, else -0.5")
    pixel_size: float | None = pixel_size_setting()
    mode0: Mode0 = mode0_setting()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pixel_size is not None and self.band_width_nm is None:
            raise ConfigError("--pixel-size: is used with --band-width only; add it, or leave this one out.")


@dataclass(frozen=True, kw_only=True)
class ViewConfig(Settings):
    """What a page shows first, and how large it may be."""

    logit_threshold: float | None = setting(
        None, help="Logit at which the threshold slider begins.", shown="recorded, else -0.5"
    )
    min_slices: int | None = setting(
        None,
        help="Number of slices at which the slider of thin-noise begins.",
        flags=("--post-process-min-slices",),
        at_least=1,
        shown=f"{PostprocessLengths.min_slices}; 1 if the record has other steps only",
    )
    pick_diameter_angstrom: float | None = setting(
        None,
        help="Diameter of the circles about picks.",
        flags=("--pick-diameter",),
        above=0,
        unit="angstrom",
        shown="the file's",
    )
    binning: int | None = setting(
        None,
        help="Number of voxels of the file per voxel of the page along every axis.",
        flags=("--bin",),
        at_least=1,
        shown="fewest that fit",
    )
    max_megabytes: float = setting(60.0, help="Largest size of the page.", at_least=1, unit="megabytes")
    pixel_size: float | None = pixel_size_setting()
    mode0: Mode0 = mode0_setting()
