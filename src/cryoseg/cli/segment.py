"""`cryoseg segment`: membranes in tomograms."""

from __future__ import annotations

from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional, TypeVar

import typer
from typer import Option

from cryoseg.cli.batch_options import BatchOptions, ClusterOptions, ContactSheet, run_command
from cryoseg.cli.option_groups import expand
from cryoseg.cli.options import (
    LOGIT_THRESHOLD_HELP,
    POLARITY_HELP,
    SAM2_CONFIG_HELP,
    STEP_HELP,
    STORE_LOGITS_HELP,
    CheckpointsDir,
    Device,
    Inputs,
    LengthOptions,
    NamingOption,
    OutputDir,
    Overwrite,
    PixelSize,
    PrecisionOption,
    Quiet,
    Verbose,
)
from cryoseg.config import (
    Mode0,
    ModelChoice,
    ModelName,
    Naming,
    Normalize,
    Polarity,
    PostprocessStep,
    Precision,
    Preset,
    SegmentConfig,
    SegmentOutputs,
    Stage1Prompt,
    Stage2Prompt,
    View,
)
from cryoseg.config.segment import PRESET_POSTPROCESS, PostprocessLengths

if TYPE_CHECKING:
    from cryoseg.cli.console import BatchConsole
    from cryoseg.events import Report
    from cryoseg.pipelines.batches.run import Batch

Choice = TypeVar("Choice", bound=StrEnum)

# ETSAM's own words for what has another name here.
ETSAM_WORDS = {
    "grid_zero": "grid-zero",
    "etsam_stage1_partial": "stage1-masks",
    "min_max_positive_values": "positive-max",
    "softplus_minmax": "softplus",
}


def _choice(kind: type[Choice]) -> Any:
    """A parser that takes a member's value, or ETSAM's word for it."""

    def parse(text: str) -> Choice:
        try:
            return kind(ETSAM_WORDS.get(text, text))
        except ValueError:
            raise typer.BadParameter(f"{text!r} is not one of {', '.join(kind)}.") from None

    return parse


def _choices(kind: type[StrEnum]) -> str:
    return f"[{'|'.join(kind)}]"


def build_config(
    *,
    preset: Preset = Preset.V1,
    logit_threshold: float | None = None,
    stage1_prompt: Stage1Prompt | None = None,
    stage2_prompt: Stage2Prompt | None = None,
    prompt_interval: int | None = None,
    normalize: Normalize | None = None,
    polarity: Polarity | None = None,
    split_processing: bool = False,
    post_process: bool = False,
    step: list[PostprocessStep] | None = None,
    thin_noise: bool = False,
    bridges: bool = False,
    pixel_size: float | None = None,
    views: list[View] | None = None,
    **others: Any,
) -> SegmentConfig:
    """Settings from the options of the command line; other options are passed over.

    Naming a step selects that step alone; `post_process` without a step selects the preset's.
    """
    named = set(step or ())
    if thin_noise:
        named.add(PostprocessStep.THIN_NOISE)
    if bridges:
        named.add(PostprocessStep.BRIDGES)
    steps = tuple(one for one in PostprocessStep if one in named)
    return SegmentConfig(
        preset=preset,
        logit_threshold=logit_threshold,
        stage1_prompt=stage1_prompt,
        stage2_prompt=stage2_prompt,
        prompt_interval=prompt_interval,
        normalize=normalize,
        polarity=polarity,
        split_processing=split_processing,
        postprocess=steps or (PRESET_POSTPROCESS[preset] if post_process else ()),
        **{one.name: others[one.name] for one in fields(PostprocessLengths)},
        pixel_size=pixel_size,
        views=tuple(dict.fromkeys(views)) if views else None,
    )


def parse_options(arguments: list[str]) -> SegmentConfig:
    """Settings that the command line would give for `arguments`, without running anything."""
    single = typer.Typer(pretty_exceptions_enable=False)
    single.command()(expand(segment))
    command = typer.main.get_command(single)
    context = command.make_context("segment", [*arguments, "tomogram.mrc"])
    return build_config(**context.params)


