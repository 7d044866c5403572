"""`cryoseg train`: train networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from cryoseg.cli.option_groups import Changes
from cryoseg.cli.options import Device, Mode0Option, Overwrite, RelionOptions, Verbosity
from cryoseg.cli.train.membrane import etsam_stage1, etsam_stage2, membrane
from cryoseg.cli.train.options import (
    ModelCard,
    RunDir,
    Tensorboard,
    labels_setting,
    read_model_card,
    report_end,
)
from cryoseg.cli.train.sam import encoder_prompt, finetune, head_prompt, prefix_prompt, promise, sam
from cryoseg.config import Mode0
from cryoseg.config.cet_pick import CetPickConfig, CetPickFiles, Specimen
from cryoseg.config.setting import setting
from cryoseg.config.train import validation_setting


def cet_pick(
    *,
    files: CetPickFiles,
    output_dir: RunDir = Path("cet_pick"),
    name: Annotated[str, setting(help="Name of the model file.")] = "cet_pick",
    changes: Changes[CetPickConfig],
    relion: RelionOptions,
    pictures: Annotated[bool, setting(help="Draw pictures of labels, heat map and picks.")] = True,
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
    report_end(model)


app = typer.Typer(
    no_args_is_help=True, help="Train models on your own data; every run can be stopped and resumed."
)

app.command("membrane")(membrane)
app.command("etsam-stage1")(etsam_stage1)
app.command("etsam-stage2")(etsam_stage2)
app.command("cet-pick")(cet_pick)
app.command("head-prompt")(head_prompt)
app.command("prefix-prompt")(prefix_prompt)
app.command("encoder-prompt")(encoder_prompt)
app.command("finetune")(finetune)
app.command("promise")(promise)
app.command("sam")(sam)


@app.command("package")
def package(
    *,
    stage1: Annotated[Path, setting(help="Folder of the stage-1 run.")],
    stage2: Annotated[Path, setting(help="Folder of the stage-2 run.")],
    validation: Annotated[tuple[str, ...], validation_setting(shown="required")],
    labels: Annotated[Path | None, labels_setting()] = None,
    output: Annotated[Path, setting(help="The model file, .safetensors.", flags=("--output", "-o"))],
    mode0: Mode0Option = Mode0.AUTO,
    model_card: ModelCard = None,
    verbosity: Verbosity,
) -> None:
    """Pack two stages that were trained alone into one model file for `cryoseg segment --model FILE`.

    For example: cryoseg train package --stage1 runs/1 --stage2 runs/2 --validation val -o mine.safetensors
    """
    from cryoseg.methods.membrane_tiny.train import package as write_package
    from cryoseg.methods.membrane_tiny.train import run_settings, write_logits_of_run
    from cryoseg.methods.membranes import TrainingPairs, find_pairs, logits_folder
    from cryoseg.methods.training.loop import BEST
    from cryoseg.methods.training.run import Runtime

    first, polarity = run_settings(stage1, 1)
    second, _ = run_settings(stage2, 2)
    first = replace(first, clip=second.clip)  # both stages of a packaged model have the same memory window
    data = TrainingPairs(
        training=[],
        held_out=find_pairs(validation, labels=labels, mode0=mode0),
        polarity=polarity,
        logits=logits_folder(stage2, stage1 / BEST, polarity),
    )
    with verbosity.console() as console:
        write_logits_of_run(first, stage1, data, Runtime(on_event=console))
        threshold, dice = write_package(
            (first, second), (stage1, stage2), data, output, card=read_model_card(model_card)
        )
        console.out.print(f"{output}: threshold {threshold:+.3f}, validation Dice {dice:.4f}", markup=False)
