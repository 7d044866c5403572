"""Options of the commands that process many files, and the reports of their runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
class CpuBatchOptions(Settings):
    """Part of a batch to process, and its reports."""

    shard: str | None = setting(
        None,
        help="Process only the I-th of N equal parts of the inputs.",
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
        """Return the part of the inputs to process, and the devices."""
        from cryoseg.pipelines.batches.run import Batch

        self.check_reports()
        shard = None if self.shard is None else Shard.parse(self.shard)
        return Batch(shard=shard, is_dry=self.dry_run)


@dataclass(frozen=True, kw_only=True)
class BatchOptions(CpuBatchOptions):
    """Part of a batch to process, its GPUs, and its reports."""

    gpus: str | None = setting(
        None,
        help="Work on these GPUs at once, with one process for each number; a number may be repeated.",
        metavar="0,1|all",
        shown="one device, by --device",
    )

    def batch(self) -> Batch:
        """Return the part of the inputs to process, and the devices."""
        batch = super().batch()
        if self.gpus is None:
            return batch
        from cryoseg.methods.device import select_gpus  # torch starts here

        devices = select_gpus(self.gpus)
        return batch if self.dry_run else replace(batch, devices=devices)


@dataclass(frozen=True, kw_only=True)
class SheetBatchOptions(BatchOptions):
    """Options of a batch whose outputs have previews."""

    contact_sheet: bool = setting(
        False, help="Write one picture with a tile for each input; implies --preview."
    )


CLUSTER_LOGS = "cluster_logs"  # within the output folder

# Options that are removed with their values from the command line of a task.
_NOT_SENT = ("--cluster", "--cluster-tasks", "--cluster-option", "--progress", "--report", "--shard")


def sent_arguments(arguments: list[str]) -> list[str]:
    """Return the command line of a task, without the options of the cluster and of reports."""
    kept, skip = [], False
    for word in arguments:
        if skip:
            skip = False
        elif word in _NOT_SENT:
            skip = True
        elif not any(word.startswith(f"{name}=") for name in _NOT_SENT):
            kept.append(word)
    return kept


# Runs a pipeline and prints its events on the console.
Work = Callable[["Batch", "BatchConsole"], "Report"]


def run_command(
    title: str,
    work: Work,
    *,
    options: CpuBatchOptions,
    cluster: ClusterChoice,
    output_dir: Path,
    verbosity: Verbosity,
) -> NoReturn:
    """Run a batch in this process or on a cluster, write its reports, and exit."""
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
                sheet_folder=output_dir if getattr(options, "contact_sheet", False) else None,
            )
    raise typer.Exit(status)


def run_elsewhere(
    options: CpuBatchOptions, cluster: ClusterChoice, output_dir: Path, console: BatchConsole
) -> Report | None:
    """Run the command on a cluster; return None if it is to run in this process, as within a task."""
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
    """Print and write the table of a run and, with a folder, its contact sheet; return the exit status."""
    console.stop()
    console.summary(title, report.rows)
    if sheet_folder is not None:
        from cryoseg.pipelines.batches.report import sheet_path, write_contact_sheet

        shard = batch.shard or slurm_shard(os.environ)
        write_contact_sheet(sheet_path(sheet_folder, shard), report)
    write_reports(report, batch=batch, reports=reports)
    return report.exit_status


def write_reports(report: Report, *, batch: Batch, reports: Sequence[Path]) -> None:
    """Write the table of a run to files, and report an interrupt."""
    from cryoseg.pipelines.batches.report import write_report

    for path in reports:
        write_report(path, report, shard=batch.shard)
    if report.interrupted_by is not None:
        counts = ", ".join(f"{count} {status}" for status, count in report.counts().items())
        typer.echo(f"Interrupted: {counts}. Run the same command again to continue.", err=True)
