"""`cryoseg train`: networks from your own data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Optional

import typer
from typer import Argument, Option

from cryoseg.cli.console import batch_console
from cryoseg.cli.options import Quiet, Seed, Verbose
from cryoseg.cli.train_cet_pick import cet_pick
from cryoseg.config.segment import Polarity
from cryoseg.config.train import ClipConfig, LoopConfig, TrainMembraneConfig

app = typer.Typer(
    no_args_is_help=True, help="Train models on your own data; every run can be stopped and resumed."
)

Data = Annotated[
    list[str],
    Argument(
        help="Folders of pairs (X_tomogram.mrc with X_labels.mrc, or tomograms/ and labels/) or CSV lists "
        "with the columns tomogram,mask. Labels: 1 membrane, 0 none, -1 unknown.",
        show_default=False,
    ),
]
Validation = Annotated[
    Optional[list[str]],  # noqa: UP045
    Option("--validation", help="Pairs that are judged, not trained on.", show_default="a tenth of the data"),
]
RunDir = Annotated[
    Path, Option("--output-dir", "-o", help="Folder of the run; the same folder goes on with it.")
]
Start = Annotated[
    Optional[Path],  # noqa: UP045
    Option("--start", help="Begin with the weights of a model file or of a run's best.pt, not from nothing."),
]
Steps = Annotated[int, Option(min=1, help="Optimizer steps.")]
LearningRate = Annotated[float, Option(help="Peak learning rate.")]
Batch = Annotated[int, Option(min=1, help="Clips per step.")]
ClipLength = Annotated[int, Option(min=1, help="Consecutive slices per clip.")]
CropSize = Annotated[int, Option(help="Side of the square crops, pixels; a multiple of 32.")]
ValidateEvery = Annotated[int, Option(min=1, help="Steps between validations.")]
MaxMinutes = Annotated[
    Optional[float],  # noqa: UP045
    Option(help="Stop after this many minutes; the same command goes on later.", show_default="no limit"),
]
PolarityOption = Annotated[Polarity, Option(help="Membranes are dark or bright, where the data do not say.")]


def _config(
    stage: int,
    *,
    steps: int,
    learning_rate: float,
    batch: int,
    clip_length: int,
    crop_size: int,
    validate_every: int,
    max_minutes: float | None,
    seed: int,
) -> TrainMembraneConfig:
    return TrainMembraneConfig(
        stage=stage,
        loop=LoopConfig(
            steps=steps,
            learning_rate=learning_rate,
            validate_every=validate_every,
            max_minutes=max_minutes,
            warmup_steps=min(LoopConfig.warmup_steps, steps // 10),
            seed=seed,
        ),
        clip=ClipConfig(length=clip_length, size=crop_size, batch=batch),
    )


@app.command("etsam-stage1")
def etsam_stage1(
    data: Data,
    output_dir: RunDir,
    validation: Validation = None,
    start: Start = None,
    steps: Steps = LoopConfig.steps,
    learning_rate: LearningRate = LoopConfig.learning_rate,
    batch: Batch = ClipConfig.batch,
    clip_length: ClipLength = ClipConfig.length,
    crop_size: CropSize = ClipConfig.size,
    validate_every: ValidateEvery = LoopConfig.validate_every,
    max_minutes: MaxMinutes = None,
    polarity: PolarityOption = Polarity.DARK,
    seed: Seed = 0,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train the first stage: tomogram in, logits out.

    Example: cryoseg train etsam-stage1 simulated/train --validation simulated/val -o runs/stage1
    """
    from cryoseg.pipelines.train_membrane import load_start, split_pairs, train_stage

    config = _config(
        1,
        steps=steps,
        learning_rate=learning_rate,
        batch=batch,
        clip_length=clip_length,
        crop_size=crop_size,
        validate_every=validate_every,
        max_minutes=max_minutes,
        seed=seed,
    )
    with batch_console(quiet=quiet, verbose=verbose) as console:
        training, held_out = split_pairs(data, validation or [], seed=seed)
        weights = load_start(start, 1) if start is not None else None
        train_stage(
            config, training, held_out, output_dir, start=weights, polarity=polarity, on_event=console
        )


