"""What one suffix means in several programs: settled by content, said, or refused."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from cryoseg.config.pick import CoordsOrder, PickFormat, ThicknessAxis
from cryoseg.errors import InputError
from cryoseg.io.picks.frame import PickFrame
from cryoseg.io.picks.picks import read_picks, write_picks
from cryoseg.io.picks.text import is_topaz_table
from cryoseg.types import Picks


def read(path: Path, text: str, frame: PickFrame | None = None) -> Picks:
    path.write_text(text)
    (picks,) = read_picks(path, frame).values()
    return picks


@pytest.mark.parametrize(
    ("text", "shape", "zyx", "words"),
    [
        # x y z of TomoTwin: as x z y, z would be 150 of 40.
        ("120 150 11\n33 20 25\n", (40, 192, 192), [[11, 150, 120], [25, 20, 33]], "only so"),
        ("120 11 150\n33 25 20\n", (40, 192, 192), [[11, 150, 120], [25, 20, 33]], "only so"),
        ("120.5 30.25 11\n", None, [[11, 30.25, 120.5]], "whole numbers"),
        ("120\t11\t30\t0.5\n", None, [[11, 30, 120]], "a score"),
        ("120 11 11\n", None, [[11, 11, 120]], ""),
    ],
)
def test_order_of_coords_is_settled_and_said(
    tmp_path: Path, text: str, shape: tuple[int, int, int] | None, zyx: list[list[float]], words: str
) -> None:
    picks = read(tmp_path / "a.coords", text, PickFrame(shape=shape))
    assert picks.centers.tolist() == zyx
    assert words in "".join(picks.warnings)


@pytest.mark.parametrize(
    ("text", "center"),
    [
        ("x;y;z;score\n1,5;-2,25;3;0,5\n", [3, -2.25, 1.5]),  # Excel in most of Europe.
        ("x;y;z\n1.5;-2.25;3\n", [3, -2.25, 1.5]),
        ("index,axis-0,axis-1,axis-2\n0.0,3.0,-2.25,1.5\n", [3, -2.25, 1.5]),  # Points that napari saves.
        ("index,axis-0,axis-1\n0.0,-2.25,1.5\n", [-2.25, 1.5]),
    ],
)
def test_tables_of_excel_and_napari(tmp_path: Path, text: str, center: list[float]) -> None:
    picks = read(tmp_path / "a.csv", text)
    assert picks.centers.tolist() == [center]
    assert picks.scores is None or picks.scores.tolist() == [0.5]
    assert not picks.warnings


def test_what_relion_leaves_unset_is_none(tmp_path: Path) -> None:
    labels = ("CoordinateX", "CoordinateY", "ClassNumber", "AnglePsi", "AutopickFigureOfMerit")
    header = "data_\n\nloop_\n" + "".join(f"_rln{label}\n" for label in labels)
    by_hand = read(tmp_path / "a.star", header + "1 2 -999 -999.000000 -999.000000\n" * 2)
    assert (by_hand.scores, by_hand.rotations, by_hand.classes) == (None, None, None)
    assert not by_hand.columns
    both = read(tmp_path / "b.star", header + "1 2 -999 -999.0 -999.0\n1 2 0 30.0 0.25\n")
    assert both.scores is not None
    assert both.scores.tolist() == [-999, 0.25]


@pytest.mark.parametrize("shape", [None, (200, 200, 200), (4, 5, 6)])
def test_order_of_coords_that_nothing_settles_is_asked_for(
    tmp_path: Path, shape: tuple[int, int, int] | None
) -> None:
    with pytest.raises(InputError, match=r"x, y, z \(TomoTwin, crYOLO\) or x, z, y .* --coords-order"):
        read(tmp_path / "a.coords", "120 30 11\n", PickFrame(shape=shape))


@pytest.mark.parametrize(("order", "zyx"), [(CoordsOrder.XYZ, [3, 2, 1]), (CoordsOrder.XZY, [2, 3, 1])])
def test_order_of_coords_that_is_given_is_taken(tmp_path: Path, order: CoordsOrder, zyx: list[float]) -> None:
    assert read(tmp_path / "a.coords", "1 2 3\n", PickFrame(coords_order=order)).centers.tolist() == [zyx]


def test_coords_of_cetpick_follow_the_thickness_axis(tmp_path: Path) -> None:
    frame = PickFrame(coords_order=CoordsOrder.XZY, thickness_axis=ThicknessAxis.Y)
    assert read(tmp_path / "a.coords", "1 2 3\n", frame).centers.tolist() == [[3, 2, 1]]


def test_numbers_without_a_header_and_with_a_score(tmp_path: Path) -> None:
    picks = read(tmp_path / "a.txt", "100.5 20 3 0.9\n1 2 3 0.25\n")
    assert picks.centers.tolist() == [[3, 20, 100.5], [3, 2, 1]]
    assert picks.scores is not None
    assert picks.scores.tolist() == pytest.approx([0.9, 0.25])
    assert "x, y, z, score" in picks.warnings[0]


def test_numbers_without_a_header_and_with_a_contour(tmp_path: Path) -> None:
    picks = read(tmp_path / "a.txt", "1 100.5 20.5 3\n2 1.5 2.5 3\n")
    assert picks.centers.tolist() == [[3, 20, 100], [3, 2, 1]]
    assert "model2point" in picks.warnings[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 20 3 0.5\n2 2 3 1\n", "may be x, y, z, score or contour"),
        ("100.5 20 3 7\n", "may be x, y, z, score or contour"),
        ("0.5 1 2 3 4\n", "no numbers of objects"),
        ("1 2 3\n1 2 3 4\n", "line 2 has 4 numbers and the first line 3"),
        ("1 2 3 4 5 6\n", "6 numbers a line"),
        ("x,y,z\n1,2,3,4\n", "line 2 has 4 cells and the header 3"),
        ("x,y,name\n1,2\n", "line 2 has 2 cells and the header 3"),
    ],
)
def test_tables_that_nothing_settles_are_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read(tmp_path / "a.txt", text)


def test_empty_cells_behind_the_header_are_no_values(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", "x,y,z\n1,2,3,\n").centers.tolist() == [[3, 2, 1]]


def test_further_columns_are_kept_as_text(tmp_path: Path) -> None:
    columns = read(tmp_path / "a.csv", "x,y,z,phi,score\n1,2,3,090,0.5\n").columns
    assert {name: texts.tolist() for name, texts in columns.items()} == {"phi": ["090"]}


def test_ends_of_helices_are_tracks(tmp_path: Path) -> None:
    picks = read(tmp_path / "a.box", "0 0 4 4 -1\n10 0 4 4 -2\n0 20 4 4 -1\n10 20 4 4 -2\n")
    assert picks.centers.tolist() == [[2, 2], [2, 12], [22, 2], [22, 12]]
    assert picks.tracks is not None
    assert picks.tracks.tolist() == [0, 0, 1, 1]
    assert "2 filaments, not particles" in picks.warnings[0]


def test_boxes_behind_a_line_of_their_helix_are_tracks(tmp_path: Path) -> None:
    picks = read(
        tmp_path / "a.box", "#helix: (1,2),(3,4),5\n0 0 4 4\n2 0 4 4\n#helix: (9,9),(8,8),5\n9 9 4 4\n"
    )
    assert picks.tracks is not None
    assert picks.tracks.tolist() == [0, 0, 1]


def test_a_fifth_column_of_other_numbers_is_no_helix(tmp_path: Path) -> None:
    assert read(tmp_path / "a.box", "0 0 4 4 -3\n10 0 4 4 -3\n").tracks is None


@pytest.mark.parametrize("text", ["0 0 4 4 -1\n", "0 0 4 4 -1\n0 0 4 4 -1\n", "0 0 4 4 -1\n0 0 4 4\n"])
def test_a_helix_without_an_end_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="do not alternate"):
        read(tmp_path / "a.box", text)


SHIFTED = (
    "data_optics\nloop_\n_rlnOpticsGroup\n_rlnMicrographPixelSize\n1 2.0\n\ndata_particles\nloop_\n{columns}"
    "_rlnCoordinateX\n_rlnCoordinateY\n_rlnOriginXAngst\n_rlnOriginYAngst\n_rlnAnglePsi\n"
    "{row}100 200 10 -20 5\n"
)
FLAT = SHIFTED.format(columns="_rlnMicrographName\n", row="m.mrc ")
DEEP = SHIFTED.format(columns="_rlnTomoName\n_rlnCoordinateZ\n_rlnOriginZAngst\n", row="t 50 8 ")


def test_shifts_of_refinement_are_subtracted_in_voxels(tmp_path: Path) -> None:
    flat = read(tmp_path / "a.star", FLAT)  # the pixel size of the optics group: 2 A
    assert flat.centers.tolist() == [[210, 95]]
    assert "shifts were added to the coordinates of 1 of 1 points" in flat.warnings[0]
    assert not flat.columns
    deep = read(tmp_path / "b.star", DEEP, PickFrame(voxel_size=4.0))
    assert deep.centers.tolist() == [[48, 205, 97.5]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (DEEP, "the pixel size is unknown"),
        (FLAT.replace("Angst", ""), "in pixels of extracted images, which are not applied"),
    ],
)
def test_shifts_that_cannot_be_applied_are_named(tmp_path: Path, text: str, words: str) -> None:
    picks = read(tmp_path / "a.star", text)
    assert picks.centers[0, -1] == 100
    assert words in picks.warnings[0]
    assert any(name.startswith("rlnOriginX") for name in picks.columns)  # for a file that can hold them


def test_shifts_have_the_axes_of_the_subtomogram(tmp_path: Path) -> None:
    # rlnTomoSubtomogramRot of 90 degrees takes x to -y and y to x: (10, -20, 8) A becomes (-20, -10, 8) A.
    text = DEEP.replace("_rlnAnglePsi", "_rlnTomoSubtomogramRot").replace("-20 5", "-20 90")
    picks = read(tmp_path / "a.star", text, PickFrame(voxel_size=4.0))
    np.testing.assert_allclose(picks.centers, [[48, 202.5, 105]])


def test_shifts_in_pixels_of_extracted_images_need_their_size(tmp_path: Path) -> None:
    text = FLAT.replace("Angst", "").replace("Size\n1 2.0", "Size\n_rlnImagePixelSize\n1 2.0 8.0")
    assert read(tmp_path / "a.star", text).centers.tolist() == [[280, 60]]


def test_relion_3_0_gives_the_size_of_extracted_images_by_the_magnification(tmp_path: Path) -> None:
    # 5 micrometers at a magnification of 6250 are 8 A; the micrograph has 2 A.
    text = FLAT.replace("Angst", "").replace(
        "_rlnAnglePsi\n", "_rlnAnglePsi\n_rlnDetectorPixelSize\n_rlnMagnification\n"
    )
    text = text.replace("-20 5\n", "-20 5 5.0 6250\n")
    assert read(tmp_path / "a.star", text).centers.tolist() == [[280, 60]]


def test_unbinned_pixels_have_the_size_of_their_optics_group(tmp_path: Path) -> None:
    text = (
        "data_optics\nloop_\n_rlnOpticsGroup\n_rlnTomoTiltSeriesPixelSize\n1 2.0\n2 2.5\n\n"
        "data_particles\nloop_\n"
        "_rlnTomoName\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n_rlnOpticsGroup\n"
        '"TS 01" 400 800 120 1\nTS_02 400 800 120 2\n'
    )
    (tmp_path / "a.star").write_bytes(text.replace("\n", "\r\n").encode())
    sets = read_picks(tmp_path / "a.star", PickFrame(voxel_size=8.0, unbinned=True))
    assert {name: picks.centers.tolist() for name, picks in sets.items()} == {
        "TS 01": [[30, 200, 100]],
        "TS_02": [[37.5, 250, 125]],
    }
    (doubt,) = read_picks(tmp_path / "a.star", PickFrame(voxel_size=8.0))["TS 01"].warnings
    assert "Pass --from-relion4 to `cryoseg convert` if they are its pixels" in doubt
    (tmp_path / "a.star").write_text(
        text.replace("_rlnOpticsGroup\n_rlnTomo", "_rlnOpticsGroupName\n_rlnTomo")
    )
    with pytest.raises(InputError, match="need the tilt series' pixel size"):
        read_picks(tmp_path / "a.star", PickFrame(voxel_size=8.0, unbinned=True))


def test_every_optics_group_has_its_own_pixel_size(tmp_path: Path) -> None:
    text = FLAT.replace("1 2.0", "1 2.0\n2 4.0").replace("_rlnAnglePsi", "_rlnOpticsGroup")
    text = text.replace("-20 5\n", "-20 01\nm.mrc 100 200 10 -20 2\n")
    assert read(tmp_path / "a.star", text).centers.tolist() == [[210, 95], [205, 97.5]]


def test_shifts_are_kept_on_request(tmp_path: Path) -> None:
    picks = read(tmp_path / "a.star", FLAT, PickFrame(keep_shifts=True))
    assert picks.centers.tolist() == [[200, 100]]
    assert picks.shifts is not None
    assert picks.shifts.tolist() == [[10, -5]]


def test_tables_of_topaz_are_known_by_their_header(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("image_name\tx_coord\ty_coord\tscore\nm\t1\t2\t0\n")
    (tmp_path / "b.txt").write_text("image_name\tx_coord\ty_coord\tz_coord\nm\t1\t2\t3\n")
    assert is_topaz_table(tmp_path / "a.txt")
    assert not is_topaz_table(tmp_path / "b.txt")


def test_a_model_that_was_drawn_on_a_flipped_volume_is_told(tmp_path: Path) -> None:
    points = struct.pack(">4i3f", 1, 0, 0, 0, 10.5, 20.5, 5)
    for flags, count in ((1 << 12, 0), (1 << 12 | 1 << 16, 1)):
        header = b"IMODV1.2".ljust(152, b"\0") + struct.pack(">I", flags)
        (tmp_path / "a.mod").write_bytes(
            header.ljust(240, b"\0") + b"OBJT".ljust(180, b"\0") + b"CONT" + points + b"IEOF"
        )
        (picks,) = read_picks(tmp_path / "a.mod").values()
        assert picks.centers.tolist() == [[5, 20, 10]]
        assert len(picks.warnings) == count


POINT = '{"type": "orientedPoint", "location": {"x": 1, "y": 2, "z": 3}, "xyz_rotation_matrix": %s}\n'
QUARTER = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]  # takes x to y


def test_matrices_of_portal_points_are_read(tmp_path: Path) -> None:
    picks = read(tmp_path / "a.ndjson", POINT % QUARTER)
    assert picks.rotations is not None
    assert picks.rotations.tolist() == [QUARTER]


@pytest.mark.parametrize("matrix", ["[]", "null", "[[1, 0], [0, 1]]", "[[1,0,0],[0,1,0],[0,0,-1]]", '"x"'])
def test_points_without_a_rotation_are_counted(tmp_path: Path, matrix: str) -> None:
    picks = read(tmp_path / "a.ndjson", POINT % QUARTER + POINT % matrix)
    assert picks.rotations is None
    assert "1 of 2 points have no rotation matrix" in picks.warnings[0]


def test_a_table_of_cryoppp_holds_several_micrographs(tmp_path: Path) -> None:
    text = "Micrographs Filename,X-Coordinate,Y-Coordinate,Diameter\na.mrc,1,2,50\nb.mrc,3,4,50\n"
    (tmp_path / "a.csv").write_text(text)
    assert list(read_picks(tmp_path / "a.csv")) == ["a.mrc", "b.mrc"]


def test_fractions_of_the_volume_are_told(tmp_path: Path) -> None:
    text = "data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n0.25 0.5 1\n0.75 0.1 0\n"
    assert "as Warp writes fractions of the volume" in read(tmp_path / "a.star", text).warnings[0]
    assert not read(tmp_path / "a.star", text.replace("0.75", "7.5")).warnings


def test_numbers_of_filaments_do_not_creep(tmp_path: Path) -> None:
    text = "data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnHelicalTubeID\n1 2 1\n3 4 1\n5 6 3\n"
    picks = read(tmp_path / "a.star", text)
    for _ in range(2):
        write_picks(tmp_path / "b.star", {"m": picks}, flavor=PickFormat.STAR, overwrite=True)
        picks = read_picks(tmp_path / "b.star")["m"]
    assert picks.tracks is not None
    assert picks.tracks.tolist() == [1, 1, 3]
