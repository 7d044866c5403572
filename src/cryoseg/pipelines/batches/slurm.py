"""Run a batch as a Slurm array: submit it, submit preempted tasks again, and collect the rows."""

from __future__ import annotations

import json
import os
import re
import shlex
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

# Seconds between SIGTERM, on which a batch ends without partial outputs, and the time limit.
WARNING_SECONDS = 60
SHARD = '"$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"'


def sbatch_script(
    arguments: Sequence[str], cluster: ClusterConfig, *, folder: Path, python: str = sys.executable
) -> str:
    """Return the text of a script that runs a command as an array, with one shard per task.

    `arguments` are the command of cryoseg and its options without `--shard`, `folder` is the working folder
    to which relative paths refer, and `python` is an interpreter with cryoseg.
    """
    name = re.sub(r"[^\w-]", "", arguments[0]) if arguments else "batch"
    options = {
        "job-name": f"cryoseg-{name}",
        "array": f"1-{cluster.tasks}",
        "output": "cryoseg_%A_%a.log",
        "time": DEFAULT_TIME,
        "signal": f"B:TERM@{WARNING_SECONDS}",
        **cluster.options,
    }
    lines = ["#!/bin/bash"]
    lines += [f"#SBATCH --{key}={value}" if value else f"#SBATCH --{key}" for key, value in options.items()]
    lines += [
        "#SBATCH --requeue",
        "# A task that was stopped goes on where it was: finished outputs are kept.",
        f"cd {shlex.quote(str(folder))} || exit 1",
        f"exec {shlex.join([python, '-m', 'cryoseg', *arguments])} --shard {SHARD}",
    ]
    return "\n".join(lines) + "\n"


# Set in tasks, so that a configuration file with `cluster` does not submit again.
INSIDE = "CRYOSEG_CLUSTER_TASK"
_QUEUE_FAILURES = 10


@dataclass(frozen=True)
class Part:
    """One shard of a command, which submitit runs on a node.

    Attributes
    ----------
    arguments
        Command of cryoseg and its options, with `--shard` and `--report`.
    folder
        Working folder of the command.
    report
        Report that the command writes at its end.
    """

    arguments: tuple[str, ...]
    folder: str
    report: Path

    def __call__(self) -> int:
        """Run the command and return its exit status."""
        status = subprocess.run(
            [sys.executable, "-m", "cryoseg", *self.arguments],
            cwd=self.folder,
            env={**os.environ, INSIDE: "1"},
            # submitit announces the time limit with this signal, which would end the command.
            preexec_fn=lambda: signal.signal(signal.SIGUSR2, signal.SIG_IGN),
            check=False,
        ).returncode
        if status in (1, 2) and not self.report.exists():
            message = f"the command ended with status {status} before its first input; see the log"
            row = Row(name=self.report.stem, status=Status.FAILED, message=message)
            write_report(self.report, Report(rows=[row]))
        return status

    def checkpoint(self) -> Any:
        """Return the same task for submitit to run again; it keeps finished outputs."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def is_inside_task() -> bool:
    """Whether this process is a task of a batch that cryoseg submitted."""
    return INSIDE in os.environ


def run_on_slurm(
    arguments: Sequence[str], cluster: ClusterConfig, *, logs: Path, on_event: OnEvent
) -> Report:
    """Run a command as an array and wait for its end.

    `arguments` are the command of cryoseg and its options without `--shard` and `--report`. All nodes must be
    able to access the folder `logs`, which holds scripts, logs and reports of the tasks. The report has the
    rows of all shards; after an interrupt, it has the rows so far, and the tasks continue.

    Raises
    ------
    ConfigError
        If submitit or sbatch is missing.
    CryosegError
        If Slurm refuses the job or does not respond.
    """
    if which("sbatch") is None:
        raise ConfigError("--cluster slurm: sbatch was not found. Run this on a login node of the cluster.")
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
            # The report of a task may appear shortly after the task has left the queue.
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
        on_event(Warn(text=f"The tasks continue; stop them with `scancel {numbers}`."))
    return Report(rows=_rows(table, shards, lost), interrupted_by=interrupted_by)


def _submit(parts: list[Part], cluster: ClusterConfig, logs: Path) -> list[str]:
    """Submit parts and return their task numbers, such as 12_0."""
    try:
        import submitit
    except ImportError as error:
        raise ConfigError(
            '--cluster slurm: needs submitit; run pip install "cryoseg[cluster]", or use `cryoseg cluster '
            "script`, which does not need it."
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
    """Return the tasks that are waiting or running."""
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
        f"squeue does not respond ({answer.stderr.strip()}). The tasks may continue; run the command again "
        "later."
    )


def _done(table: Path, shard: Shard) -> bool:
    """Whether a task has processed all inputs of its shard, according to its report."""
    path = report_name(table, shard)
    try:
        return bool(json.loads(path.read_text(encoding="utf-8"))["exit_status"] < 128)
    except (OSError, ValueError, KeyError):
        return False


def _rows(table: Path, shards: Sequence[Shard], lost: dict[Shard, str]) -> list[Row]:
    """Return the rows of all shards in the order of the inputs, which alternate between the shards."""
    columns = []
    for shard in shards:
        path = report_name(table, shard)
        rows = read_report(path).rows if path.exists() else []
        if shard in lost:
            rows = [*rows, Row(name=f"shard {shard}", status=Status.FAILED, message=lost[shard])]
        columns.append(rows)
    longest = max(map(len, columns), default=0)
    return [rows[place] for place in range(longest) for rows in columns if place < len(rows)]
