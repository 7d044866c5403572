"""The command `cryoseg`, its sub-commands, and the exit status of errors."""

from __future__ import annotations

import os
import sys
from typing import Annotated, ClassVar

import typer

from cryoseg import __version__
from cryoseg.cli.command_group import CommandGroup, Entry
from cryoseg.cli.system import describe_system_error, lost_output, protect_streams
from cryoseg.errors import CryosegError
from cryoseg.machine import prepare_openmp
from cryoseg.pipelines.batches.interrupts import interruptible

COMMANDS = {
    "segment": Entry("segment:segment", "Segment membranes in tomograms."),
    "segment-image": Entry(
        "segment_image:segment_image",
        "Mark what a model was trained to find in ordinary pictures: PNG, JPEG, BMP or TIFF.",
    ),
    "postprocess": Entry(
        "postprocess:postprocess", "Threshold and filter saved masks or logits again, without a model."
    ),
    "pick": Entry("pick:pick", "Pick particles in micrographs or tomograms."),
    "convert": Entry("convert:convert", "Convert coordinates between formats."),
    "view": Entry(
        "view:view",
        "Write one HTML page to look at a volume with its logits, mask and picks, without a network.",
    ),
    "rerun": Entry(
        "rerun:rerun", "Repeat a run with the options, the weights and the input that its record names."
    ),
    "doctor": Entry(
        "doctor:doctor", "Examine this installation and this machine; exit status 1 if something is wrong."
    ),
    "evaluate": Entry("evaluate.app:app", "Score segmentations and picks against a truth."),
    "data": Entry("data:app", "Fetch published tomograms, annotations and micrographs."),
    "train": Entry("train.app:app", "Train models on your own data; every run can be stopped and resumed."),
    "simulate": Entry("simulate:app", "Make tomograms and micrographs whose truth is known exactly."),
    "weights": Entry("weights:app", "List, find, download and verify model weights."),
    "sample": Entry("sample:app", "Print the path of sample data that the package carries."),
    "cluster": Entry("cluster:app", "Run batches on a cluster."),
}


class _Commands(CommandGroup):
    table: ClassVar[dict[str, Entry]] = COMMANDS


app = typer.Typer(
    name="cryoseg",
    cls=_Commands,
    help="Segment cryo-EM and cryo-ET data with Segment Anything models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"cryoseg {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    # Without TQDM_DISABLE, sam2 draws its own progress bar.
    os.environ.setdefault("TQDM_DISABLE", "1")
    prepare_openmp()


def main() -> None:
    """Run the command line; a `CryosegError` is printed on stderr and gives the exit status 1."""
    protect_streams()
    # typer handles an interrupt itself, so it is recognized by the signal.
    with interruptible() as raised:
        try:
            app()
        except CryosegError as error:
            typer.echo(f"Error: {error}", err=True)
            sys.exit(1)
        except (OSError, MemoryError, ImportError) as error:
            if (sentence := describe_system_error(error)) is None:
                raise
            typer.echo(f"Error: {sentence}", err=True)
            sys.exit(1)
        finally:
            loss = lost_output()
            if loss is not None:
                typer.echo(f"Error: {loss}", err=True)
            if raised:
                typer.echo(
                    "Interrupted; finished outputs are kept. Run the same command again to continue.",
                    err=True,
                )
                sys.exit(128 + raised[0])
            if loss is not None:
                sys.exit(1)
