"""Coordinate files of micrographs: values computed by hand, and round trips."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import starfile
from typer.testing import CliRunner

from cryoseg.cli.app import app
from cryoseg.config.pick import FLAT_FORMATS, PickFormat
from cryoseg.errors import InputError, OutputError
from cryoseg.io.picks.picks import read_picks, write_picks
from cryoseg.types import Picks

RUNNER = CliRunner()
NAME = "Movies/mic_1.5A.mrc"
YX = np.array([[20.0, 30.0], [128.25, 300.0], [4.0, 5.0]])
PICKS = Picks(
    centers=YX,
    scores=np.array([0.9, 0.5, 0.25], np.float32),
    shape=(256, 512),
    pixel_size=1.5,
    diameter_px=40.0,
)


def written(tmp_path: Path, flavor: PickFormat, picks: Picks = PICKS) -> Path:
    path = tmp_path / f"picks{flavor.suffix}"
    write_picks(path, {NAME: picks}, flavor=flavor)
    return path


def test_star_has_relions_columns_and_the_whole_path(tmp_path: Path) -> None:
    path = written(tmp_path, PickFormat.STAR)
    table = starfile.read(path)
    assert list(table.columns) == [
        "rlnMicrographName",
        "rlnCoordinateX",
        "rlnCoordinateY",
        "rlnAutopickFigureOfMerit",
    ]
    assert list(table["rlnMicrographName"]) == [NAME] * 3
    assert list(table["rlnCoordinateX"]) == [30.0, 300.0, 5.0]
    assert list(table["rlnCoordinateY"]) == [20.0, 128.25, 4.0]
    found = read_picks(path)[NAME]
    np.testing.assert_allclose(found.centers, YX)
    np.testing.assert_allclose(found.scores, PICKS.scores)


def test_cryosparc_star_names_files_without_folders(tmp_path: Path) -> None:
    table = starfile.read(written(tmp_path, PickFormat.CRYOSPARC))
    assert list(table["rlnMicrographName"]) == ["mic_1.5A.mrc"] * 3
    assert list(table["rlnCoordinateY"]) == [20.0, 128.25, 4.0]


def test_box_is_corner_and_side_in_whole_pixels(tmp_path: Path) -> None:
    path = written(tmp_path, PickFormat.BOX)
    # 30 - 20 = 10 and 20 - 20 = 0; 128.25 - 20 = 108.25; a box may begin outside.
    assert path.read_text() == "10\t0\t40\t40\n280\t108\t40\t40\n-15\t-16\t40\t40\n"
    found = read_picks(path)[""]
    np.testing.assert_allclose(found.centers, [[20, 30], [128, 300], [4, 5]])
    assert found.diameter_px == 40
    assert found.scores is None


def test_box_of_an_odd_side_is_made_even(tmp_path: Path) -> None:
    path = written(tmp_path, PickFormat.BOX, replace(PICKS, diameter_px=41.2))
    assert path.read_text().splitlines()[0] == "9\t-1\t42\t42"


def test_cbox_keeps_fractions_and_scores(tmp_path: Path) -> None:
    path = written(tmp_path, PickFormat.CBOX)
    tables = starfile.read(path, always_dict=True)
    table = tables["cryolo"]
    assert list(table["CoordinateX"]) == [10.0, 280.0, -15.0]
    assert list(table["CoordinateY"]) == [0.0, 108.25, -16.0]
    assert set(table["Width"]) == {40.0}
    assert "_cbox_format_version" in path.read_text()
    assert "data_cryolo_include" in path.read_text()
    found = read_picks(path)[""]
    np.testing.assert_allclose(found.centers, YX)
    np.testing.assert_allclose(found.scores, PICKS.scores)
    assert found.diameter_px == 40


def test_cbox_as_cryolo_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "a.cbox"
    path.write_text(
        "\ndata_global\n\n_cbox_format_version 1.0\n\ndata_cryolo\n\nloop_\n"
        "_CoordinateX #1\n_CoordinateY #2\n"
        "_CoordinateZ #3\n_Width #4\n_Height #5\n_Depth #6\n_EstWidth #7\n_EstHeight #8\n_Confidence #9\n"
        "_NumBoxes #10\n_Angle #11\n10.5 20 <NA> 40 40 <NA> 36 38 0.75 <NA> <NA>\n"
        "1 2 <NA> 40 40 <NA> 36 38 0.5 <NA> <NA>\n\ndata_cryolo_include\n\nloop_\n_slice_index #1\n\n"
    )
    found = read_picks(path)[""]
    np.testing.assert_allclose(found.centers, [[40.0, 30.5], [22.0, 21.0]])
    assert found.scores is not None
    assert list(found.scores) == [0.75, 0.5]
    assert found.diameter_px == 36


def test_cryoppp_table(tmp_path: Path) -> None:
    path = written(tmp_path, PickFormat.CRYOPPP)
    lines = path.read_text().splitlines()
    assert lines[:2] == ["X-Coordinate,Y-Coordinate,Diameter", "30.00,20.00,40"]
    found = read_picks(path)[""]
    np.testing.assert_allclose(found.centers, YX)
    assert found.diameter_px == 40


def test_a_table_with_radii(tmp_path: Path) -> None:
    path = tmp_path / "particles.csv"
    path.write_text("image,x,y,radius\na.jpg,10,20,54\nb.jpg,1,2,50\n")
    found = read_picks(path)
    assert [picks.diameter_px for picks in found.values()] == [108.0, 100.0]


@pytest.mark.parametrize("flavor", FLAT_FORMATS)
def test_no_picks_can_be_written_and_read(tmp_path: Path, flavor: PickFormat) -> None:
    nothing = replace(PICKS, centers=np.empty((0, 2)), scores=np.empty(0, np.float32))
    path = written(tmp_path, flavor, nothing)
    assert path.exists()
    if flavor is not PickFormat.CRYOSPARC:
        assert all(len(picks) == 0 for picks in read_picks(path).values())


@pytest.mark.parametrize("flavor", FLAT_FORMATS)
def test_volumes_have_no_place_in_flat_formats(tmp_path: Path, flavor: PickFormat) -> None:
    with pytest.raises(OutputError, match="have a z"):
        written(tmp_path, flavor, Picks(centers=np.zeros((1, 3))))


@pytest.mark.parametrize("flavor", [PickFormat.BOX, PickFormat.CBOX, PickFormat.CRYOPPP])
def test_formats_of_boxes_need_a_size(tmp_path: Path, flavor: PickFormat) -> None:
    with pytest.raises(OutputError, match="--particle-diameter-px"):
        written(tmp_path, flavor, replace(PICKS, diameter_px=0.0))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.box", "10 20 thirty 40\n", "line 1"),
        ("a.box", "10 20\n", "line 1"),
        ("a.cbox", "data_other\n\nloop_\n_a\n1\n2\n", "data_cryolo"),
        ("a.cbox", "data_cryolo\n\nloop_\n_CoordinateX\n1\n2\n", "lacks"),
    ],
)
def test_damaged_boxes_name_what_is_wrong(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        read_picks(tmp_path / name)


def run(*arguments: object) -> None:
    outcome = RUNNER.invoke(app, ["convert", *map(str, arguments)])
    if outcome.exception is not None and not isinstance(outcome.exception, SystemExit):
        raise outcome.exception
    assert outcome.exit_code == 0, outcome.output


def test_convert_flips_y_of_a_micrograph(tmp_path: Path) -> None:
    star = written(tmp_path, PickFormat.STAR)
    run(star, tmp_path / "flipped.star", "--flip-y", "--size", "512x256")
    found = read_picks(tmp_path / "flipped.star")[NAME]
    # Row k of 256 becomes 255 - k.
    np.testing.assert_allclose(found.centers, [[235, 30], [126.75, 300], [251, 5]])
    run(tmp_path / "flipped.star", tmp_path / "back.star", "--flip-y", "--size", "512x256")
    np.testing.assert_allclose(read_picks(tmp_path / "back.star")[NAME].centers, YX)


def test_convert_scales_boxes_with_their_size(tmp_path: Path) -> None:
    box = written(tmp_path, PickFormat.BOX)
    run(box, tmp_path / "half.cbox", "--scale", "0.5")
    found = read_picks(tmp_path / "half.cbox")[""]
    # (20 + 0.5) / 2 - 0.5
    np.testing.assert_allclose(found.centers, [[9.75, 14.75], [63.75, 149.75], [1.75, 2.25]])
    assert found.diameter_px == 20


def test_convert_between_all_flat_formats_keeps_places(tmp_path: Path) -> None:
    path = written(tmp_path, PickFormat.CBOX)
    for flavor in ("star", "cryosparc", "cryoppp", "box", "cbox"):
        target = tmp_path / f"{flavor}{PickFormat(flavor).suffix}"
        run(path, target, "-f", flavor, "--particle-diameter-px", "40", "--name", NAME)
        (found,) = read_picks(target).values()
        np.testing.assert_allclose(found.centers, YX, atol=0.51 if flavor in ("box", "cbox") else 0.01)
        path = target
