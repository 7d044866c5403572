"""`cryoseg pick`: pick particles in micrographs and tomograms."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from cryoseg.cli.batch_options import SheetBatchOptions, run_command
from cryoseg.cli.option_groups import Changes
from cryoseg.cli.options import Device, Inputs, OutputDir, RelionOptions, Verbosity
from cryoseg.config.batch import ClusterChoice
from cryoseg.config.common import pixel_size_setting
from cryoseg.config.pick import FLAT_FORMATS, FilamentConfig, PickOutputs, TomogramPickConfig, mask_setting
from cryoseg.config.pick_micrograph import MicrographPickConfig, MicrographPickOptions
from cryoseg.config.setting import Settings, setting

if TYPE_CHECKING:
    from cryoseg.cli.console import BatchConsole
    from cryoseg.events import Report
    from cryoseg.pipelines.batches.run import Batch


@dataclass(frozen=True, kw_only=True)
class TomogramFiles(Settings):
    """Masks and pixel size of the tomograms."""

    panel: ClassVar[str] = "Tomograms"

    mask: Path | None = mask_setting()
    pixel_size: float | None = pixel_size_setting()


def pick(
    inputs: Inputs,
    *,
    model: Annotated[
        str,
        setting(
            help="A particle model by name or file, trained on micrographs or on tomograms.",
            flags=("--model", "-m", "--checkpoint"),
        ),
    ] = "particle-mixed",
    output_dir: OutputDir = Path(),
    micrographs: Changes[MicrographPickConfig],
    micrograph_outputs: Changes[MicrographPickOptions],
    tomograms: Changes[TomogramPickConfig],
    tomogram_outputs: Changes[PickOutputs],
    files: Changes[TomogramFiles],
    fit_curves: Annotated[
        bool,
        setting(help="Fit curves and resample them; models of filaments always do.", flags=("--filaments",)),
    ] = False,
    filament: Changes[FilamentConfig],
    relion: Changes[RelionOptions],
    device: Device = "auto",
    options: SheetBatchOptions,
    cluster: ClusterChoice,
    verbosity: Verbosity,
) -> None:
    """Pick particles in micrographs or tomograms.

    Micrographs: cryoseg pick micrographs/ --particle-diameter 180 -o picks -f star -f box

    Tomograms: cryoseg pick tomograms/ --model runs/ribosomes/cet_pick.safetensors -o picks -f star -f mod
    """
    from cryoseg.pipelines.pick.route import Task, refuse_options, task_of  # torch starts here, not at --help

    task = task_of(model)
    flat = {**micrographs.differing(), **micrograph_outputs.differing()}
    deep = {**tomograms.differing(), **tomogram_outputs.differing(), **files.differing()}
    if task is Task.MICROGRAPHS:
        others = {"--filaments": fit_curves, **filament.differing(), **relion.differing()}
        refuse_options(
            {name: given for name, given in deep.items() if name not in flat} | others, model, task
        )
        config, written = micrographs.over(), micrograph_outputs.over()
        written = replace(written, overlay=written.overlay or options.contact_sheet)

        def work(batch: Batch, console: BatchConsole) -> Report:
            from cryoseg.pipelines.pick.micrograph_files import MicrographPickRequest, pick_micrograph_files

            request = MicrographPickRequest(model=model, config=config, outputs=written)
            return pick_micrograph_files(
                inputs, output_dir, request, batch=replace(batch, device=device), on_event=console
            )
    else:
        outputs, read = tomogram_outputs.over(), files.over()
        formats = {f"--format {flavor}": flavor in FLAT_FORMATS for flavor in outputs.formats}
        refuse_options(
            {name: given for name, given in flat.items() if name not in deep} | formats, model, task
        )
        curves = fit_curves or any(filament.differing().values())
        settings = replace(tomograms.over(), filament=filament.over() if curves else None)
        frames = relion.over().frames()

        def work(batch: Batch, console: BatchConsole) -> Report:
            from cryoseg.pipelines.pick.tomogram_files import TomogramPickRequest, pick_files

            request = TomogramPickRequest(
                model=Path(model),
                config=settings,
                outputs=replace(outputs, preview=outputs.preview or options.contact_sheet),
                relion=frames,
                mask=read.mask,
                pixel_size=read.pixel_size,
            )
            return pick_files(
                inputs, output_dir, request, batch=replace(batch, device=device), on_event=console
            )

    run_command(
        "Particles", work, options=options, cluster=cluster, output_dir=output_dir, verbosity=verbosity
    )
