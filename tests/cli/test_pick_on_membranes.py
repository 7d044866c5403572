"""`cryoseg pick --on-membrane` on spheres: coordinates, orientations, formats, batches and refusals."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from cryoseg.cli.app import app
from cryoseg.errors import CryosegError
from cryoseg.io.picks.picks import read_picks
from cryoseg.types import Picks

RUNNER = CliRunner()
RADIUS, CENTER = 14.0, np.array([20.4, 21.6, 22.0])  # voxels, z, y, x
FORMATS = {
    "star": "_particles.star",
    "star-relion5": "_particles_relion5.star",
    "dynamo": "_particles.tbl",
    "motl": "_particles_motl.em",
    "copick": "_particles_copick.json",
}


def write_sphere(path: Path, *, value: float = 1, dtype: type = np.int8, voxel_size: float = 10.0) -> Path:
    offsets = np.mgrid[:44, :44, :44] - CENTER[:, None, None, None]
    shell = np.abs(np.linalg.norm(offsets, axis=0) - RADIUS) < 2
    path.parent.mkdir(parents=True, exist_ok=True)
    with mrcfile.new(
        path, np.where(shell, value, -value if dtype is np.float32 else 0).astype(dtype)
    ) as file:
        file.voxel_size = voxel_size
    return path


def pick(*arguments: str | Path) -> Result:
    outcome = RUNNER.invoke(app, ["pick", "--on-membrane", "--no-preview", "-q", *map(str, arguments)])
    if isinstance(outcome.exception, CryosegError):
        raise outcome.exception
    return outcome


def directions(picks: Picks) -> tuple[np.ndarray, np.ndarray]:
    """Return unit vectors (x, y, z) from the center of the sphere to the picks, and their z axes."""
    ahead = (picks.centers - CENTER)[:, ::-1]
    assert picks.rotations is not None
    return ahead / np.linalg.norm(ahead, axis=1)[:, None], picks.rotations @ [0, 0, 1]


def test_every_format_holds_points_on_the_sphere_that_look_outward(tmp_path: Path) -> None:
    mask = write_sphere(tmp_path / "ts_01_membrane_mask.mrc")
    relion = ["--unbinned-pixel-size", "5", "--unbinned-size", "88x88x88"]
    formats = [word for one in FORMATS for word in ("-f", one)]
    outcome = pick(mask, "--spacing", "6nm", "-o", tmp_path / "out", *formats, *relion)
    assert outcome.exit_code == 0, outcome.output
    for flavor, ending in FORMATS.items():
        path = tmp_path / "out" / f"ts_01{ending}"
        if flavor in ("star-relion5", "copick"):  # in angstrom; convert knows the frames
            path = tmp_path / f"{flavor}.ndjson"
            sent = ["convert", str(tmp_path / "out" / f"ts_01{ending}"), str(path), "--tomogram", str(mask)]
            assert RUNNER.invoke(app, [*sent, *relion]).exit_code == 0
        (picks,) = read_picks(path).values()
        assert 40 < len(picks) < 55  # Random discs cover 0.547 of 4 pi 14^2 voxels; each has 3^2 pi.
        outward, ahead = directions(picks)
        assert np.linalg.norm(picks.centers - CENTER, axis=1) == pytest.approx(RADIUS, abs=0.4), flavor
        assert (outward * ahead).sum(1).min() > 0.99, flavor
    for file in ("ts_01_particles.star", "ts_01_particles.tbl"):
        assert list(read_picks(tmp_path / "out" / file)) == ["ts_01"]


def test_both_sides_look_in_both_directions_and_an_offset_moves_them_apart(tmp_path: Path) -> None:
    mask = write_sphere(tmp_path / "ts_01_mask.mrc")
    assert pick(mask, "--spacing", "80A", "--side", "both", "--offset", "3nm", "-o", tmp_path).exit_code == 0
    (picks,) = read_picks(tmp_path / "ts_01_particles.star").values()
    outward, ahead = directions(picks)
    agree = (outward * ahead).sum(1)
    assert np.abs(agree).min() > 0.98
    assert abs(np.count_nonzero(agree > 0) - np.count_nonzero(agree < 0)) < 8
    radii = np.linalg.norm(picks.centers - CENTER, axis=1)
    assert radii == pytest.approx(np.where(agree > 0, RADIUS + 3, RADIUS - 3), abs=0.5)
    assert set(picks.columns["membrane_component"]) == {"1"}


def test_points_depend_on_the_seed_alone(tmp_path: Path) -> None:
    mask = write_sphere(tmp_path / "ts_01_mask.mrc")
    texts = []
    for number, seed in enumerate((1, 1, 2)):
        assert pick(mask, "--seed", str(seed), "-f", "csv", "-o", tmp_path / str(number)).exit_code == 0
        texts.append((tmp_path / str(number) / "ts_01_particles.csv").read_text())
    assert texts[0] == texts[1] != texts[2]


def test_a_folder_gives_one_set_for_each_tomogram_from_its_best_mask(tmp_path: Path) -> None:
    folder = tmp_path / "masks"
    best = write_sphere(folder / "ts_01_membrane_post_processed_mask.mrc")
    for name in ("ts_01_membrane_mask.mrc", "ts_02_membrane_mask.mrc"):
        write_sphere(folder / name)
    write_sphere(folder / "ts_02_membrane_logits.mrc", value=3, dtype=np.float32)
    outcome = pick(folder, "-o", tmp_path / "out", "--report", tmp_path / "report.csv")
    assert outcome.exit_code == 0, outcome.output
    assert (tmp_path / "report.csv").read_text().count("is used instead") == 2
    assert best.name in (tmp_path / "report.csv").read_text()
    assert list(read_picks(tmp_path / "out" / "particles.star")) == ["ts_01", "ts_02"]
    # A second run finds all of it finished.
    again = pick(folder, "-o", tmp_path / "out", "--report", tmp_path / "again.csv")
    assert again.exit_code == 0
    assert (tmp_path / "again.csv").read_text().count("kept") >= 2


def test_logits_are_cut_at_the_given_threshold(tmp_path: Path) -> None:
    logits = write_sphere(tmp_path / "ts_01_logits.mrc", value=3, dtype=np.float32)
    assert pick(logits, "--logit-threshold", "0", "-o", tmp_path).exit_code == 0
    assert len(read_picks(tmp_path / "ts_01_particles.star")["ts_01"]) > 10


def test_a_mask_without_membranes_gives_an_empty_file_and_says_so(tmp_path: Path) -> None:
    mask = tmp_path / "empty_mask.mrc"
    with mrcfile.new(mask, np.zeros((10, 12, 14), np.int8)) as file:
        file.voxel_size = 10.0
    outcome = pick(mask, "-o", tmp_path)
    assert outcome.exit_code == 0
    assert "no component of the mask is a sheet" in " ".join(outcome.output.split())
    assert sum(map(len, read_picks(tmp_path / "empty_particles.star").values())) == 0


def test_a_mask_without_voxel_size_is_refused(tmp_path: Path) -> None:
    mask = write_sphere(tmp_path / "ts_01_mask.mrc", voxel_size=0.0)
    outcome = pick(mask, "-o", tmp_path)
    assert outcome.exit_code == 1
    assert "--pixel-size" in outcome.output
    assert pick(mask, "--pixel-size", "10", "-o", tmp_path).exit_code == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--on-membrane", "--min-distance", "10"], "--min-distance: has no effect with --on-membrane"),
        (["--on-membrane", "--mask", "m.mrc"], "--mask: has no effect with --on-membrane"),
        (["--on-membrane", "-m", "other"], "--model: has no effect with --on-membrane"),
        (["--on-membrane", "-f", "box"], "--format box: has no effect with --on-membrane"),
        (["--on-membrane", "--spacing", "wide"], "--spacing wide: give a length in angstrom"),
        (["--spacing", "50A"], "--spacing: has no effect without --on-membrane"),
    ],
)
def test_options_of_the_other_task_are_refused(options: list[str], words: str) -> None:
    outcome = RUNNER.invoke(app, ["pick", "x.mrc", *options])
    assert words in str(outcome.exception)
