"""The `cryoseg` command: sub-commands and the one place where errors become exit statuses."""

from __future__ import annotations

import inspect
import os
import sys
from typing import Annotated

import typer

from cryoseg import __version__
from cryoseg.cli import (
    cluster,
    convert,
    data,
    evaluate,
    pick,
    postprocess,
    sample,
    segment,
    simulate,
    train,
    weights,
)
from cryoseg.cli.config_file import CommandGroup
from cryoseg.cli.doctor import doctor
from cryoseg.cli.evaluate_images import images
from cryoseg.cli.rerun import rerun
from cryoseg.cli.segment_image import segment_image
from cryoseg.cli.view import view
from cryoseg.errors import CryosegError
from cryoseg.pipelines.batches.interrupts import signal_of

app = typer.Typer(
    name="cryoseg",
    cls=CommandGroup,
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
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    # sam2 draws its own tqdm bar over ours unless told not to before it is imported.
    os.environ.setdefault("TQDM_DISABLE", "1")


app.command()(segment.segment)
app.command()(segment_image)
app.command()(postprocess.postprocess)
app.command()(pick.pick)
app.command()(convert.convert)
app.command()(view)
evaluate.app.command("images")(images)
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(data.app, name="data")
app.add_typer(train.app, name="train")
app.add_typer(simulate.app, name="simulate")
app.add_typer(weights.app, name="weights")
app.add_typer(sample.app, name="sample")
app.add_typer(cluster.app, name="cluster")
app.command()(rerun)
app.command()(doctor)


def _evaluate_annotations(group: typer.Typer) -> None:
    # typer would evaluate the text of each annotation four times, which is a tenth of `--help`'s time.
    for command in group.registered_commands:
        if command.callback is not None:
            command.callback.__annotations__ = inspect.get_annotations(command.callback, eval_str=True)
    for inner in group.registered_groups:
        if inner.typer_instance is not None:
            _evaluate_annotations(inner.typer_instance)


def main() -> None:
    """Run the command line; a `CryosegError` is one sentence on stderr and exit status 1."""
    _evaluate_annotations(app)
    try:
        app()
    except CryosegError as error:
        typer.echo(f"Error: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt as stop:
        typer.echo("Interrupted; finished outputs are kept.", err=True)
        sys.exit(128 + signal_of(stop))
