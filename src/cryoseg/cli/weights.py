"""`cryoseg weights`: list, find, download and verify weights."""

from __future__ import annotations

from typing import Annotated

import typer
from typer import Argument

from cryoseg.cli.options import CheckpointsDir, Quiet
from cryoseg.config.setting import setting

app = typer.Typer(no_args_is_help=True, help="List, find, download and verify model weights.")


@app.command("list")
def list_command(
    checkpoints_dir: CheckpointsDir = None,
    markdown: Annotated[bool, setting(help="Print the table of checkpoints/README.md.", hidden=True)] = False,
) -> None:
    """Show all known weights: what for, where found or where to put them, size, licence, check.

    Example: cryoseg weights list
    """
    from rich.text import Text

    from cryoseg.cli.console import print_table
    from cryoseg.pipelines.data.weights import list_weights, markdown_table, readable_size

    if markdown:
        typer.echo(markdown_table(), nl=False)
        return
    rows = []
    for row in list_weights(checkpoints_dir=checkpoints_dir):
        where = str(row.path) if row.found else f"missing; put it at {row.path}"
        known = row.weights
        place = Text(where, style="green" if row.found else "yellow")
        rows.append(
            (known.name, known.purpose, readable_size(row.size), known.licence, row.hash_status, place)
        )
    header = ("name", "what for", "size", "licence", "check", "where")
    print_table("Weights", header, rows, right=("size",), width=220)
    typer.echo("Get one: cryoseg weights download NAME. Where it is looked for: cryoseg weights path.")


@app.command("path")
def path_command(
    name: Annotated[
        str | None, Argument(help="Name of known weights, whose file is printed.", show_default=False)
    ] = None,
    checkpoints_dir: CheckpointsDir = None,
) -> None:
    """Print the folders where weights are looked for, or the file of NAME.

    Example: cryoseg weights path membrane-tiny
    """
    from cryoseg.methods.weights import download_folder, require, search_path

    if name is not None:
        typer.echo(str(require(name, checkpoints_dir=checkpoints_dir)))
        return
    target = download_folder(checkpoints_dir=checkpoints_dir)
    for label, folder in search_path(checkpoints_dir=checkpoints_dir).items():
        remarks = [] if folder.is_dir() else ["no such folder"]
        if folder == target:
            remarks.append("downloads go here")
        typer.echo(f"{label:22} {folder}" + (f"  ({', '.join(remarks)})" if remarks else ""))


@app.command("download")
def download_command(
    names: Annotated[
        list[str] | None,
        Argument(
            help="Names from `cryoseg weights list`, or groups: etsam, sam, sam2.1.", show_default=False
        ),
    ] = None,
    everything: Annotated[bool, setting(help="Fetch all known weights (6 GB).", flags=("--all",))] = False,
    checkpoints_dir: CheckpointsDir = None,
    quiet: Quiet = False,
) -> None:
    """Download weights: resumed, checked against the published sums, kept if already there.

    Example: cryoseg weights download etsam
    """
    from cryoseg.cli.console import batch_console
    from cryoseg.methods.weights import WEIGHTS
    from cryoseg.pipelines.data.weights import download_weights

    if everything == bool(names):
        raise typer.BadParameter("give names of weights (see `cryoseg weights list`) or --all, not both.")
    wanted = [key for key, entry in WEIGHTS.items() if not entry.bundled] if everything else names or []
    with batch_console(quiet=quiet) as console:
        report = download_weights(wanted, checkpoints_dir=checkpoints_dir, on_event=console)
    console.summary("Download", report.rows)
    raise typer.Exit(report.exit_status)


@app.command("verify")
def verify_command(
    names: Annotated[
        list[str] | None,
        Argument(
            metavar="[NAME|FILE]...",
            help="Names or files; without any, all installed weights.",
            show_default=False,
        ),
    ] = None,
    checkpoints_dir: CheckpointsDir = None,
    quiet: Quiet = False,
) -> None:
    """Check weights against their published or recorded sums, and for damage.

    Example: cryoseg weights verify etsam_stage1
    """
    from cryoseg.cli.console import batch_console
    from cryoseg.pipelines.data.weights import verify_weights

    with batch_console(quiet=quiet) as console:
        report = verify_weights(names or [], checkpoints_dir=checkpoints_dir, on_event=console)
    console.summary("Verify", report.rows)
    if not report.rows:
        typer.echo("No weights are installed; see `cryoseg weights list`.")
    raise typer.Exit(report.exit_status)
