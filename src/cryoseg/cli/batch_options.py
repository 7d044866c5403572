"""Options of the commands that work through many files, and the end of such a run."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from cryoseg.cli.options import Verbosity
from cryoseg.config.batch import ClusterChoice, ClusterKind, Shard, slurm_shard
from cryoseg.config.common import dry_run_setting
from cryoseg.config.setting import Settings, setting

if TYPE_CHECKING:
    from cryoseg.cli.console import BatchConsole
    from cryoseg.events import Report
    from cryoseg.pipelines.batches.run import Batch


@dataclass(frozen=True, kw_only=True)
class BatchOptions(Settings):
    """Which part of a batch is done by which GPUs, and what is written about it."""

    gpus: str | None = setting(
        None,
        help="Work on these GPUs at once, with one process each.",
        metavar="0,1|all",
        shown="one device, by --device",
    )
    shard: str | None = setting(
        None,
        help="Do the I-th of N equal parts of the inputs.",
        metavar="I/N",
        shown="the task of a Slurm array, else all",
    )
    dry_run: bool = dry_run_setting()
    report: tuple[Path, ...] = setting(
        (), help="Write the table of the run as .csv or .json too; repeat for both."
    )

    def check_reports(self) -> None:
        """Refuse names of reports without a known suffix, before any work is done."""
        from cryoseg.io.outputs import check_outputs
        from cryoseg.pipelines.batches.report import REPORT_SUFFIXES

        check_outputs(self.report, REPORT_SUFFIXES, option="--report", overwrite=True)

    def batch(self) -> Batch:
        """Which inputs this process does, and on which devices.

        Raises
        ------
        CryosegError
            If an option cannot be followed.
        """
        from cryoseg.pipelines.batches.run import Batch

        self.check_reports()
        devices: tuple[str, ...] = ()
        if self.gpus is not None and not self.dry_run:
            from cryoseg.methods.device import select_gpus  # torch starts here

            devices = select_gpus(self.gpus)
        shard = None if self.shard is None else Shard.parse(self.shard)
        return Batch(shard=shard, devices=devices, is_dry=self.dry_run)


@dataclass(frozen=True, kw_only=True)
class SheetBatchOptions(BatchOptions):
    """The options of a batch whose outputs have previews."""

    contact_sheet: bool = setting(
        False, help="Write one picture with a tile for each input; implies --preview."
    )


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
    options: SheetBatchOptions,
    cluster: ClusterChoice,
    output_dir: Path,
    verbosity: Verbosity,
) -> NoReturn:
    """Do a batch here or on a cluster, print and write what came of it, and leave.

    Parameters
    ----------
    title
        Title of the table; its columns are the figures of the rows.
    work
        The pipeline with everything else filled in; torch may start there.
    output_dir
        Folder of the outputs; a contact sheet and the cluster's logs go there.

    Raises
    ------
    Exit
        With the status of the run.
    CryosegError
        If nothing can be done at all.
    """
    from cryoseg.pipelines.batches.run import Batch

    with verbosity.console() as console:
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
                sheet_folder=output_dir if options.contact_sheet else None,
            )
    raise typer.Exit(status)


def run_elsewhere(
    options: BatchOptions, cluster: ClusterChoice, output_dir: Path, console: BatchConsole
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
    from cryoseg.pipelines.batches.slurm import is_inside_task, run_on_slurm

    if is_inside_task():
        return None
    options.check_reports()
    return run_on_slurm(
        sent_arguments(sys.argv[1:]), cluster, logs=output_dir / CLUSTER_LOGS, on_event=console
    )


def finish_batch(
    console: BatchConsole,
    title: str,
    report: Report,
    *,
    batch: Batch,
    reports: Sequence[Path],
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


def write_reports(report: Report, *, batch: Batch, reports: Sequence[Path]) -> None:
    """Write the table of a run to files, and say what an interrupt left."""
    from cryoseg.pipelines.batches.report import write_report

    for path in reports:
        write_report(path, report, shard=batch.shard)
    if report.interrupted_by is not None:
        counts = ", ".join(f"{count} {status}" for status, count in report.counts().items())
        typer.echo(f"Interrupted: {counts}. Run the same command again to go on.", err=True)
