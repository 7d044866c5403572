"""Options of the commands that work through many files, and the end of such a run."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from typer import Option

from cryoseg.config.batch import Shard

if TYPE_CHECKING:
    from cryoseg.cli.console import BatchConsole
    from cryoseg.pipelines.batches.run import Batch
    from cryoseg.pipelines.events import Report

ShardOption = Annotated[
    Optional[str],  # noqa: UP045
    Option(
        "--shard",
        metavar="I/N",
        help="Do the I-th of N equal parts of the inputs.",
        show_default="the task of a Slurm array, else all",
    ),
]
Gpus = Annotated[
    Optional[str],  # noqa: UP045
    Option(
        "--gpus",
        metavar="0,1|all",
        help="Work on these GPUs at once, one process each.",
        show_default="one device, by --device",
    ),
]
DryRun = Annotated[bool, Option("--dry-run", help="Tell what would be done and write nothing.")]
Reports = Annotated[
    Optional[list[Path]],  # noqa: UP045
    Option("--report", help="Write the table of the run as .csv or .json too; repeat for both."),
]


def build_batch(shard: str | None, gpus: str | None, *, is_dry: bool, reports: list[Path] | None) -> Batch:
    """Who does what, from the options.

    Raises
    ------
    CryosegError
        If an option cannot be followed.
    """
    from cryoseg.pipelines.batches.report import check_report_names
    from cryoseg.pipelines.batches.run import Batch

    check_report_names(reports or [])
    devices: tuple[str, ...] = ()
    if gpus is not None:
        from cryoseg.models.device import select_gpus  # torch starts here

        devices = select_gpus(gpus)
    return Batch(shard=None if shard is None else Shard.parse(shard), devices=devices, is_dry=is_dry)


def finish_batch(
    console: BatchConsole,
    title: str,
    report: Report,
    columns: tuple[str, ...],
    *,
    batch: Batch,
    reports: list[Path] | None,
) -> int:
    """Print and write the table of a run; gives the exit status."""
    console.stop()
    console.summary(title, report.rows, columns)
    write_reports(report, batch=batch, reports=reports)
    return report.exit_status


def write_reports(report: Report, *, batch: Batch, reports: list[Path] | None) -> None:
    """Write the table of a run to files, and say what an interrupt left."""
    from cryoseg.pipelines.batches.report import write_report

    for path in reports or []:
        write_report(path, report, command=shlex.join(sys.argv[1:]), shard=batch.shard)
    if report.interrupted_by is not None:
        told = ", ".join(f"{count} {status}" for status, count in report.counts().items())
        typer.echo(f"Interrupted: {told}. Run the same command again to go on.", err=True)
