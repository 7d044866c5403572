"""A batch as a Slurm array: submit, follow, submit again what was preempted, collect one table."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any

from cryoseg.config.batch import DEFAULT_TIME, ClusterConfig, Shard
from cryoseg.errors import ConfigError, CryosegError
from cryoseg.events import Note, OnEvent, Report, Row, StageProgress, Status, Warn
from cryoseg.pipelines.batches.report import read_report, report_name, write_report

# Set in tasks, where a configuration file may ask for a cluster once more.
INSIDE = "CRYOSEG_CLUSTER_TASK"
_QUEUE_FAILURES = 10


@dataclass(frozen=True)
class Part:
    """One shard of a command; submitit carries it to the node.

    Attributes
    ----------
    arguments
        Of cryoseg, with `--shard` and `--report`.
    folder
        Where the command was given.
    report
        What it writes at its end.
    """

    arguments: tuple[str, ...]
    folder: str
    report: Path

    def __call__(self) -> int:
        """Run the command; gives its exit status."""
        status = subprocess.run(
            [sys.executable, "-m", "cryoseg", *self.arguments],
            cwd=self.folder,
            env={**os.environ, INSIDE: "1"},
            # submitit's own signal for a coming time limit; the command would die of it unprepared.
            preexec_fn=lambda: signal.signal(signal.SIGUSR2, signal.SIG_IGN),
            check=False,
        ).returncode
        if status in (1, 2) and not self.report.exists():
            message = f"the command ended with status {status} before its first input; see the log"
            row = Row(name=self.report.stem, status=Status.FAILED, message=message)
            write_report(self.report, Report(rows=[row]))
        return status

    def checkpoint(self) -> Any:
        """For submitit: the same again, since finished outputs are kept."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def is_inside_task() -> bool:
    """Whether this process is a task of a batch that was submitted from here."""
    return INSIDE in os.environ


def run_on_slurm(
    arguments: Sequence[str], cluster: ClusterConfig, *, logs: Path, on_event: OnEvent
) -> Report:
    """Run a command as an array and wait for it.

    Parameters
    ----------
    arguments
        Of cryoseg: the command and its options, without `--shard` and `--report`.
    cluster
        Tasks, options of sbatch, retries.
    logs
        Folder for scripts, logs and the tables of the tasks; on a disk that all nodes see.
    on_event
        Told job numbers, progress and resubmissions.

    Returns
    -------
    Report
        Rows of all shards; an interrupt leaves the tasks running and gives the rows so far.

    Raises
    ------
    ConfigError
        If submitit or sbatch is missing.
    CryosegError
        If Slurm takes no job or answers no more.
    """
    if which("sbatch") is None:
        raise ConfigError(
            "--cluster slurm: there is no sbatch here. Run this on a login node of the cluster."
        )
    table = logs.absolute() / "rows.json"
    shards = [Shard(index=index + 1, count=cluster.tasks) for index in range(cluster.tasks)]
    parts = {}
    for shard in shards:
        report_name(table, shard).unlink(missing_ok=True)
        own_options = ("--shard", str(shard), "--report", str(table))
        parts[shard] = Part((*arguments, *own_options), str(Path.cwd()), report_name(table, shard))
    tasks = dict(zip(shards, _submit(list(parts.values()), cluster, logs), strict=True))
    first = next(iter(tasks.values())).split("_")[0]
    on_event(Note(text=f"Slurm job {first}: {len(tasks)} tasks; their logs are in {logs}."))
    tried = dict.fromkeys(shards, 0)
    lost: dict[Shard, str] = {}
    interrupted_by: int | None = None
    try:
        while open_shards := [shard for shard in shards if shard not in lost and not _done(table, shard)]:
            queue = _queue({tasks[shard].split("_")[0] for shard in open_shards})
            gone = [shard for shard in open_shards if tasks[shard] not in queue and not _done(table, shard)]
            # A result may reach this host a moment after the task has left the queue.
            if gone:
                time.sleep(cluster.poll_seconds)
            for shard in [shard for shard in gone if not _done(table, shard)]:
                if tried[shard] == cluster.retries:
                    lost[shard] = f"Slurm task {tasks[shard]} ended {tried[shard] + 1} times without a result"
                    on_event(Warn(text=f"{lost[shard]}; see {logs}."))
                    continue
                tried[shard] += 1
                (tasks[shard],) = _submit([parts[shard]], cluster, logs)
                on_event(
                    Warn(text=f"Shard {shard} was stopped; submitted again as Slurm task {tasks[shard]}.")
                )
            done = sum(_done(table, shard) for shard in shards)
            on_event(StageProgress(name="Slurm", stage="tasks", done=done, total=len(shards), unit="tasks"))
            if done + len(lost) < len(shards):
                time.sleep(cluster.poll_seconds)
    except KeyboardInterrupt:
        interrupted_by = int(signal.SIGINT)
        numbers = " ".join(sorted({task.split("_")[0] for task in tasks.values()}))
        on_event(Warn(text=f"The tasks go on; stop them with `scancel {numbers}`."))
    return Report(rows=_rows(table, shards, lost), interrupted_by=interrupted_by)


def _submit(parts: list[Part], cluster: ClusterConfig, logs: Path) -> list[str]:
    """Task numbers such as 12_0, one per part."""
    try:
        import submitit
    except ImportError as error:
        raise ConfigError(
            '--cluster slurm: needs submitit; run pip install "cryoseg[cluster]", or use `cryoseg cluster '
            "script`, which needs nothing."
        ) from error
    options = dict(cluster.options)
    executor = submitit.SlurmExecutor(folder=logs / "submitit")
    executor.update_parameters(
        job_name="cryoseg",
        time=options.pop("time", DEFAULT_TIME),
        stderr_to_stdout=True,
        additional_parameters={"requeue": True, **{key: value or True for key, value in options.items()}},
    )
    try:
        with executor.batch():
            jobs = [executor.submit(part) for part in parts]
        return [str(job.job_id) for job in jobs]
    except submitit.core.utils.FailedJobError as error:
        raise CryosegError(f"--cluster slurm: sbatch refused the job. {error}".strip()) from error


def _queue(jobs: set[str]) -> set[str]:
    """Tasks that Slurm still has, waiting or running."""
    for _ in range(_QUEUE_FAILURES):
        answer = subprocess.run(
            ["squeue", "-h", "-r", "-o", "%i", "-j", ",".join(sorted(jobs))],
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.returncode == 0:
            return set(answer.stdout.split())
        if "Invalid job id" in answer.stderr:
            return set()
        time.sleep(2)  # the controller is restarting, or busy
    raise CryosegError(
        f"squeue answers no more ({answer.stderr.strip()}). The tasks may go on; run the same command again "
        "later."
    )


def _done(table: Path, shard: Shard) -> bool:
    """Whether a task went through its whole shard; one that was stopped says so in its table."""
    path = report_name(table, shard)
    try:
        return bool(json.loads(path.read_text(encoding="utf-8"))["exit_status"] < 128)
    except (OSError, ValueError, KeyError):
        return False


def _rows(table: Path, shards: Sequence[Shard], lost: dict[Shard, str]) -> list[Row]:
    """Rows in the order of the inputs: every shard has each `count`-th of them."""
    columns = []
    for shard in shards:
        path = report_name(table, shard)
        rows = read_report(path).rows if path.exists() else []
        if shard in lost:
            rows = [*rows, Row(name=f"shard {shard}", status=Status.FAILED, message=lost[shard])]
        columns.append(rows)
    longest = max(map(len, columns), default=0)
    return [rows[place] for place in range(longest) for rows in columns if place < len(rows)]
