"""`cryoseg segment-image`: masks of ordinary color pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

from typer import Exit, Option

from cryoseg.cli.options import (
    LOGIT_THRESHOLD_HELP,
    PREPARE_HELP,
    CheckpointsDir,
    Device,
    DryRun,
    Inputs,
    OutputDir,
    Overwrite,
    Verbosity,
)
from cryoseg.config.pictures import Smoothing


def segment_image(
    inputs: Inputs,
    *,
    model: Annotated[
        str, Option("--model", "-m", "--checkpoint", help="A model that `cryoseg train promise` wrote.")
    ],
    output_dir: OutputDir = Path(),
    base: Annotated[
        Optional[Path],  # noqa: UP045
        Option("--base", help="The SAM it was trained on.", show_default="by name, or beside the model"),
    ] = None,
    logit_threshold: Annotated[
        Optional[float],  # noqa: UP045
        Option("--logit-threshold", help=LOGIT_THRESHOLD_HELP, show_default="the model's"),
    ] = None,
    smoothing: Smoothing,
    prepare: Annotated[
        Optional[bool],  # noqa: UP045
        Option(
            "--prepare/--no-prepare",
            help=PREPARE_HELP,
            show_default="as the model was trained",
        ),
    ] = None,
    overlay: Annotated[
        bool, Option("--overlay", "--preview", help="Write the picture with its mask too.")
    ] = False,
    checkpoints_dir: CheckpointsDir = None,
    device: Device = "auto",
    plan_only: DryRun,
    overwrite: Overwrite = False,
    verbosity: Verbosity,
) -> None:
    """Mark what a model was trained to find in ordinary pictures: PNG, JPEG, BMP or TIFF.

    Example: cryoseg segment-image photos/ --model runs/pictures/promise.safetensors -o masks --overlay
    """
    with verbosity.console() as console:
        from cryoseg.methods.device import select_device
        from cryoseg.methods.particles.model import load_particle_model
        from cryoseg.pipelines.batches.run import Batch
        from cryoseg.pipelines.segment.image import ImageSettings, segment_images

        report = segment_images(
            inputs,
            output_dir,
            load_particle_model(model, select_device(device), base=base, checkpoints_dir=checkpoints_dir),
            ImageSettings(
                smoothing=smoothing, logit_threshold=logit_threshold, crop_black=prepare, overlay=overlay
            ),
            batch=Batch(is_dry=plan_only.dry_run),
            overwrite=overwrite,
            on_event=console,
        )
    console.summary("Pictures", report.rows)
    raise Exit(report.exit_status)
