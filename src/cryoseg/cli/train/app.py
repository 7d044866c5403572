"""`cryoseg train`: networks from your own data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Optional

import typer
from typer import Option

from cryoseg.cli.console import batch_console
from cryoseg.cli.options import VALIDATION_HELP, Card, Device, Mode0Option, Quiet, Seed, Verbose
from cryoseg.cli.train.cet_pick import cet_pick
from cryoseg.cli.train.etsam import etsam_stage1, etsam_stage2
from cryoseg.cli.train.options import (
    Batch,
    ClipLength,
    CropSize,
    Data,
    LearningRate,
    MaxMinutes,
    PolarityOption,
    RunDir,
    Start,
    Steps,
    Tensorboard,
    ValidateEvery,
    Validation,
    membrane_config,
    read_card,
    say_unfinished,
)
from cryoseg.cli.train.promise import promise
from cryoseg.cli.train.sam import encoder_prompt, finetune, head_prompt, prefix_prompt, sam
from cryoseg.config import Mode0
from cryoseg.config.segment import Polarity
from cryoseg.config.train import ClipConfig, LoopConfig

app = typer.Typer(
    no_args_is_help=True, help="Train models on your own data; every run can be stopped and resumed."
)


@app.command("membrane")
def membrane(
    data: Data,
    output_dir: RunDir,
    validation: Validation = None,
    start: Start = None,
    steps: Steps = LoopConfig.steps,
    stage2_steps: Annotated[
        Optional[int],  # noqa: UP045
        Option(min=1, help="Steps of the second stage.", show_default="half of --steps"),
    ] = None,
    learning_rate: LearningRate = LoopConfig.learning_rate,
    batch: Batch = ClipConfig.batch,
    clip_length: ClipLength = ClipConfig.length,
    crop_size: CropSize = ClipConfig.size,
    validate_every: ValidateEvery = LoopConfig.validate_every,
    max_minutes: MaxMinutes = None,
    polarity: PolarityOption = Polarity.DARK,
    mode0: Mode0Option = Mode0.AUTO,
    card: Card = None,
    device: Device = "auto",
    tensorboard: Tensorboard = False,
    seed: Seed = 0,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train both stages and write one model file for `cryoseg segment --model FILE`.

    Example: cryoseg train membrane my_pairs -o runs/mine --start membrane-tiny --steps 300
    """
    from cryoseg.methods.device import select_device
    from cryoseg.methods.membrane_tiny.train import train_membrane
    from cryoseg.methods.membranes.data import split_pairs
    from cryoseg.methods.membranes.training import TrainingPairs
    from cryoseg.methods.training.run import Runtime

    configs = tuple(
        membrane_config(
            stage,
            steps=count,
            learning_rate=learning_rate if stage == 1 else learning_rate / 2,
            batch=batch,
            clip_length=clip_length,
            crop_size=crop_size,
            validate_every=validate_every,
            max_minutes=max_minutes,
            seed=seed,
        )
        for stage, count in ((1, steps), (2, stage2_steps or max(1, steps // 2)))
    )
    with batch_console(quiet=quiet, verbose=verbose) as console:
        training, held_out = split_pairs(data, validation or [], seed=seed, mode0=mode0)
        model = train_membrane(
            (configs[0], configs[1]),
            TrainingPairs(training=training, held_out=held_out, polarity=polarity),
            output_dir,
            start=start,
            card=read_card(card),
            runtime=Runtime(device=select_device(device), tensorboard=tensorboard, on_event=console),
        )
    if model is None:
        say_unfinished(console)


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
    stage1: Annotated[Path, Option("--stage1", help="Folder of the stage-1 run.")],
    stage2: Annotated[Path, Option("--stage2", help="Folder of the stage-2 run.")],
    validation: Annotated[list[str], Option("--validation", help=VALIDATION_HELP)],
    output: Annotated[Path, Option("--output", "-o", help="The model file, .safetensors.")],
    mode0: Mode0Option = Mode0.AUTO,
    card: Card = None,
) -> None:
    """Pack two trained stages into one model file for `cryoseg segment --model FILE`.

    For example: cryoseg train package --stage1 runs/1 --stage2 runs/2 --validation val -o mine.safetensors
    """
    from cryoseg.methods.membrane_tiny.runs import package as write_package
    from cryoseg.methods.membrane_tiny.runs import run_settings, write_logits_of_run
    from cryoseg.methods.membranes.data import find_pairs, logits_folder
    from cryoseg.methods.membranes.training import TrainingPairs
    from cryoseg.methods.training.loop import BEST
    from cryoseg.methods.training.run import Runtime

    first, polarity = run_settings(stage1, 1)
    second, _ = run_settings(stage2, 2)
    first = replace(first, clip=second.clip)  # both stages of a packaged model have one memory window
    data = TrainingPairs(
        training=[],
        held_out=find_pairs(validation, mode0=mode0),
        polarity=polarity,
        logits=logits_folder(stage2, stage1 / BEST, polarity),
    )
    with batch_console() as console:
        write_logits_of_run(first, stage1, data, Runtime(on_event=console))
        threshold, dice = write_package((first, second), (stage1, stage2), data, output, card=read_card(card))
        console.out.print(f"{output}: threshold {threshold:+.3f}, validation Dice {dice:.4f}", markup=False)
