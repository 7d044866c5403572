"""`cryoseg pick`: particles in micrographs and tomograms."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

from typer import Option

from cryoseg.cli.batch_options import BatchOptions, ClusterOptions, ContactSheet, run_command
from cryoseg.cli.options import Device, Inputs, OutputDir, Overwrite, PixelSize, Quiet, Verbose
from cryoseg.cli.pick_options import (
    FilamentOptions,
    LimitOptions,
    MicrographOptions,
    RelionOptions,
    TomogramOptions,
)
from cryoseg.config.pick import DEEP_FORMATS, FLAT_FORMATS, PickFormat
from cryoseg.config.pick_micrograph import MicrographPickOptions

if TYPE_CHECKING:
    from cryoseg.cli.console import BatchConsole
    from cryoseg.events import Report
    from cryoseg.pipelines.batches.run import Batch


def pick(
    inputs: Inputs,
    model: Annotated[
        str,
        Option(
            "--model",
            "-m",
            "--checkpoint",
            help="A particle model by name or file, trained on micrographs or on tomograms.",
        ),
    ] = "particle-mixed",
    output_dir: OutputDir = Path(),
    limits: LimitOptions = LimitOptions(),
    format_: Annotated[
        Optional[list[PickFormat]],  # noqa: UP045
        Option(
            "--format",
            "-f",
            help=f"Coordinate files to write; repeat for several. {', '.join(FLAT_FORMATS)} are for "
            f"micrographs; {', '.join(DEEP_FORMATS)} for tomograms.",
            show_default="star",
        ),
    ] = None,
    preview: Annotated[
        bool,
        Option(
            "--preview/--no-preview",
            "--save-overlay/--no-save-overlay",
            help="Write a picture with the picks.",
        ),
    ] = True,
    contact_sheet: ContactSheet = False,
    pixel_size: PixelSize = None,
    device: Device = "auto",
    micrographs: MicrographOptions = MicrographOptions(),
    tomograms: TomogramOptions = TomogramOptions(),
    filaments: FilamentOptions = FilamentOptions(),
    relion: RelionOptions = RelionOptions(),
    batch: BatchOptions = BatchOptions(),
    cluster: ClusterOptions = ClusterOptions(),
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Pick particles in micrographs or tomograms.

    Micrographs: cryoseg pick micrographs/ --particle-diameter 180 -o picks -f star -f box

    Tomograms: cryoseg pick tomograms/ --model runs/ribosomes/cet_pick.safetensors -o picks -f star -f mod
    """
    from cryoseg.pipelines.pick.route import Task, refuse_options, task_of  # torch starts here, not at --help

    formats = tuple(dict.fromkeys(format_ or [PickFormat.STAR]))
    task = task_of(model)
    if task is Task.MICROGRAPHS:
        refuse_options({**tomograms.given(), **filaments.given(), **relion.given()}, model, task)
        config = micrographs.config(limits, pixel_size)
        written = MicrographPickOptions(
            formats=formats,
            mask=micrographs.store_mask,
            logits=micrographs.store_logits,
            overlay=preview or contact_sheet,
            overwrite=overwrite,
        )

        def work(batch: Batch, console: BatchConsole) -> Report:
            from cryoseg.pipelines.pick.micrograph_files import pick_micrograph_files

            return pick_micrograph_files(
                inputs,
                output_dir,
                model,
                config,
                outputs=written,
                device=device,
                batch=batch,
                on_event=console,
            )
    else:
        flat = {f"--format {flavor}": flavor in FLAT_FORMATS for flavor in formats}
        refuse_options({**micrographs.given(), **flat}, model, task)
        settings, frames = tomograms.config(limits, filaments), relion.frames()

        def work(batch: Batch, console: BatchConsole) -> Report:
            from cryoseg.pipelines.pick.tomogram_files import PickOutputs, pick_files

            return pick_files(
                inputs,
                output_dir,
                Path(model),
                settings,
                outputs=PickOutputs(
                    formats=formats,
                    heat_map=tomograms.heat_map,
                    preview=preview or contact_sheet,
                    overwrite=overwrite,
                ),
                relion=frames,
                mask=tomograms.mask,
                pixel_size=pixel_size,
                device=device,
                batch=batch,
                on_event=console,
            )

    run_command(
        "Particles",
        work,
        options=batch,
        cluster=cluster,
        output_dir=output_dir,
        contact_sheet=contact_sheet,
        quiet=quiet,
        verbose=verbose,
    )
