"""`cryoseg rerun`: repeat a run from the record that it left."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

from typer import Argument, Exit, Option

from cryoseg.cli.batch_options import DryRun
from cryoseg.cli.options import CheckpointsDir, Device, Overwrite, Quiet, Verbose
from cryoseg.errors import ConfigError, CryosegError


def rerun(
    records: Annotated[
        list[Path],
        Argument(
            help="Records that segment, pick, postprocess, segment-image, simulate or evaluate left.",
            metavar="RECORD.json",
            show_default=False,
        ),
    ],
    output_dir: Annotated[
        Optional[Path],  # noqa: UP045
        Option(
            "--output-dir",
            "-o",
            "--out-folder",
            "--output",
            help="Folder for the outputs; made if missing.",
            show_default="the record's",
        ),
    ] = None,
    input_file: Annotated[
        Optional[Path],  # noqa: UP045
        Option("--input", help="The input, if it lies elsewhere now.", show_default="where it was"),
    ] = None,
    model: Annotated[
        Optional[str],  # noqa: UP045
        Option(
            "--model",
            "-m",
            "--checkpoint",
            help="The model file, if it lies elsewhere now.",
            show_default="where it was",
        ),
    ] = None,
    anyway: Annotated[
        bool, Option("--anyway", help="Run although the input or the weights are not those of the record.")
    ] = False,
    dry_run: DryRun = False,
    checkpoints_dir: CheckpointsDir = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Repeat a run with the settings, the weights and the input that its record names.

    Example: cryoseg rerun membranes/ts_01_membrane.json -o again
    """
    from cryoseg.cli.console import batch_console
    from cryoseg.events import Note, Row, Status, Warn
    from cryoseg.pipelines.rerun import Elsewhere, plan_rerun, require_same

    if len(records) > 1 and input_file is not None:
        raise ConfigError("--input: is for one record; move the inputs beside their records for several.")
    elsewhere = Elsewhere(
        input=input_file, model=Path(model) if model else None, checkpoints_dir=checkpoints_dir
    )
    rows: list[Row] = []
    with batch_console(quiet=quiet, verbose=verbose) as console:
        for record in records:
            try:
                plan = plan_rerun(record, device=device, elsewhere=elsewhere)
                for note in plan.notes:
                    console(Note(text=f"{record.name}: {note}."))
                if anyway:
                    for difference in plan.differences:
                        console(Warn(text=f"{record.name}: {difference}."))
                else:
                    require_same(plan)
                folder = output_dir or plan.folder
                if dry_run:
                    on = f"run on {plan.input} and " if plan.input else ""
                    console(Note(text=f"{record.name}: would {on}write to {folder}."))
                    continue
                done = plan(folder, overwrite=overwrite, on_event=console).rows
            except CryosegError as error:
                done = [Row(name=record.name, status=Status.FAILED, message=str(error))]
                console(done[0])
            rows.extend(done)
            for row in done:
                if row.status is Status.DONE:
                    console(Note(text=plan.compare(row.outputs[-1])))
    if rows:
        console.summary("Repeated runs", rows)
    raise Exit(int(any(row.status is Status.FAILED for row in rows)))
