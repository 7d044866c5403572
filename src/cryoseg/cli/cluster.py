"""`cryoseg cluster`: batches on clusters."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Exit

from cryoseg.config.batch import ClusterConfig
from cryoseg.errors import ConfigError

COMMANDS = ("segment", "pick", "evaluate")

app = typer.Typer(no_args_is_help=True, help="Run batches on a cluster.")


@app.callback()
def _root() -> None:
    """Run batches on a cluster."""


@app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def script(
    command: Annotated[
        list[str], Argument(help="A command of cryoseg with its options, as it is typed.", show_default=False)
    ],
    cluster: ClusterConfig,
) -> None:
    """Print a plain sbatch script that runs a command as a Slurm array.

    For example:

    cryoseg cluster script --cluster-tasks 10 --cluster-option partition=gpu --cluster-option
    gpus-per-node=1 segment "tomograms/*.mrc" -o membranes > segment.sh
    """
    from cryoseg.pipelines.batches.slurm import sbatch_script

    words = command[1:] if Path(command[0]).name == "cryoseg" else command
    if not words or words[0] not in COMMANDS:
        raise ConfigError(f"{' '.join(words) or 'cryoseg'}: give one of the commands {', '.join(COMMANDS)}.")
    if "--shard" in words:
        raise ConfigError("--shard: the script gives each task its own; leave it out.")
    if words[0] == "evaluate" and "--scores" not in words:
        raise ConfigError("cryoseg evaluate: give --scores, the folder where the tasks of the array meet.")
    typer.echo(sbatch_script(words, cluster, folder=Path.cwd()), nl=False)
    if shutil.which("sbatch") is None:
        typer.echo("Note: there is no sbatch on this machine; submit the script on the cluster.", err=True)
    raise Exit
