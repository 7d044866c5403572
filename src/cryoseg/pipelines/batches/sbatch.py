"""A plain sbatch script for a command: nothing that needs cryoseg to be understood."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from cryoseg.config.batch import DEFAULT_TIME, ClusterConfig

# Seconds between SIGTERM, on which a batch ends in good order, and the time limit.
WARNING_SECONDS = 60
SHARD = '"$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"'


def sbatch_script(
    arguments: Sequence[str],
    cluster: ClusterConfig,
    *,
    folder: Path,
    python: str = sys.executable,
) -> str:
    """The text of a script that runs a command as an array, one shard a task.

    Parameters
    ----------
    arguments
        Of cryoseg: the command and its options, without `--shard`.
    cluster
        Tasks, and options of sbatch.
    folder
        Where the command runs; relative paths mean the same there.
    python
        The interpreter that has cryoseg.
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
