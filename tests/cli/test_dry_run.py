"""A dry run refuses what the run refuses, in the same words."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest
from typer.testing import CliRunner

from cryoseg.cli.app import app

RUNNER = CliRunner()
pytestmark = pytest.mark.filterwarnings("ignore:Data array contains NaN")


def write(path: Path, shape: tuple[int, ...], voxel_size: float = 12.0, *, nan: bool = False) -> None:
    data = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    if nan:
        data[0, 3, 3] = np.nan
    with mrcfile.new(path, data) as file:
        file.voxel_size = voxel_size


@pytest.fixture
def bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("movie.eer", "notes.docx", "fake.mrc", "fake.mrc.gz", "fake.h5"):
        Path(name).write_bytes(b"II+" + bytes(3000))
    write(Path("good.mrc"), (4, 64, 64))
    Path("cut.mrc").write_bytes(Path("good.mrc").read_bytes()[:-100])
    write(Path("nan.mrc"), (4, 64, 64), nan=True)
    write(Path("n" * 240 + ".mrc"), (4, 64, 64))
    write(Path("flat.mrc"), (1, 64, 64), 0.0)
    write(Path("nan_flat.mrc"), (1, 64, 64), nan=True)
    write(Path("tiny.mrc"), (1, 8, 8))
    Path("empty.mrc").touch()
    Path("list.star").write_text("data_\nloop_\n_rlnMicrographName #1\n" + "\n".join(NAMES) + "\n")
    Path("coordinates.star").write_text("data_\nloop_\n_rlnCoordinateX #1\n1\n")
    Path("cut.star").write_text("data_\nloop_\n_rlnMicrographName #1\n_rlnOpticsGroup #2\na.mrc\n")
    return tmp_path


def refusals(*words: str) -> list[str]:
    result = RUNNER.invoke(app, [*words])
    assert result.exit_code == 1, result.output
    assert "defect" not in result.output
    return sorted(line for line in result.output.splitlines() if line.startswith("Error"))


SEGMENT = ["segment", "--model", "membrane-tiny"]
PICK = ["pick", "--model", "particle-tiny", "--particle-diameter", "200"]
NAMES = ["movie.eer", "notes.docx", "fake.mrc", "fake.mrc.gz", "fake.h5", "cut.mrc", "empty.mrc", "gone.mrc"]


@pytest.mark.parametrize(
    ("command", "more"),
    [
        (SEGMENT, ["nan.mrc", "n" * 240 + ".mrc"]),
        (PICK, ["good.mrc", "flat.mrc", "nan_flat.mrc", "tiny.mrc"]),
        ([*PICK[:3], "--particle-diameter-px", "20", "--low-pass", "20"], ["flat.mrc"]),
        (["postprocess", "--step", "thin-noise"], ["nan.mrc"]),
    ],
)
def test_dry_run_agrees_with_the_run(bad: Path, command: list[str], more: list[str]) -> None:
    inputs = [*NAMES, *more]
    dry = refusals(*command, *inputs, "-o", "out", "--dry-run")
    assert not Path("out").exists()
    assert dry == refusals(*command, *inputs, "-o", "out")
    assert len(dry) == len(inputs)
    assert not [path for path in Path("out").iterdir() if not path.name.startswith(".")]


@pytest.mark.parametrize("command", [SEGMENT, PICK])
def test_dry_run_agrees_with_the_run_on_a_list_of_relion(bad: Path, command: list[str]) -> None:
    inputs = ["list.star", "coordinates.star", "cut.star"]
    dry = refusals(*command, *inputs, "-o", "out", "--dry-run")
    assert dry == refusals(*command, *inputs, "-o", "out")
    assert len(dry) == len(NAMES) + 2


def test_dry_run_of_an_evaluation_agrees_with_the_run(bad: Path) -> None:
    Path("pred").mkdir()
    Path("truth").mkdir()
    for name, shape in (("a", (4, 64, 64)), ("b", (4, 64, 32)), ("c", (4, 64, 64))):
        for folder in ("pred", "truth"):
            data = np.zeros((4, 64, 64) if folder == "truth" else shape, np.int8)
            data[:, 10:20] = 1
            if (name, folder) == ("c", "truth"):
                data[:, 30:40] = 2
            mrcfile.write(Path(folder, f"{name}.mrc"), data)
    words = ["evaluate", "segmentation", "pred", "truth", "--scores", "scores"]
    dry = refusals(*words, "--dry-run")
    assert len(dry) == 2
    assert dry == refusals(*words)