@app.command("etsam-stage2")
def etsam_stage2(
    data: Data,
    output_dir: RunDir,
    stage1: Annotated[
        Path, Option("--stage1", help="Folder of the stage-1 run whose logits stage 2 learns from.")
    ],
    validation: Validation = None,
    start: Start = None,
    steps: Steps = LoopConfig.steps,
    learning_rate: LearningRate = LoopConfig.learning_rate,
    batch: Batch = ClipConfig.batch,
    clip_length: ClipLength = ClipConfig.length,
    crop_size: CropSize = ClipConfig.size,
    validate_every: ValidateEvery = LoopConfig.validate_every,
    max_minutes: MaxMinutes = None,
    polarity: PolarityOption = Polarity.DARK,
    seed: Seed = 0,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train the second stage: tomogram and stage-1 logits in, better logits out.

    The logits of stage 1 are computed for all volumes first and kept in the run's folder.

    Example: cryoseg train etsam-stage2 simulated/train --stage1 runs/stage1 -o runs/stage2
    """
    from cryoseg.pipelines.train_membrane import load_start, split_pairs, train_stage, write_stage1_logits
    from cryoseg.training.loop import BEST

    config = _config(
        2,
        steps=steps,
        learning_rate=learning_rate,
        batch=batch,
        clip_length=clip_length,
        crop_size=crop_size,
        validate_every=validate_every,
        max_minutes=max_minutes,
        seed=seed,
    )
    first = TrainMembraneConfig(stage=1, clip=config.clip)
    logits = output_dir / "stage1_logits"
    with batch_console(quiet=quiet, verbose=verbose) as console:
        training, held_out = split_pairs(data, validation or [], seed=seed)
        write_stage1_logits(
            first, stage1, [*training, *held_out], logits, polarity=polarity, on_event=console
        )
        weights = load_start(start, 2) if start is not None else load_start(stage1 / BEST, 1)
        train_stage(
            config,
            training,
            held_out,
            output_dir,
            start=weights,
            polarity=polarity,
            logits=logits,
            on_event=console,
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
    card: Annotated[
        Optional[str],  # noqa: UP045
        Option(help='JSON object to add to the model\'s card, such as \'{"data": "..."}\'.'),
    ] = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train both stages and write one model file for `cryoseg segment --model FILE`.

    Example: cryoseg train membrane my_pairs -o runs/mine --start membrane-tiny.safetensors --steps 300
    """
    from cryoseg.pipelines.train_membrane import train_membrane

    configs = tuple(
        _config(
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
        model = train_membrane(
            (configs[0], configs[1]),
            data,
            validation or [],
            output_dir,
            start=start,
            polarity=polarity,
            card=json.loads(card) if card else None,
            on_event=console,
        )
    if model is None:
        console.err.print("Stopped at --max-minutes; the same command goes on.", markup=False)


app.command("cet-pick")(cet_pick)


@app.command("package")
def package(
    stage1: Annotated[Path, Option("--stage1", help="Folder of the stage-1 run.")],
    stage2: Annotated[Path, Option("--stage2", help="Folder of the stage-2 run.")],
    validation: Annotated[
        list[str], Option("--validation", help="Pairs that choose the threshold; not trained on.")
    ],
    output: Annotated[Path, Option("--output", "-o", help="The model file, .safetensors.")],
    clip_length: ClipLength = ClipConfig.length,
    polarity: PolarityOption = Polarity.DARK,
    card: Annotated[
        Optional[str],  # noqa: UP045
        Option(help="JSON object to add to the model's card."),
    ] = None,
) -> None:
    """Pack two trained stages into one model file for `cryoseg segment --model FILE`.

    For example: cryoseg train package --stage1 runs/1 --stage2 runs/2 --validation val -o mine.safetensors
    """
    from cryoseg.pipelines.train_membrane import package as write_package
    from cryoseg.pipelines.train_membrane import write_stage1_logits
    from cryoseg.pipelines.training_data import find_pairs

    first, second = (
        TrainMembraneConfig(stage=stage, clip=ClipConfig(length=clip_length)) for stage in (1, 2)
    )
    held_out, logits = find_pairs(validation), stage2 / "stage1_logits"
    with batch_console() as console:
        write_stage1_logits(first, stage1, held_out, logits, polarity=polarity, on_event=console)
        threshold, dice = write_package(
            (first, second),
            (stage1, stage2),
            held_out,
            logits,
            output,
            polarity=polarity,
            card=json.loads(card) if card else None,
        )
        console.out.print(f"{output}: threshold {threshold:+.3f}, validation Dice {dice:.4f}", markup=False)
