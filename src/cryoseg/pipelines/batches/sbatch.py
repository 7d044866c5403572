"""Plain sbatch script for a command."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from cryoseg.config.batch import DEFAULT_TIME, ClusterConfig

# Seconds between SIGTERM, on which a batch ends without partial outputs, and the time limit.
WARNING_SECONDS = 60
SHARD = '"$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"'


def sbatch_script(
    arguments: Sequence[str],
    cluster: ClusterConfig,
    *,
    folder: Path,
    python: str = sys.executable,
) -> str:
    """Return the text of a script that runs a command as an array, with one shard per task.

    Parameters
    ----------
    arguments
        Command of cryoseg and its options, without `--shard`.
    cluster
        Number of tasks and options of sbatch.
    folder
        Working folder of the command, to which relative paths refer.
    python
        Python interpreter with cryoseg.
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
