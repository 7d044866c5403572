"""`cryoseg data`: bring published test sets and single runs to this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer
from typer import Argument, Exit, Option

from cryoseg.cli.batch_options import DryRun
from cryoseg.cli.options import OutputDir, Quiet, Split, Verbose
from cryoseg.config.fetch_data import FetchConfig, VolumeFormat

app = typer.Typer(no_args_is_help=True, help="Fetch published tomograms, annotations and micrographs.")


@app.callback()
def _root() -> None:
    """Fetch published tomograms, annotations and micrographs."""


@app.command()
def fetch(
    wanted: Annotated[
        list[str],
        Argument(
            help="A .csv list in ETSAM's form, DATASET/RUN of the CryoET Data Portal (such as 10000/247), "
            "cryoppp:ID or cryoppp_lite:ID (such as cryoppp:10017).",
            show_default=False,
        ),
    ],
    output_dir: OutputDir = Path("data/collection"),
    dry_run: DryRun = False,
    annotations: Annotated[
        bool, Option(help="Of a single run, fetch its annotations too: masks and points.")
    ] = FetchConfig.annotations,
    volume_format: Annotated[
        VolumeFormat, Option(help="Of tomograms from the CryoET Data Portal.")
    ] = FetchConfig.volume_format,
    tomogram_id: Annotated[
        Optional[int],  # noqa: UP045
        Option(help="Which tomogram of a single run.", show_default="the portal's first"),
    ] = FetchConfig.tomogram_id,
    split: Split = FetchConfig.split,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Fetch runs and data sets; the same command goes on where it was interrupted.

    Example: cryoseg data fetch cryoppp_lite:10017 --dry-run
    """
    from cryoseg.cli.console import batch_console
    from cryoseg.events import Note, Row, Status
    from cryoseg.pipelines.data.fetch_data import fetch_planned, readable_bytes
    from cryoseg.pipelines.data.fetch_plan import plan_fetch

    config = FetchConfig(
        volume_format=volume_format, annotations=annotations, tomogram_id=tomogram_id, split=split
    )
    with batch_console(quiet=quiet, verbose=verbose) as console:
        plan = plan_fetch(wanted, output_dir, config)
        for planned in plan:
            told = f"{len(planned.files)} files, {readable_bytes(planned.size)}" if planned.files else "-"
            console(Note(text=f"{planned.name}: {told}"))
            for file in planned.files:
                size = "size not told" if file.size is None else readable_bytes(file.size)
                console(Note(text=f"  {file.path}  {size}  {file.url}", detail=not dry_run))
        console(Note(text=f"In all: {readable_bytes(sum(planned.size for planned in plan))} to {output_dir}"))
        if dry_run:
            rows = [Row(name=one.name, status=Status.FAILED, message=one.error) for one in plan if one.error]
            for row in rows:
                console(row)
            raise Exit(int(bool(rows)))
        report = fetch_planned(plan, on_event=console)
    console.summary("Fetch", report.rows, columns=("files", "size"))
    raise Exit(report.exit_status)
