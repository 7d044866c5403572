"""Coordinate files: values computed by hand, round trips, damaged files."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

import imodmodel
import numpy as np
import pytest
import starfile

from cryoseg.config.pick import FLAT_FORMATS, CenterRule, PickFormat, ThicknessAxis
from cryoseg.errors import InputError, OutputError
from cryoseg.io.picks.frame import PickFrame
from cryoseg.io.picks.picks import read_picks, write_picks
from cryoseg.io.picks.relion_frame import RelionFrame, read_tomograms_star
from cryoseg.io.picks.text import is_cetpick_list, read_cetpick_list
from cryoseg.types import Picks

# Tomogram of 100 x 256 x 512 voxels (z, y, x) of 10 A, binned by 4 from 400 x 1024 x 2048 of 2.5 A.
RELION = RelionFrame(pixel_size=2.5, size=(400, 1024, 2048))
FRAME = PickFrame(voxel_size=10.0, shape=(100, 256, 512), relion={"": RELION}, diameter_angstrom=120.0)
ZYX = np.array([[10.0, 20.0, 30.0], [50.5, 128.25, 300.0]])
PICKS = Picks(centers=ZYX, scores=np.array([0.9, 0.25], np.float32), shape=FRAME.shape, pixel_size=10.0)


def written(tmp_path: Path, flavor: PickFormat, frame: PickFrame = FRAME, picks: Picks = PICKS) -> Path:
    path = tmp_path / f"picks{flavor.suffix}"
    write_picks(path, {"ts_01": picks}, frame, flavor=flavor)
    return path


def test_star_counts_tomogram_voxels(tmp_path: Path) -> None:
    table = starfile.read(written(tmp_path, PickFormat.STAR))
    assert list(table["rlnTomoName"]) == ["ts_01", "ts_01"]
    assert list(table["rlnCoordinateX"]) == [30.0, 300.0]
    assert list(table["rlnCoordinateY"]) == [20.0, 128.25]
    assert list(table["rlnCoordinateZ"]) == [10.0, 50.5]
    assert list(table["rlnAutopickFigureOfMerit"]) == [0.9, 0.25]


def test_relion4_counts_unbinned_pixels(tmp_path: Path) -> None:
    table = starfile.read(written(tmp_path, PickFormat.STAR_RELION4))
    assert list(table["rlnCoordinateX"]) == [120.0, 1200.0]
    assert list(table["rlnCoordinateY"]) == [80.0, 513.0]
    assert list(table["rlnCoordinateZ"]) == [40.0, 202.0]


def test_relion5_counts_angstrom_from_the_pickers_center(tmp_path: Path) -> None:
    # x: (30 * 4 - (2048 / 2 - 1)) * 2.5 = (120 - 1023) * 2.5
    table = starfile.read(written(tmp_path, PickFormat.STAR_RELION5))
    assert list(table["rlnCenteredCoordinateXAngst"]) == [-2257.5, 442.5]
    assert list(table["rlnCenteredCoordinateYAngst"]) == [(80 - 511) * 2.5, (513 - 511) * 2.5]
    assert list(table["rlnCenteredCoordinateZAngst"]) == [(40 - 199) * 2.5, (202 - 199) * 2.5]


def test_relion5_from_half_the_size_is_one_unbinned_pixel_less(tmp_path: Path) -> None:
    half = RelionFrame(pixel_size=2.5, size=(400, 1024, 2048), center=CenterRule.HALF)
    frame = PickFrame(voxel_size=10.0, shape=FRAME.shape, relion={"": half})
    table = starfile.read(written(tmp_path, PickFormat.STAR_RELION5, frame))
    assert list(table["rlnCenteredCoordinateXAngst"]) == [-2260.0, 440.0]


@pytest.mark.parametrize("flavor", [PickFormat.STAR_RELION4, PickFormat.STAR_RELION5])
def test_relion_needs_the_unbinned_tomogram(tmp_path: Path, flavor: PickFormat) -> None:
    with pytest.raises(OutputError, match=r"--tomograms-star, or --unbinned-pixel-size"):
        written(tmp_path, flavor, PickFrame(voxel_size=10.0))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("flavor", sorted(set(PickFormat) - set(FLAT_FORMATS)))
def test_round_trip(tmp_path: Path, flavor: PickFormat) -> None:
    path = written(tmp_path, flavor)
    (found,) = read_picks(path, replace(FRAME, unbinned=flavor is PickFormat.STAR_RELION4)).values()
    expected = np.round(ZYX) if flavor is PickFormat.COORDS else ZYX
    np.testing.assert_allclose(found.centers, expected, atol=2e-4)
    if flavor is PickFormat.MOD:
        assert found.scores is None
    else:
        np.testing.assert_allclose(found.scores, [0.9, 0.25], atol=1e-5)


@pytest.mark.parametrize("flavor", [PickFormat.STAR, PickFormat.CSV, PickFormat.MOD, PickFormat.NDJSON])
def test_tracks_survive(tmp_path: Path, flavor: PickFormat) -> None:
    picks = Picks(centers=np.arange(12.0).reshape(4, 3), tracks=np.array([0, 0, 1, 1]))
    (found,) = read_picks(written(tmp_path, flavor, picks=picks), FRAME).values()
    assert found.tracks is not None
    assert len(set(found.tracks[:2])) == 1
    assert found.tracks[0] != found.tracks[2]


def test_imod_points_lie_half_a_voxel_up_in_x_and_y_only(tmp_path: Path) -> None:
    table = imodmodel.read(written(tmp_path, PickFormat.MOD))
    np.testing.assert_allclose(table[["x", "y", "z"]], [[30.5, 20.5, 10.0], [300.5, 128.75, 50.5]])


def test_imod_header_says_that_z_starts_at_minus_one_half(tmp_path: Path) -> None:
    header = written(tmp_path, PickFormat.MOD).read_bytes()
    x, y, z, objects, flags = struct.unpack(">5i", header[136:156])
    assert (x, y, z, objects) == (512, 256, 100, 1)
    assert flags & (1 << 10)


def test_imod_model_without_points_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.mod"
    imodmodel.ImodModel().to_file(path)
    with pytest.raises(InputError, match="holds no points"):
        read_picks(path)


def test_broken_imod_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.mod"
    path.write_bytes(b"IMODV1.2" + b"\x00" * 10)
    with pytest.raises(InputError, match="no IMOD model"):
        read_picks(path)


def test_ndjson_is_one_portal_point_a_line(tmp_path: Path) -> None:
    first = json.loads(written(tmp_path, PickFormat.NDJSON).read_text().splitlines()[0])
    assert first["type"] == "point"
    assert first["location"] == {"x": 30.0, "y": 20.0, "z": 10.0}


def test_ndjson_line_that_is_no_point(tmp_path: Path) -> None:
    path = tmp_path / "bad.ndjson"
    path.write_text('{"type": "point", "location": {"x": 1, "y": 2, "z": 3}}\n{"x": 1}\n')
    with pytest.raises(InputError, match="line 2"):
        read_picks(path)


def test_coords_are_x_thickness_y(tmp_path: Path) -> None:
    text = written(tmp_path, PickFormat.COORDS).read_text()
    assert text == "30\t10\t20\t0.90000\n300\t50\t128\t0.25000\n"


def test_coords_of_an_unrotated_reconstruction_are_the_files_own_axes(tmp_path: Path) -> None:
    frame = PickFrame(thickness_axis=ThicknessAxis.Y)
    path = written(tmp_path, PickFormat.COORDS, frame)
    assert path.read_text().splitlines()[0].split("\t")[:3] == ["30", "20", "10"]
    np.testing.assert_allclose(read_picks(path, frame)[""].centers, np.round(ZYX))


@pytest.mark.parametrize(
    ("axis", "expected"),
    # image x = 1, y = 2, thickness z = 3 in CET-pick's words
    [(ThicknessAxis.Z, [3, 2, 1]), (ThicknessAxis.Y, [2, 3, 1]), (ThicknessAxis.X, [2, 1, 3])],
)
def test_cetpick_coordinates_follow_the_thickness_axis(
    tmp_path: Path, axis: ThicknessAxis, expected: list[int]
) -> None:
    path = tmp_path / "train_coords.txt"
    path.write_text("image_name\tx_coord\ty_coord\tz_coord\nts_01\t1\t2\t3\nts_02\t4\t5\t6\n")
    found = read_picks(path, PickFrame(thickness_axis=axis))
    assert set(found) == {"ts_01", "ts_02"}
    assert found["ts_01"].centers.tolist() == [expected]


@pytest.mark.parametrize("column", ["rec_path", "path"])
def test_both_spellings_of_the_image_list(tmp_path: Path, column: str) -> None:
    (tmp_path / "a.rec").write_bytes(b"")
    path = tmp_path / "train_images.txt"
    path.write_text(f"image_name\t{column}\ttilt_path\none\ta.rec\tt\ntwo\t/data/b.rec\tt\n")
    assert is_cetpick_list(path)
    assert read_cetpick_list(path) == {"one": tmp_path / "a.rec", "two": Path("/data/b.rec")}


def test_model2point_counts_from_the_corner(tmp_path: Path) -> None:
    path = tmp_path / "points.txt"
    path.write_text("   30.50   20.50   10.00\n  300.50  128.75   50.50\n")
    np.testing.assert_allclose(read_picks(path)[""].centers, ZYX)


def test_model2point_with_contour_numbers(tmp_path: Path) -> None:
    path = tmp_path / "points.txt"
    path.write_text("1 1 30.50 20.50 10.00\n1 2 300.50 128.75 50.50\n")
    np.testing.assert_allclose(read_picks(path)[""].centers, ZYX)


def test_csv_columns_are_found_by_name(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("score,z,x,y\n0.5,10,30,20\n")
    (found,) = read_picks(path).values()
    assert found.centers.tolist() == [[10, 20, 30]]
    assert found.scores is not None


def test_csv_error_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("x,y,z\n1,2,3\n1,two,3\n")
    with pytest.raises(InputError, match="line 3"):
        read_picks(path)


def test_csv_without_coordinates(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="columns x, y"):
        read_picks(path)


def test_empty_csv_is_no_picks(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("x,y,z\n")
    assert len(read_picks(path)[""]) == 0


def test_no_picks_can_be_written_and_read(tmp_path: Path) -> None:
    nothing = Picks(centers=np.empty((0, 3)), scores=np.empty(0, np.float32))
    for flavor in set(PickFormat) - set(FLAT_FORMATS):
        path = written(tmp_path / flavor.value, flavor, picks=nothing)
        assert path.exists()


def test_unknown_suffix(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.star"):
        read_picks(tmp_path / "picks.xyz")


def test_existing_output_is_kept(tmp_path: Path) -> None:
    written(tmp_path, PickFormat.CSV)
    with pytest.raises(OutputError, match="--overwrite"):
        written(tmp_path, PickFormat.CSV)


def test_one_tomogram_formats_refuse_several(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="holds one image"):
        write_picks(tmp_path / "a.mod", {"a": PICKS, "b": PICKS}, FRAME, flavor=PickFormat.MOD)


def test_the_binning_in_a_tomograms_star_gives_the_voxel_size_of_every_tomogram(tmp_path: Path) -> None:
    columns = ("Name", "TiltSeriesPixelSize", "TomogramBinning", "SizeX", "SizeY", "SizeZ")
    rows = "TS_1 1.5 8 256 256 32\nTS_2 1.75 8 256 256 32\n"
    listed = tmp_path / "tomograms.star"
    listed.write_text("data_global\n\nloop_\n" + "".join(f"_rlnTomo{one}\n" for one in columns) + rows)
    picks = tmp_path / "particles.star"
    picks.write_text(
        "data_particles\n\nloop_\n_rlnTomoName\n_rlnCenteredCoordinateXAngst\n_rlnCenteredCoordinateYAngst\n"
        "_rlnCenteredCoordinateZAngst\nTS_1 12 24 0\nTS_2 12 24 0\n"
    )
    found = read_picks(picks, PickFrame(relion=read_tomograms_star(listed)))
    # (12 A / 1.5 A + 127 pixels) / 8, and so on; N / 2 - 1 pixels are 127 and 15.
    np.testing.assert_allclose(found["TS_1"].centers, [[15 / 8, 143 / 8, 135 / 8]])
    np.testing.assert_allclose(found["TS_2"].centers[0, 1:], [(24 / 1.75 + 127) / 8, (12 / 1.75 + 127) / 8])
    assert [one.pixel_size for one in found.values()] == [12, 14]
    # The option wins.
    told = read_picks(picks, PickFrame(relion=read_tomograms_star(listed), voxel_size=6.0))
    np.testing.assert_allclose(told["TS_1"].centers, [[15 / 4, 143 / 4, 135 / 4]])


def test_tomograms_star_gives_frames_by_name_and_by_file(tmp_path: Path) -> None:
    path = tmp_path / "tomograms.star"
    path.write_text(
        "data_global\n\nloop_\n_rlnTomoName\n_rlnTomoTiltSeriesPixelSize\n_rlnTomoSizeX\n_rlnTomoSizeY\n"
        "_rlnTomoSizeZ\n_rlnTomoReconstructedTomogram\nTS_01 2.5 2048 1024 400 job/rec_TS_01.mrc\n"
    )
    frames = read_tomograms_star(path)
    assert frames["TS_01"] == PickFrame(relion=frames).relion_for("rec_TS_01")
    assert frames["TS_01"].size == (400, 1024, 2048)
    frame = PickFrame(voxel_size=10.0, relion=frames)
    out = tmp_path / "out.star"
    write_picks(out, {"rec_TS_01": PICKS}, frame, flavor=PickFormat.STAR_RELION5)
    table = starfile.read(out)
    assert list(table["rlnTomoName"]) == ["TS_01", "TS_01"]
    with pytest.raises(OutputError, match=r"ts_99 is not in the tomograms\.star"):
        write_picks(tmp_path / "b.star", {"ts_99": PICKS}, frame, flavor=PickFormat.STAR_RELION5)
