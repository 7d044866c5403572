"""Wrong lists of RELION: every command that reads them answers with one sentence, and no traceback."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cryoseg.cli.app import app
from cryoseg.errors import CryosegError
from cryoseg.io.images.volumes import write_logits
from cryoseg.types import Geometry

OPTICS = "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnMicrographPixelSize #2\n1 4.0\n2 8.0\n\n"
IMAGES = "data_micrographs\n\nloop_\n_rlnMicrographName #1\n_rlnOpticsGroup #2\n"
BAD = {
    "no column of names": (
        OPTICS + IMAGES.replace("Micrograph", "Movie") + "a.mrc 1\n",
        "names no images",
    ),
    "no column of groups": (
        OPTICS + IMAGES.replace("_rlnOpticsGroup #2\n", "") + "a.mrc\n",
        "no column rlnOpticsGroup",
    ),
    "two pixel sizes": (OPTICS + IMAGES + "a.mrc 1\na.mrc 2\n", "the pixel sizes 4 A and 8 A"),
    "unknown group": (OPTICS + IMAGES + "a.mrc 3\n", "not in the optics table"),
    "no quotes": (OPTICS + IMAGES + "my a.mrc 1\n", "a value with blanks needs quotes"),
    "no rows": (OPTICS + IMAGES, "its table has no rows"),
    "missing file": (OPTICS + IMAGES + "none.mrc 1\n", "none.mrc: no such file"),
}
COMMANDS = (
    "segment {list} -o out --dry-run",
    "segment {list} -o out --device cpu",
    "pick {list} -m particle-tiny --particle-diameter 40 -o out --dry-run",
    "pick {list} -m particle-tiny --particle-diameter 40 -o out --device cpu",
    "postprocess {list} -o out",
    "measure {list} -o out",
    "evaluate segmentation {list} a.mrc",
    "train membrane {list} --labels . -o run",
    "train etsam-stage1 {list} --labels . -o run",
    "train finetune {list} -p picks.csv -o run",
    "train cet-pick -t {list} -p picks.csv --particle-diameter 40 -o run",
    "relion pick --in_mics {list} --o External/job001/ --model particle-tiny --particle-diameter 40",
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_logits(tmp_path / "a.mrc", np.zeros((4, 32, 32), np.float32), Geometry(), label="x")
    (tmp_path / "picks.csv").write_text("x,y,z\n1,2,3\n")
    for number, (text, _) in enumerate(BAD.values()):
        # Windows line ends are legal, and change no message.
        (tmp_path / f"{number}.star").write_bytes(text.replace("\n", "\r\n").encode())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "1000")
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_bad_lists_are_one_sentence(folder: Path, command: str) -> None:
    for number, (kind, (_, words)) in enumerate(BAD.items()):
        outcome = CliRunner().invoke(app, shlex.split(command.format(list=f"{number}.star")))
        assert outcome.exit_code == 1, (kind, outcome.output)
        error = outcome.exception
        assert isinstance(error, SystemExit | CryosegError), (kind, error)
        text = " ".join(f"{outcome.output} {'' if isinstance(error, SystemExit) else error}".split())
        assert words in text, (kind, text)
        assert "Traceback" not in text