def segment(
    inputs: Inputs,
    output_dir: OutputDir = Path(),
    model: Annotated[
        str,
        Option("--model", "-m", "--checkpoint", help="auto, etsam, membrane-tiny, or a packaged model file."),
    ] = ModelName.AUTO.value,
    preset: Annotated[
        Preset,
        Option(
            help="ETSAM's published settings. v1: threshold -0.5, stage-1 masks as prompts, blob filter. "
            "v2: threshold -0.25, empty prompt, blob filter and bridge removal."
        ),
    ] = SegmentConfig.preset,
    logit_threshold: Annotated[
        Optional[float],  # noqa: UP045
        Option(
            "--logit-threshold",
            "--segmentation-threshold",
            help=LOGIT_THRESHOLD_HELP,
            show_default="preset or model",
        ),
    ] = None,
    post_process: Annotated[
        bool, Option("--post-process", help="Write a filtered mask too, by the preset's steps.")
    ] = False,
    step: Annotated[
        Optional[list[PostprocessStep]],  # noqa: UP045
        Option("--step", help=STEP_HELP, show_default="the preset's, with --post-process"),
    ] = None,
    lengths: LengthOptions = LengthOptions(),
    store_logits: Annotated[
        bool, Option("--store-logits", "--store-probabilities", help=STORE_LOGITS_HELP)
    ] = False,
    preview: Annotated[
        bool, Option("--preview", help="Write a picture of sections and slices with outlines.")
    ] = False,
    contact_sheet: ContactSheet = False,
    pixel_size: PixelSize = None,
    polarity: Annotated[
        Optional[Polarity],  # noqa: UP045
        Option(help=POLARITY_HELP, show_default="as-is for etsam, dark for membrane-tiny"),
    ] = None,
    views: Annotated[
        Optional[list[View]],  # noqa: UP045
        Option(help="Direction through z; repeat to average both.", show_default="model"),
    ] = None,
    stage1_prompt: Annotated[
        Optional[Stage1Prompt],  # noqa: UP045
        Option(
            parser=_choice(Stage1Prompt),
            metavar=_choices(Stage1Prompt),
            help="What stage 1 is told before it propagates.",
            show_default="grid-zero",
        ),
    ] = None,
    stage2_prompt: Annotated[
        Optional[Stage2Prompt],  # noqa: UP045
        Option(
            parser=_choice(Stage2Prompt),
            metavar=_choices(Stage2Prompt),
            help="What stage 2 is told.",
            show_default="preset",
        ),
    ] = None,
    prompt_interval: Annotated[
        Optional[int],  # noqa: UP045
        Option(help="Pixels between grid dots and slices between prompts.", show_default="50, split 10"),
    ] = None,
    normalize: Annotated[
        Optional[Normalize],  # noqa: UP045
        Option(
            "--normalize",
            "--normalize-method",
            parser=_choice(Normalize),
            metavar=_choices(Normalize),
            help="Intensity map before the network.",
            show_default="model",
        ),
    ] = None,
    split_processing: Annotated[
        bool, Option("--split-processing", help="Run the four y, x quadrants one by one (ETSAM).")
    ] = False,
    stage1_checkpoint: Annotated[
        Optional[Path],  # noqa: UP045
        Option(help="Your own weights for stage 1, .pt or .safetensors.", show_default="ETSAM's"),
    ] = None,
    stage2_checkpoint: Annotated[
        Optional[Path],  # noqa: UP045
        Option(help="The same for stage 2.", show_default="ETSAM's"),
    ] = None,
    sam2_config: Annotated[
        Optional[str],  # noqa: UP045
        Option(help=SAM2_CONFIG_HELP, show_default="hiera b+"),
    ] = None,
    checkpoints_dir: CheckpointsDir = None,
    mode0: Annotated[
        Mode0, Option(help="Bytes of MRC mode 0 are signed or unsigned; auto believes IMOD's stamp.")
    ] = SegmentOutputs.mode0,
    naming: NamingOption = Naming.CRYOSEG,
    device: Device = "auto",
    precision: PrecisionOption = Precision.AUTO,
    batch: BatchOptions = BatchOptions(),
    cluster: ClusterOptions = ClusterOptions(),
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    thin_noise: Annotated[
        bool, Option("--postprocess-remove-thin-noise", "--post-process-remove-thin-noise", hidden=True)
    ] = False,
    bridges: Annotated[
        bool,
        Option(
            "--postprocess-remove-parallel-membrane-misconnections",
            "--post-process-remove-parallel-membrane-misconnections",
            hidden=True,
        ),
    ] = False,
) -> None:
    """Segment membranes in tomograms.

    For example:

    cryoseg segment tomo.mrc --post-process --preview -o membranes

    cryoseg segment "tomograms/*.rec" --pixel-size 13.3 --store-logits -o membranes

    cryoseg segment tomo.mrc --model etsam --preset v2 --post-process
    """
    config = build_config(**{**locals(), **lengths.values()})
    known = model in set(ModelName)
    choice = ModelChoice(
        name=ModelName(model) if known else ModelName.AUTO,
        model_file=None if known else Path(model),
        stage1_checkpoint=stage1_checkpoint,
        stage2_checkpoint=stage2_checkpoint,
        sam2_config=sam2_config,
        checkpoints_dir=checkpoints_dir,
    )
    outputs = SegmentOutputs(
        store_logits=store_logits,
        preview=preview or contact_sheet,
        naming=naming,
        overwrite=overwrite,
        mode0=mode0,
    )

    def work(batch: Batch, console: BatchConsole) -> Report:
        from cryoseg.pipelines.segment.files import segment_files  # torch starts here

        return segment_files(
            inputs,
            output_dir,
            config,
            choice=choice,
            outputs=outputs,
            device=device,
            precision=precision,
            batch=batch,
            on_event=console,
        )

    run_command(
        "Membranes",
        work,
        options=batch,
        cluster=cluster,
        output_dir=output_dir,
        contact_sheet=contact_sheet,
        quiet=quiet,
        verbose=verbose,
    )
