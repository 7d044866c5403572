"""Options of the commands that work through many files, and the end of such a run."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, Optional

import typer
from typer import Option

from cryoseg.cli.option_groups import OptionGroup
from cryoseg.config.batch import ClusterConfig, ClusterKind, Shard, parse_sbatch_options, slurm_shard

if TYPE_CHECKING:
    from cryoseg.cli.console import BatchConsole
    from cryoseg.events import Report
    from cryoseg.pipelines.batches.run import Batch

DryRun = Annotated[bool, Option("--dry-run", help="Tell what would be done and write nothing.")]
ContactSheet = Annotated[
    bool, Option("--contact-sheet", help="Write one picture with a tile per input; implies --preview.")
]
ClusterTasks = Annotated[int, Option("--cluster-tasks", help="Tasks of the array; each does a shard.")]
ClusterOptionTexts = Annotated[
    Optional[list[str]],  # noqa: UP045
    Option("--cluster-option", help="Long option of sbatch, such as partition=gpu; repeat for several."),
]


@dataclass(frozen=True, kw_only=True)
class BatchOptions(OptionGroup):
    """Who does what part of a batch, and what is written about it."""

    gpus: Annotated[
        Optional[str],  # noqa: UP045
        Option(
            "--gpus",
            metavar="0,1|all",
            help="Work on these GPUs at once, one process each.",
            show_default="one device, by --device",
        ),
    ] = None
    shard: Annotated[
        Optional[str],  # noqa: UP045
        Option(
            "--shard",
            metavar="I/N",
            help="Do the I-th of N equal parts of the inputs.",
            show_default="the task of a Slurm array, else all",
        ),
    ] = None
    dry_run: DryRun = False
    report: Annotated[
        Optional[list[Path]],  # noqa: UP045
        Option("--report", help="Write the table of the run as .csv or .json too; repeat for both."),
    ] = None

    def batch(self) -> Batch:
        """Who does what.

        Raises
        ------
        CryosegError
            If an option cannot be followed.
        """
        from cryoseg.pipelines.batches.report import check_report_names
        from cryoseg.pipelines.batches.run import Batch

        check_report_names(self.report or [])
        devices: tuple[str, ...] = ()
        if self.gpus is not None and not self.dry_run:
            from cryoseg.methods.device import select_gpus  # torch starts here

            devices = select_gpus(self.gpus)
        shard = None if self.shard is None else Shard.parse(self.shard)
        return Batch(shard=shard, devices=devices, is_dry=self.dry_run)


@dataclass(frozen=True, kw_only=True)
class ClusterOptions(OptionGroup):
    """Whether a batch runs here."""

    cluster: Annotated[
        ClusterKind,
        Option("--cluster", help="slurm: run as an array of the cluster, wait for it and print one table."),
    ] = ClusterKind.NONE
    cluster_tasks: ClusterTasks = ClusterConfig.tasks
    cluster_option: ClusterOptionTexts = None


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


# One input after the other, with the console as listener.
Work = Callable[["Batch", "BatchConsole"], "Report"]


def run_command(
    title: str,
    work: Work,
    *,
    options: BatchOptions,
    cluster: ClusterOptions,
    output_dir: Path,
    contact_sheet: bool,
    quiet: bool,
    verbose: bool,
) -> NoReturn:
    """Do a batch here or on a cluster, print and write what came of it, and leave.

    Parameters
    ----------
    title
        Of the table; its columns are the figures of the rows.
    work
        The pipeline with everything else filled in; torch may start there.
    output_dir
        Of the command; a contact sheet and the cluster's logs go there.

    Raises
    ------
    Exit
        With the status of the run.
    CryosegError
        If nothing can be done at all.
    """
    from cryoseg.cli.console import batch_console
    from cryoseg.pipelines.batches.run import Batch

    with batch_console(quiet=quiet, verbose=verbose) as console:
        if (done := run_elsewhere(options, cluster, output_dir, console)) is not None:
            status = finish_batch(console, title, done, batch=Batch(), reports=options.report)
        else:
            batch = options.batch()
            status = finish_batch(
                console,
                title,
                work(batch, console),
                batch=batch,
                reports=options.report,
                sheet_folder=output_dir if contact_sheet else None,
            )
    raise typer.Exit(status)


def run_elsewhere(
    options: BatchOptions, cluster: ClusterOptions, output_dir: Path, console: BatchConsole
) -> Report | None:
    """Run the whole command on a cluster; None if it is to run here, as it is within a cluster's task.

    Parameters
    ----------
    output_dir
        The cluster's logs go into a folder within it.

    Raises
    ------
    CryosegError
        If the cluster cannot be used.
    """
    if cluster.cluster is ClusterKind.NONE:
        return None
    from cryoseg.pipelines.batches.report import check_report_names
    from cryoseg.pipelines.batches.slurm import is_inside_task, run_on_slurm

    if is_inside_task():
        return None
    check_report_names(options.report or [])
    array = ClusterConfig(
        tasks=cluster.cluster_tasks, options=parse_sbatch_options(cluster.cluster_option or [])
    )
    return run_on_slurm(sent_arguments(sys.argv[1:]), array, logs=output_dir / CLUSTER_LOGS, on_event=console)


def finish_batch(
    console: BatchConsole,
    title: str,
    report: Report,
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
    console.summary(title, report.rows)
    if sheet_folder is not None:
        from cryoseg.pipelines.view.contact_sheet import sheet_path, write_contact_sheet

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
