"""Options of several training commands."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from cryoseg.cli.config_file import write_options
from cryoseg.cli.options import Verbosity
from cryoseg.config.common import Mode0, device_setting, mode0_setting
from cryoseg.config.segment import Polarity, polarity_setting
from cryoseg.config.setting import Settings, setting
from cryoseg.config.train import validation_setting
from cryoseg.errors import ConfigError, CryosegError

if TYPE_CHECKING:
    from cryoseg.methods.membranes import Pair
    from cryoseg.methods.particles.trained import ModelOutput
    from cryoseg.methods.training.run import Runtime


COMMAND_FILE = "command.toml"  # in the folder of a run

Data = Annotated[
    list[str],
    Argument(
        help="Folders of pairs (X_tomogram.mrc with X_labels.mrc, or tomograms/ and labels/), CSV lists "
        "with the columns tomogram,mask, or RELION's tomograms.star with --labels. Labels: 1 membrane, "
        "0 none, -1 unknown.",
        show_default=False,
    ),
]

labels_setting = partial(
    setting,
    None,
    help="Folder of the labels of tomograms in STAR lists, named after tomogram or tilt series.",
)

tensorboard_setting = partial(
    setting, False, help="Write TensorBoard files into the folder of the run. It needs the extra `train`."
)


def _remember(context: typer.Context, folder: Path) -> Path:
    """Write the options of a command to the folder of its run when the run ends."""

    def save() -> None:
        kept = folder / COMMAND_FILE
        refused = isinstance(sys.exception(), CryosegError) and kept.exists()
        if folder.is_dir() and not refused:  # without a folder, the run did not start
            write_options(kept, context)

    context.call_on_close(save)
    return folder


def report_end(trained: object | None) -> None:
    """Report that the time limit ended a training, if there is no result."""
    if trained is None:
        typer.echo("Stopped at --max-minutes. Run the same command again to continue.", err=True)


model_card_setting = partial(
    setting,
    None,
    help='JSON object to add to the model card, such as \'{"data": "..."}\'.',
    flags=("--model-card", "--card"),
    shown="none",
)


def read_model_card(text: str | None) -> dict[str, Any] | None:
    """Read the entries of `--model-card` for the model card."""
    if not text:
        return None
    try:
        entries = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"--model-card: is not JSON ({error}).") from error
    if not isinstance(entries, dict):
        raise ConfigError('--model-card: give a JSON object, such as {"licence": "CC0"}.')
    return entries


RunDir = Annotated[
    Path,
    Option(
        "--output-dir",
        "-o",
        callback=_remember,
        help="Folder of the run. The same command continues the run, and its command.toml repeats it.",
    ),
]
PolarityOption = Annotated[Polarity, polarity_setting(None)]
ModelCard = Annotated[str | None, model_card_setting()]
Tensorboard = Annotated[bool, tensorboard_setting()]


@dataclass(frozen=True, kw_only=True)
class PairTraining(Settings):
    """Validation data, initial weights and devices of a training on tomograms with labels."""

    validation: tuple[str, ...] = validation_setting(shown="a tenth of the data")
    labels: Path | None = labels_setting()
    start: Path | None = setting(
        None, help="Begin with the weights of a model file or of a run's best.pt, not at random."
    )
    mode0: Mode0 = mode0_setting()
    device: str = device_setting()
    devices: int = setting(
        1,
        help="Number of processes that share the work, one per GPU, or any number on a CPU. More than "
        "one needs the extra `train`.",
        at_least=1,
    )
    tensorboard: bool = tensorboard_setting()

    def pairs(self, data: Sequence[str], *, seed: int) -> tuple[list[Pair], list[Pair]]:
        """Return training and validation pairs."""
        from cryoseg.methods.membranes import split_pairs

        return split_pairs(data, self.validation, seed=seed, labels=self.labels, mode0=self.mode0)

    @contextmanager
    def runtime(self, verbosity: Verbosity) -> Iterator[Runtime]:
        """Start the processes of the training, of which only the first one prints."""
        from cryoseg.methods.device import select_device
        from cryoseg.methods.training.ahead import workers_for
        from cryoseg.methods.training.processes import launch
        from cryoseg.methods.training.run import Runtime

        device = select_device(self.device)
        processes = launch(self.devices, device)
        if processes.fabric is not None:
            device = processes.fabric.device
        quiet = verbosity.quiet or not processes.first
        with replace(verbosity, quiet=quiet).console() as console:
            yield Runtime(
                device=device,
                processes=processes,
                tensorboard=self.tensorboard,
                on_event=console,
                sample_workers=workers_for(device, self.devices),
            )


@dataclass(frozen=True, kw_only=True)
class ModelRun(Verbosity):
    """Device of the training of a SAM, and its model card."""

    device: str = device_setting()
    model_card: str | None = model_card_setting()

    def output(self, *, standalone: bool = False) -> ModelOutput:
        """Return what is written into the model file."""
        from cryoseg.methods.particles.trained import ModelOutput

        return ModelOutput(standalone=standalone, card=read_model_card(self.model_card))

    @contextmanager
    def runtime(self) -> Iterator[Runtime]:
        """Yield the device and the receiver of the events of the training."""
        from cryoseg.methods.device import select_device
        from cryoseg.methods.training.ahead import workers_for
        from cryoseg.methods.training.run import Runtime

        device = select_device(self.device)
        with self.console() as console:
            yield Runtime(device=device, on_event=console, sample_workers=workers_for(device))
