"""The command `cryoseg`, its sub-commands, its standard streams, and the exit status of errors."""

from __future__ import annotations

import codecs
import errno
import gc
import io
import os
import sys
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from cryoseg import __version__
from cryoseg.cli.command_group import CommandGroup, Entry
from cryoseg.errors import ConfigError, CryosegError, InputError
from cryoseg.machine import prepare_openmp
from cryoseg.pipelines.batches.interrupts import interruptible

# Objects that are created between two searches for cycles. With Python's default of 700 to 2,000, the
# searches take a sixth of the time in which torch is imported.
OBJECTS_PER_COLLECTION = 10_000
OUT_OF_MEMORY = (
    "the memory that this process may use does not suffice. Raise the limit (`ulimit -v`, or the memory of "
    "the job), or use a larger machine."
)


class _Output(io.FileIO):
    """A file descriptor that drops output after a failure, so that printing does not end a run."""

    loss: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write bytes; after the first failure, drop them."""
        if self.loss is None:
            try:
                return super().write(data)
            except BlockingIOError:
                raise
            except OSError as error:
                self.loss = error
        return memoryview(data).nbytes


def protect_streams() -> None:
    """Replace standard output and error by streams that do not raise errors.

    A closed pipe (`| head`), a full disk, a closed descriptor, or a character that the locale lacks must not
    end a run whose outputs are files. `lost_output` reports lost output.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: the next file that is opened would take its place
            os.open(os.devnull, os.O_RDWR)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is not getattr(sys, f"__{name}__"):
            continue  # a caller has replaced the stream
        encoding = "utf-8" if stream is None else stream.encoding
        # File names may hold bytes that are not UTF-8; they are printed unchanged.
        is_utf8 = codecs.lookup(encoding).name == "utf-8"
        if stream is not None:
            stream.flush()
        protected = io.TextIOWrapper(
            io.BufferedWriter(_Output(descriptor, "w", closefd=False)),
            encoding=encoding,
            errors="surrogateescape" if is_utf8 else "backslashreplace",
            line_buffering=stream is not None and stream.line_buffering,
        )
        setattr(sys, name, protected)
        setattr(sys, f"__{name}__", protected)


def lost_output() -> str | None:
    """Return why standard output could not be written; None if it was, or if its reader closed the pipe."""
    buffer = getattr(sys.stdout, "buffer", None)
    if sys.stdout is not None:
        sys.stdout.flush()
    loss = getattr(getattr(buffer, "raw", None), "loss", None)
    if loss is None or loss.errno == errno.EPIPE:
        return None
    return f"standard output: cannot be written ({loss.strerror}); part of the output is lost."


def describe_system_error(error: Exception) -> str | None:
    """Return a message for errors of memory, permissions and disks; None for defects of cryoseg."""
    text = str(error)
    if (
        isinstance(error, MemoryError)
        or getattr(error, "errno", None) == errno.ENOMEM
        or "failed to map segment" in text
        or "annot allocate memory" in text
    ):
        return f"{text}: {OUT_OF_MEMORY}" if isinstance(error, ImportError) else OUT_OF_MEMORY.capitalize()
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}. Check the path and its permissions."
    return None


COMMANDS = {
    "segment": Entry("segment:segment", "Segment membranes in tomograms."),
    "segment-image": Entry(
        "segment_image:segment_image",
        "Mark what a model was trained to find in ordinary pictures: PNG, JPEG, BMP or TIFF.",
    ),
    "postprocess": Entry(
        "postprocess:postprocess", "Threshold and filter saved masks or logits again, without a model."
    ),
    "measure": Entry(
        "measure:measure", "Measure area, thickness, curvature and size of the membranes in masks."
    ),
    "pick": Entry("pick:pick", "Pick particles in micrographs or tomograms, or place points on membranes."),
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
    "relion": Entry("relion:app", "Run cryoseg as a job of RELION, from its window External."),
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


def _check_call() -> None:
    """Refuse an empty argument, which as a path is the current folder, and a current folder that is gone."""
    if "" in sys.argv[1:]:
        raise ConfigError(
            "An argument is empty, as with a shell variable that is not set. Check the command."
        )
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise InputError("The current folder was removed. Change to another folder.") from error


def main() -> None:
    """Run the command line; a `CryosegError` is printed on stderr and gives the exit status 1."""
    protect_streams()
    gc.set_threshold(OBJECTS_PER_COLLECTION)
    # typer handles an interrupt itself, so it is recognized by the signal.
    with interruptible() as raised:
        try:
            _check_call()
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
            gc.freeze()  # The interpreter does not search the objects of torch for cycles when it exits.
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
