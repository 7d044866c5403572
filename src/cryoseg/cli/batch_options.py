"""Options of the commands that work through many files, and the end of such a run."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from typer import Option

from cryoseg.config.batch import ClusterConfig, ClusterKind, Shard, parse_sbatch_options, slurm_shard

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
ContactSheet = Annotated[
    bool, Option("--contact-sheet", help="Write one picture with a tile per input; implies --preview.")
]
Cluster = Annotated[
    ClusterKind,
    Option("--cluster", help="slurm: run as an array of the cluster, wait for it and print one table."),
]
ClusterTasks = Annotated[int, Option("--cluster-tasks", help="Tasks of the array; each does a shard.")]
ClusterOptions = Annotated[
    Optional[list[str]],  # noqa: UP045
    Option("--cluster-option", help="Long option of sbatch, such as partition=gpu; repeat for several."),
]

CLUSTER_LOGS = "cluster_logs"  # within the output folder

# What the command line that is sent to the cluster leaves out, each with its value.
_NOT_SENT = ("--cluster", "--cluster-tasks", "--cluster-option", "--report", "--shard")


def sent_arguments(arguments: list[str]) -> list[str]:
    """The command line for a task: without the options that only matter here.

    Parameters
    ----------
    arguments
        As typed, without the program's name.
    """
    kept, skip = [], False
    for word in arguments:
        if skip:
            skip = False
        elif word in _NOT_SENT:
            skip = True
        elif not any(word.startswith(f"{name}=") for name in _NOT_SENT):
            kept.append(word)
    return kept


def run_on_cluster(
    kind: ClusterKind,
    tasks: int,
    options: list[str] | None,
    logs: Path,
    *,
    title: str,
    reports: list[Path] | None,
    quiet: bool,
    verbose: bool,
) -> None:
    """Run the whole command elsewhere and leave with its exit status; return if it is to run here.

    Raises
    ------
    CryosegError
        If the cluster cannot be used.
    """
    if kind is ClusterKind.NONE:
        return
    from cryoseg.cli.console import batch_console
    from cryoseg.pipelines.batches.report import check_report_names
    from cryoseg.pipelines.batches.run import Batch
    from cryoseg.pipelines.batches.slurm import is_inside_task, run_on_slurm

    if is_inside_task():
        return
    check_report_names(reports or [])
    cluster = ClusterConfig(tasks=tasks, options=parse_sbatch_options(options or []))
    with batch_console(quiet=quiet, verbose=verbose) as console:
        report = run_on_slurm(sent_arguments(sys.argv[1:]), cluster, logs=logs, on_event=console)
        columns = tuple(dict.fromkeys(name for row in report.rows for name in row.figures))
        raise typer.Exit(finish_batch(console, title, report, columns, batch=Batch(), reports=reports))


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
    if gpus is not None and not is_dry:
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
    sheet_folder: Path | None = None,
) -> int:
    """Print and write the table of a run, and its contact sheet if a folder is given for it.

    Returns
    -------
    int
        The exit status.
    """
    console.stop()
    console.summary(title, report.rows, columns)
    if sheet_folder is not None:
        from cryoseg.pipelines.contact_sheet import sheet_path, write_contact_sheet

        shard = batch.shard or slurm_shard(os.environ)
        write_contact_sheet(sheet_path(sheet_folder, shard), report)
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
