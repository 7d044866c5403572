"""Messages name options of the command that prints them, or the command that has the option."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from safetensors.numpy import save_file
from typer.testing import CliRunner

import cryoseg
from cryoseg.cli.app import app
from cryoseg.errors import CryosegError

ROOT: Any = typer.main.get_command(app)
SAMPLES = Path(cryoseg.__file__).parent / "samples"
VOLUME = SAMPLES / "sample_0000_labels.mrc.gz"
MICROGRAPH = SAMPLES / "particles_0002_micrograph.mrc"
PICKS = SAMPLES / "particles_0002_particles.star"
CENTERED = "data_\nloop_\n" + "".join(f"_rlnCenteredCoordinate{axis}Angst\n" for axis in "XYZ") + "1 2 3\n"
LIST = f"data_\nloop_\n_rlnMicrographName\n{MICROGRAPH}\n"
BOX = "1 2 3 4\n5 6 7 8\n"


def options_of(words: list[str]) -> set[str]:
    """Return the options of the command with which a line begins."""
    command = ROOT
    for word in words:
        if not hasattr(command, "commands") or word not in command.commands:
            break
        command = command.commands[word]
    return {name for option in command.params for name in (*option.opts, *option.secondary_opts)}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "centered.star").write_text(CENTERED)
    (tmp_path / "list.star").write_text(LIST)
    (tmp_path / "a.coords").write_text("1 2 3\n4 5 6\n")
    (tmp_path / "file").touch()
    (tmp_path / "folder.star").mkdir()
    save_file({"a": np.zeros(2)}, tmp_path / "other.safetensors")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "1000")
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("train finetune list.star -o run", "without labels"),
        ("train promise list.star -o run", "without labels"),
        ("train sam list.star -o run", "without labels"),
        ("train membrane list.star -o run", "without labels"),
        ("train membrane nothing -o run --start other.safetensors", "nothing"),
        (f"train finetune {MICROGRAPH} --picks centered.star --particle-diameter 180 -o run", "unbinned"),
        (f"measure {VOLUME} --picks centered.star -o out", "unbinned"),
        (f"view {VOLUME} --picks centered.star -o a.html", "unbinned"),
        ("evaluate picks centered.star centered.star --radius 10A", "unbinned"),
        ("evaluate picks a.coords a.coords --radius 2px", "columns may be"),
        ("convert centered.star a.csv", "unbinned"),
        (f"convert {PICKS} file/a.star", "not a folder"),
        (f"convert {PICKS} folder.star", "a folder of this name"),
        (f"convert {PICKS} a.box", "size of the particle"),
        (f"view {VOLUME} -o file/a.html", "not a folder"),
        (f"evaluate picks {PICKS} {PICKS} --radius 10px -o file/a.json", "not a folder"),
        (f"segment {VOLUME} -m other.safetensors -o out", "no cryoseg metadata"),
        (f"segment {VOLUME} -o file/out", "not a folder"),
    ],
)
def test_messages_name_options_that_exist(line: str, words: str) -> None:
    arguments = shlex.split(line)
    outcome = CliRunner().invoke(app, arguments)
    error = outcome.exception
    assert isinstance(error, SystemExit | CryosegError), error
    text = " ".join(f"{outcome.output} {'' if isinstance(error, SystemExit) else error}".split())
    assert words in text, text
    known = options_of(arguments)
    for named in re.findall(r"`cryoseg ([^`]*)`", text):
        known |= options_of(named.split())
    assert not {*re.findall(r"(?<![\w-])--[a-z][\w-]+", text)} - known, text
