"""Commands are imported when they are called, and options that go together are one parameter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from cryoseg.cli.app import COMMANDS, app
from cryoseg.cli.option_groups import expand

RUNNER = CliRunner()


def loaded_by(code: str) -> set[str]:
    """Modules of the command line that a program has imported in the end."""
    text = f"{code}\nimport sys\nprint(*sorted(m for m in sys.modules if m.startswith('cryoseg.cli.')))"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_each_command_says(name: str) -> None:
    root: Any = typer.main.get_command(app)
    command = root.commands[name]
    assert command.name == name
    assert " ".join(command.help.split("\n\n")[0].split()) == COMMANDS[name].summary


def test_help_imports_no_command_and_a_command_no_other() -> None:
    run = "from typer.testing import CliRunner\nfrom cryoseg.cli.app import app\n"
    modules = {f"cryoseg.cli.{entry.place.partition(':')[0]}" for entry in COMMANDS.values()}
    assert not modules & loaded_by(run + "assert 'segment' in CliRunner().invoke(app, ['--help']).output")
    ran = loaded_by(run + "assert not CliRunner().invoke(app, ['convert', '--help']).exit_code")
    assert modules & ran == {"cryoseg.cli.convert"}


def test_an_unknown_command_is_told_the_nearest() -> None:
    outcome = RUNNER.invoke(app, ["segmnt"])
    assert outcome.exit_code == 2
    assert "'segment'" in outcome.output


def test_home_is_expanded_in_paths_and_texts_of_every_command(monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, Any] = {}

    def command(folder: Path, inputs: list[str], name: str, size: float) -> None:
        found.update(folder=folder, inputs=inputs, name=name, size=size)

    monkeypatch.setenv("HOME", "/home/ada")
    expand(command)(folder=Path("~/out"), inputs=["~/a*", "@~/l.txt"], name="a~b", size=1.0)
    assert found == {
        "folder": Path("/home/ada/out"),
        "inputs": ["/home/ada/a*", "@~/l.txt"],
        "name": "a~b",
        "size": 1.0,
    }
