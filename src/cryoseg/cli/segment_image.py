"""`cryoseg segment-image`: masks of ordinary color pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Exit

from cryoseg.cli.options import CheckpointsDir, Device, DryRun, Inputs, OutputDir, Overwrite, Verbosity
from cryoseg.config.pictures import ImageSettings
from cryoseg.config.setting import setting


def segment_image(
    inputs: Inputs,
    *,
    model: Annotated[
        str,
        setting(help="A model that `cryoseg train promise` wrote.", flags=("--model", "-m", "--checkpoint")),
    ],
    output_dir: OutputDir = Path(),
    base: Annotated[
        Path | None, setting(help="The SAM it was trained on.", shown="by name, or beside the model")
    ] = None,
    settings: ImageSettings,
    checkpoints_dir: CheckpointsDir = None,
    device: Device = "auto",
    dry_run: DryRun = False,
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
        from cryoseg.pipelines.segment.image import segment_images

        report = segment_images(
            inputs,
            output_dir,
            load_particle_model(model, select_device(device), base=base, checkpoints_dir=checkpoints_dir),
            settings,
            batch=Batch(is_dry=dry_run, overwrite=overwrite),
            on_event=console,
        )
    console.summary("Pictures", report.rows)
    raise Exit(report.exit_status)
