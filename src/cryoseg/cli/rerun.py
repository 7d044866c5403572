"""`cryoseg rerun`: repeat a run from its record."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Exit

from cryoseg.cli.config_file import find_command, option_parameters, with_options
from cryoseg.cli.options import CheckpointsDir, Device, DryRun, Overwrite, Verbosity, output_dir_setting
from cryoseg.config.invocation import Repetition, repeating
from cryoseg.config.setting import setting
from cryoseg.errors import ConfigError, CryosegError

if TYPE_CHECKING:
    from cryoseg.pipelines.rerun import Rerun


def rerun(
    context: typer.Context,
    records: Annotated[
        list[Path],
        Argument(
            help="Records that segment, pick, postprocess, segment-image, simulate or evaluate have written.",
            metavar="RECORD.json",
            show_default=False,
        ),
    ],
    *,
    output_dir: Annotated[Path | None, output_dir_setting(shown="the record's")] = None,
    input_file: Annotated[
        Path | None,
        setting(help="The input, if it has been moved.", flags=("--input",), shown="where it was"),
    ] = None,
    model: Annotated[
        str | None,
        setting(
            help="The model file, if it has been moved.",
            flags=("--model", "-m", "--checkpoint"),
            shown="where it was",
        ),
    ] = None,
    anyway: Annotated[
        bool, setting(help="Run although the input or the weights are not those of the record.")
    ] = False,
    dry_run: DryRun = False,
    checkpoints_dir: CheckpointsDir = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    verbosity: Verbosity,
) -> None:
    """Repeat a run with the options, the weights and the input that its record names.

    Example: cryoseg rerun membranes/ts_01_membrane.json -o again
    """
    from cryoseg.cli.console import BatchConsole
    from cryoseg.events import Note
    from cryoseg.pipelines.rerun import Elsewhere, plan_rerun

    if len(records) > 1 and input_file is not None:
        raise ConfigError("--input: is for one record. With several, move the inputs beside their records.")
    console = BatchConsole(quiet=verbosity.quiet, verbose=verbosity.verbose, progress=verbosity.progress)
    elsewhere = Elsewhere(input=input_file, model=model)
    settings = {
        "device": device,
        "dry-run": dry_run,
        "overwrite": overwrite,
        "quiet": verbosity.quiet,
        "verbose": verbosity.verbose,
        "progress": verbosity.progress.value,
        **({} if checkpoints_dir is None else {"checkpoints-dir": str(checkpoints_dir)}),
    }
    worst = 0
    for record in records:
        try:
            plan = plan_rerun(record, device=device, elsewhere=elsewhere)
            for note in plan.notes:
                console(Note(text=f"{record.name}: {note}."))
            folder = str(output_dir or record.parent)
            settings |= {"output-dir": folder, "scores": folder}
            if dry_run:
                on = f"run on {plan.input} and " if plan.input else ""
                console(Note(text=f"{record.name}: would {on}write to {folder}."))
            repetition = Repetition(record=record, content=plan.content, anyway=anyway)
            with repeating(repetition):
                status = _run(context, plan, settings)
            for written in repetition.written:
                console(Note(text=plan.compare(written)))
        except CryosegError as error:
            typer.echo(f"Error: {error}", err=True)
            status = 1
        worst = max(worst, status)
        if status > 128:  # interrupted
            break
    raise Exit(worst)


def _run(context: typer.Context, plan: Rerun, settings: dict[str, Any]) -> int:
    """Run the command of a record with its options and other settings; return its exit status."""
    bare = find_command(context.find_root(), plan.command, source=plan.record)
    own = {name: settings[name] for name in option_parameters(bare.command) if name in settings}
    if settings["dry-run"] and "dry-run" not in own:
        return 0
    inner = with_options(bare, plan.options | own, source=plan.record)
    try:
        with inner:
            inner.command.invoke(inner)
    except Exit as leave:
        return leave.exit_code
    return 0
