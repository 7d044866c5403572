"""`cryoseg pick`: pick particles in micrographs and tomograms."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from cryoseg.cli.batch_options import SheetBatchOptions, run_command
from cryoseg.cli.option_groups import Changes
from cryoseg.cli.options import Device, Inputs, OutputDir, RelionOptions, Verbosity
from cryoseg.config.batch import ClusterChoice
from cryoseg.config.common import pixel_size_setting
from cryoseg.config.pick import FLAT_FORMATS, FilamentConfig, PickOutputs, TomogramPickConfig, mask_setting
from cryoseg.config.pick_membrane import MembranePickConfig
from cryoseg.config.pick_micrograph import MicrographPickConfig, MicrographPickOptions
from cryoseg.config.setting import Settings, setting
from cryoseg.errors import ConfigError

if TYPE_CHECKING:
    from cryoseg.cli.console import BatchConsole
    from cryoseg.events import Report
    from cryoseg.pipelines.batches.run import Batch

DEFAULT_MODEL = "particle-mixed"
# Options for membranes beside those of their settings and of coordinate files, and those of no use there.
_ALSO_ON_MEMBRANES = {"--logit-threshold", "--pixel-size"}
_NOT_ON_MEMBRANES = {"--heat-map", "--output-format"}


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
    ] = DEFAULT_MODEL,
    output_dir: OutputDir = Path(),
    micrographs: Changes[MicrographPickConfig],
    micrograph_outputs: Changes[MicrographPickOptions],
    tomograms: Changes[TomogramPickConfig],
    tomogram_outputs: Changes[PickOutputs],
    files: Changes[TomogramFiles],
    on_membrane: Annotated[
        bool,
        setting(
            help="Place oriented points on the membranes of the inputs, which are masks, logits or labels, "
            "without a model."
        ),
    ] = False,
    membranes: Changes[MembranePickConfig],
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
    """Pick particles in micrographs or tomograms, or place points on membranes.

    Micrographs: cryoseg pick micrographs/ --particle-diameter 180 -o picks -f star -f box

    Tomograms: cryoseg pick tomograms/ --model runs/ribosomes/cet_pick.safetensors -o picks -f star -f mod

    Membranes: cryoseg pick --on-membrane masks/ --spacing 100A -o picks -f star -f dynamo
    """
    flat = {**micrographs.differing(), **micrograph_outputs.differing()}
    deep = {**tomograms.differing(), **tomogram_outputs.differing(), **files.differing()}
    curves = {"--filaments": fit_curves, **filament.differing()}
    formats = {f"--format {flavor}": flavor in FLAT_FORMATS for flavor in tomogram_outputs.over().formats}
    if on_membrane:
        given = {"--model": model != DEFAULT_MODEL, "--gpus": options.gpus is not None, **flat, **deep}
        used = {*membranes.differing(), *tomogram_outputs.differing(), *_ALSO_ON_MEMBRANES}
        _refuse(given | curves | formats, used - _NOT_ON_MEMBRANES, "has no effect with --on-membrane")
    else:
        _refuse(membranes.differing(), {*deep}, "has no effect without --on-membrane")
        from cryoseg.pipelines.pick.route import Task, refuse_options, task_of  # torch starts here

        task = task_of(model)
    if on_membrane:
        points = replace(membranes.over(), logit_threshold=micrographs.value("logit_threshold"))
        coordinates = tomogram_outputs.over()

        def work(batch: Batch, console: BatchConsole) -> Report:
            from cryoseg.pipelines.pick.membrane_files import MembranePickRequest, pick_on_membranes

            request = MembranePickRequest(
                config=points,
                outputs=replace(coordinates, preview=coordinates.preview or options.contact_sheet),
                relion=relion.over().frames(),
                pixel_size=files.over().pixel_size,
            )
            return pick_on_membranes(inputs, output_dir, request, batch=batch, on_event=console)
    elif task is Task.MICROGRAPHS:
        refuse_options(
            {name: given for name, given in deep.items() if name not in flat} | curves | relion.differing(),
            model,
            task,
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
        refuse_options(
            {name: given for name, given in flat.items() if name not in deep} | formats, model, task
        )
        settings = replace(tomograms.over(), filament=filament.over() if any(curves.values()) else None)
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
        "Points on membranes" if on_membrane else "Particles",
        work,
        options=options,
        cluster=cluster,
        output_dir=output_dir,
        verbosity=verbosity,
    )


def _refuse(given: Mapping[str, bool], used: Collection[str], why: str) -> None:
    """Refuse the options that were given and are not used."""
    for option, is_given in given.items():
        if is_given and option not in used:
            raise ConfigError(f"{option}: {why}. Leave it out.")
