"""`cryoseg doctor`: check the installation and the computer."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from typer import Exit

from cryoseg.cli.options import CheckpointsDir, Device
from cryoseg.config.setting import setting

_STYLE = {"ok": "green", "doubtful": "yellow", "wrong": "bold red"}


def doctor(
    device: Device = "auto",
    checkpoints_dir: CheckpointsDir = None,
    self_test: Annotated[bool, setting(help="Segment a small sample and check the answer.")] = True,
    as_json: Annotated[bool, setting(help="Print JSON instead of a table.", flags=("--json",))] = False,
) -> None:
    """Examine this installation and this machine; exit status 1 if something is wrong.

    Example: cryoseg doctor
    """
    from cryoseg import __version__
    from cryoseg.pipelines.doctor import examine

    diagnosis = examine(device=device, checkpoints_dir=checkpoints_dir, self_test=self_test)
    if as_json:
        report = {
            "cryoseg": __version__,
            "ok": diagnosis.is_well,
            "checks": [asdict(check) for check in diagnosis.checks],
        }
        typer.echo(json.dumps(report, indent=2))
        raise Exit(int(not diagnosis.is_well))
    from rich.text import Text

    from cryoseg.cli.console import print_table

    rows = [
        (check.name, Text(check.verdict.value, style=_STYLE[check.verdict]), check.found, check.advice)
        for check in diagnosis.checks
    ]
    print_table("Doctor", ("check", "verdict", "found", "what to do"), rows)
    typer.echo("Everything needed is here." if diagnosis.is_well else "Something is wrong; see above.")
    raise Exit(int(not diagnosis.is_well))
