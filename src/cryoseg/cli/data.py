"""`cryoseg data`: download published test sets and single runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Exit

from cryoseg.cli.options import DryRun, OutputDir, Verbosity
from cryoseg.config.fetch_data import FetchConfig

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
    *,
    output_dir: OutputDir = Path("data/collection"),
    dry_run: DryRun = False,
    config: FetchConfig,
    verbosity: Verbosity,
) -> None:
    """Fetch runs and data sets; the same command continues an interrupted download.

    Example: cryoseg data fetch cryoppp_lite:10017 --dry-run
    """
    from cryoseg.events import Note, Row, Status
    from cryoseg.pipelines.data.fetch_data import fetch_planned, readable_bytes
    from cryoseg.pipelines.data.fetch_plan import plan_fetch

    with verbosity.console() as console:
        plan = plan_fetch(wanted, output_dir, config)
        for planned in plan:
            content = f"{len(planned.files)} files, {readable_bytes(planned.size)}" if planned.files else "-"
            console(Note(text=f"{planned.name}: {content}"))
            for file in planned.files:
                size = "size unknown" if file.size is None else readable_bytes(file.size)
                console(Note(text=f"  {file.path}  {size}  {file.url}", detail=not dry_run))
        console(Note(text=f"Total: {readable_bytes(sum(planned.size for planned in plan))} to {output_dir}"))
        if dry_run:
            rows = [Row(name=one.name, status=Status.FAILED, message=one.error) for one in plan if one.error]
            for row in rows:
                console(row)
            raise Exit(int(bool(rows)))
        report = fetch_planned(plan, on_event=console)
    console.summary("Fetch", report.rows, columns=("files", "size"))
    raise Exit(report.exit_status)
