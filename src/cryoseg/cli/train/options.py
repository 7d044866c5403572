"""Options that the training commands share, and the settings they make."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from typer import Argument, Option

from cryoseg.cli.config_file import write_options
from cryoseg.cli.console import BatchConsole
from cryoseg.cli.options import (
    BATCH_HELP,
    CLIP_LENGTH_HELP,
    LEARNING_RATE_HELP,
    POLARITY_HELP,
    STEPS_HELP,
    VALIDATE_EVERY_HELP,
    VALIDATION_HELP,
)
from cryoseg.config.segment import Polarity
from cryoseg.config.train import ClipConfig, LoopConfig, TrainMembraneConfig
from cryoseg.errors import ConfigError, CryosegError

COMMAND_FILE = "command.toml"  # in the folder of a run

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
    Option("--validation", help=VALIDATION_HELP, show_default="a tenth of the data"),
]


def _remember(context: typer.Context, folder: Path) -> Path:
    """Leave the command's options in the folder of its run, however the run ends."""

    def save() -> None:
        kept = folder / COMMAND_FILE
        refused = isinstance(sys.exception(), CryosegError) and kept.exists()
        if folder.is_dir() and not refused:  # without a folder nothing was begun
            write_options(kept, context)

    context.call_on_close(save)
    return folder


def say_unfinished(console: BatchConsole) -> None:
    """The sentence after a training that its time limit ended."""
    console.err.print("Stopped at --max-minutes; the same command goes on.", markup=False)


def read_card(text: str | None) -> dict[str, Any] | None:
    """What `--card` says.

    Raises
    ------
    ConfigError
        If it is no JSON object.
    """
    if not text:
        return None
    try:
        card = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"--card: is no JSON ({error}).") from error
    if not isinstance(card, dict):
        raise ConfigError('--card: give a JSON object, such as {"licence": "CC0"}.')
    return card


RunDir = Annotated[
    Path,
    Option(
        "--output-dir",
        "-o",
        callback=_remember,
        help="Folder of the run; the same folder goes on with it. Its command.toml repeats the run.",
    ),
]
Start = Annotated[
    Optional[Path],  # noqa: UP045
    Option("--start", help="Begin with the weights of a model file or of a run's best.pt, not from nothing."),
]
Steps = Annotated[int, Option(min=1, help=STEPS_HELP)]
LearningRate = Annotated[float, Option(help=LEARNING_RATE_HELP)]
Batch = Annotated[int, Option(min=1, help=BATCH_HELP)]
ClipLength = Annotated[int, Option(min=1, help=CLIP_LENGTH_HELP)]
CropSize = Annotated[int, Option(help="Side of the square crops, pixels; a multiple of 32.")]
ValidateEvery = Annotated[int, Option(min=1, help=VALIDATE_EVERY_HELP)]
MaxMinutes = Annotated[
    Optional[float],  # noqa: UP045
    Option(help="Stop after this many minutes; the same command goes on later.", show_default="no limit"),
]
PolarityOption = Annotated[Polarity, Option(help=POLARITY_HELP)]
Devices = Annotated[
    int,
    Option(
        "--devices",
        min=1,
        help="Processes that share the work, one per GPU (on a CPU: any number). Needs the extra `train`.",
    ),
]
Tensorboard = Annotated[
    bool,
    Option("--tensorboard", help="Write TensorBoard files into the run's folder. Needs the extra `train`."),
]


def membrane_config(
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
    """Settings of one stage of the bundled model's recipe."""
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
