"""`cryoseg train cet-pick`: train a particle detector on a few labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cryoseg.cli.option_groups import Changes
from cryoseg.cli.options import Device, Overwrite, Verbosity
from cryoseg.cli.relion_options import RelionOptions
from cryoseg.cli.train.options import RunDir, Tensorboard, say_unfinished
from cryoseg.config.cet_pick import CetPickConfig, CetPickFiles, Specimen
from cryoseg.config.setting import setting


def cet_pick(
    *,
    files: CetPickFiles,
    output_dir: RunDir = Path("cet_pick"),
    name: Annotated[str, setting(help="Name of the model file.")] = "cet_pick",
    changes: Changes[CetPickConfig],
    relion: RelionOptions,
    pictures: Annotated[bool, setting(help="Draw labels, heat map and picks.")] = True,
    tensorboard: Tensorboard = False,
    device: Device = "auto",
    overwrite: Overwrite = False,
    verbosity: Verbosity,
) -> None:
    """Train a particle detector from 20 to 200 labels (CET-pick), for `cryoseg pick`.

    Example: cryoseg train cet-pick -t ts_01.mrc -p ts_01.star --particle-diameter 250 -o runs/ribosomes
    """
    from cryoseg.methods.device import select_device  # torch starts here
    from cryoseg.methods.training.run import Runtime
    from cryoseg.pipelines.train_cet_pick import DetectorOutput, TrainingFiles, train_files

    preset = CetPickConfig.preset(
        changes.value("specimen", default=Specimen.GLOBULAR), changes.value("particle_diameter_angstrom")
    )
    with verbosity.console() as console:
        model = train_files(
            TrainingFiles(**vars(files), relion=relion.frames()),
            changes.over(preset),
            DetectorOutput(folder=output_dir, name=name, pictures=pictures, overwrite=overwrite),
            runtime=Runtime(device=select_device(device), tensorboard=tensorboard, on_event=console),
        )
    if model is None:
        say_unfinished()
