"""Formats with orientations: bytes and numbers known by hand, and what comes back."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from cryoseg.config.pick import PickFormat
from cryoseg.errors import InputError, OutputError
from cryoseg.io.picks.angles import DYNAMO, MOTL, RELION
from cryoseg.io.picks.frame import PickFrame
from cryoseg.io.picks.picks import read_picks, write_picks
from cryoseg.io.picks.relion_frame import RelionFrame
from cryoseg.types import Picks

QUARTER = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])  # x to y
TIPPED = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # y to z
RELION_FRAME = RelionFrame(pixel_size=2.5, size=(400, 1024, 2048))
FRAME = PickFrame(voxel_size=10.0, shape=(100, 256, 512), relion={"": RELION_FRAME})
PICKS = Picks(
    centers=np.array([[10.0, 20, 30], [50.5, 60.25, 70]]),
    scores=np.array([0.5, 0.25], np.float32),
    rotations=np.stack([QUARTER, TIPPED]),
    classes=np.array([2, 3]),
    half_sets=np.array([1, 2]),
    pixel_size=10.0,
)
ORIENTED = [one for one in PickFormat if "rotations" in one.traits.holds and 3 in one.traits.dimensions]


@pytest.mark.parametrize("flavor", list(PickFormat))
def test_every_line_of_the_table_names_functions_that_exist(flavor: PickFormat) -> None:
    module = import_module(f"cryoseg.io.picks.{flavor.traits.module}")
    name = flavor.value.replace("-", "_")
    assert callable(getattr(module, f"write_{name}"))
    assert callable(getattr(module, f"read_{name}", None)) is flavor.traits.is_read


@pytest.mark.parametrize("flavor", ORIENTED, ids=str)
@pytest.mark.parametrize("shifted", [False, True])
def test_what_a_format_holds_comes_back(tmp_path: Path, flavor: PickFormat, shifted: bool) -> None:
    holds = flavor.traits.holds
    shifts = np.array([[1.0, -2, 3], [0, 0.5, 0]])
    picks = replace(PICKS, shifts=shifts) if shifted and "shifts" in holds else PICKS
    path = tmp_path / f"a{flavor.suffix}"
    write_picks(path, {"7": picks}, FRAME, flavor=flavor)
    frame = replace(FRAME, unbinned=flavor is PickFormat.STAR_RELION4, keep_shifts=True)
    ((name, found),) = read_picks(path, frame).items()
    assert name == ("" if flavor in (PickFormat.NDJSON, PickFormat.PEET) else "7")
    np.testing.assert_allclose(found.centers, picks.centers, atol=1e-4)
    assert found.rotations is not None
    np.testing.assert_allclose(found.rotations, picks.rotations, atol=1e-6)
    for field in ("scores", "classes", "half_sets", "shifts"):
        expected, value = getattr(picks, field), getattr(found, field)
        if field in holds and expected is not None:
            np.testing.assert_allclose(value, expected, atol=1e-4, err_msg=field)
    applied = read_picks(path, replace(frame, keep_shifts=False))[name]
    assert applied.shifts is None
    np.testing.assert_allclose(applied.centers, picks.centers + (picks.shifts if picks is not PICKS else 0))


DYNAMO_ROW = "4 1 1 1.5 0 -2 90 90 0 0.75 0 0 1 -60 60 0 0 0 0 3 5 2 0 30 20 10 0 0 0 0 0 0 0 0 0\n"


def test_columns_of_dynamo(tmp_path: Path) -> None:
    (tmp_path / "crop.tbl").write_text(DYNAMO_ROW)
    (picks,) = read_picks(tmp_path / "crop.tbl", PickFrame(keep_shifts=True)).values()
    assert picks.centers.tolist() == [[10, 20, 30]]
    assert picks.shifts is not None
    assert picks.shifts.tolist() == [[-2, 0, 1.5]]
    assert picks.rotations is not None
    # Turned by -90 degrees about x, then about z: from z to y to x.
    np.testing.assert_allclose(picks.rotations[0] @ (0, 0, 1), (1, 0, 0), atol=1e-12)
    assert picks.classes is not None
    assert picks.classes.tolist() == [2]
    assert picks.columns["ymintilt"].tolist() == ["-60"]
    write_picks(tmp_path / "again.tbl", {"3": picks}, flavor=PickFormat.DYNAMO)
    np.testing.assert_allclose(
        np.loadtxt(tmp_path / "again.tbl"), [float(cell) for cell in DYNAMO_ROW.split()], atol=1e-6
    )


@pytest.mark.parametrize("name", ["crop.doc", "indices_column20.doc"])
def test_a_table_map_names_the_tomograms_of_dynamo(tmp_path: Path, name: str) -> None:
    (tmp_path / "crop.tbl").write_text(DYNAMO_ROW + DYNAMO_ROW.replace(" 3 5 2 ", " 12 5 2 "))
    assert list(read_picks(tmp_path / "crop.tbl")) == ["3", "12"]
    (tmp_path / name).write_text("3 /data/TS 03.mrc\n12\t/data/TS_12.mrc\n")
    assert list(read_picks(tmp_path / "crop.tbl")) == ["/data/TS 03.mrc", "/data/TS_12.mrc"]


def test_a_table_map_is_written_for_dynamo(tmp_path: Path) -> None:
    picks = Picks(centers=np.array([[10.0, 20.0, 30.0]]))
    table, table_map = tmp_path / "crop.tbl", tmp_path / "crop.doc"
    write_picks(table, {"/data/TS 03.mrc": picks, "TS_12": picks}, flavor=PickFormat.DYNAMO)
    assert table_map.read_text() == "1 /data/TS 03.mrc\n2 TS_12\n"
    assert list(read_picks(table)) == ["/data/TS 03.mrc", "TS_12"]
    # A table map that has the names gives the numbers, and is kept.
    table_map.write_text("3 a.mrc\n5 b.mrc\n12 c.mrc\n")
    write_picks(table, {"c.mrc": picks, "a.mrc": picks}, flavor=PickFormat.DYNAMO, overwrite=True)
    assert np.loadtxt(table)[:, 19].tolist() == [12, 3]
    assert table_map.read_text() == "3 a.mrc\n5 b.mrc\n12 c.mrc\n"
    table.unlink()
    with pytest.raises(OutputError, match=r"crop\.doc: exists already"):
        write_picks(table, {"d.mrc": picks}, flavor=PickFormat.DYNAMO)
    table_map.write_text("Minutes of a meeting\n")
    with pytest.raises(InputError, match="number and the file of a tomogram"):
        write_picks(table, {"d.mrc": picks}, flavor=PickFormat.DYNAMO, overwrite=True)


def test_two_numbers_of_one_tomogram_are_joined(tmp_path: Path) -> None:
    (tmp_path / "crop.tbl").write_text(DYNAMO_ROW + DYNAMO_ROW.replace(" 3 5 2 ", " 12 5 2 "))
    (tmp_path / "crop.doc").write_text("3 a.mrc\n12 a.mrc\n")
    assert {name: len(picks) for name, picks in read_picks(tmp_path / "crop.tbl").items()} == {"a.mrc": 2}


def test_complex_numbers_of_dynamo_have_their_real_part(tmp_path: Path) -> None:
    # As in test/data/t_complex.tbl of teamtomo/dynamotable@8e8e148.
    cells = DYNAMO_ROW.split()
    cells[27] = "0.5+1.2074e-06i"
    (tmp_path / "a.tbl").write_text(" ".join(cells) + "\n")
    (picks,) = read_picks(tmp_path / "a.tbl").values()
    assert picks.columns["daxis"].tolist() == ["0.5"]


def test_an_empty_table_of_dynamo_has_no_picks(tmp_path: Path) -> None:
    path = tmp_path / "empty.tbl"
    path.write_text("\n")
    assert sum(len(picks.centers) for picks in read_picks(path).values()) == 0


def test_rows_of_a_motive_list(tmp_path: Path) -> None:
    row = [0.0] * 20
    row[0], row[3], row[4], row[5], row[19] = 0.75, 9, 3, 1, 2
    row[7:10], row[10:13] = [31, 21, 11], [1.5, 0, -2]  # from 1
    row[16:19] = [0, 90, 90]  # phi, psi, theta
    header = bytearray(512)
    header[0], header[3] = 6, 5
    struct.pack_into("<3i", header, 4, 20, 1, 1)
    (tmp_path / "a.em").write_bytes(bytes(header) + struct.pack("<20f", *row))
    ((name, picks),) = read_picks(tmp_path / "a.em").items()
    assert name == "3"
    assert picks.centers.tolist() == [[8, 20, 31.5]]
    assert picks.scores is not None
    assert picks.scores.tolist() == [0.75]
    assert picks.rotations is not None
    np.testing.assert_allclose(picks.rotations[0] @ (0, 0, 1), (1, 0, 0), atol=1e-7)
    write_picks(tmp_path / "b.em", {"3": picks}, flavor=PickFormat.MOTL)
    assert (tmp_path / "b.em").read_bytes()[:512] == bytes(header)


STOPGAP = (
    "\ndata_stopgap_motivelist\n\nloop_\n_motl_idx\n_tomo_num\n_object\n_subtomo_num\n_halfset\n_orig_x\n"
    "_orig_y\n_orig_z\n_score\n_x_shift\n_y_shift\n_z_shift\n_phi\n_psi\n_the\n_class\n"
    "1 3 1 9 A 31 21 11 0.75 1.5 0 -2 0 90 90 2\n2 3 1 10 B 31 21 11 0.5 0 0 0 0 0 0 1\n"
)


def test_columns_of_stopgap(tmp_path: Path) -> None:
    (tmp_path / "a.star").write_text(STOPGAP.replace("\n", "\r\n"))
    ((name, picks),) = read_picks(tmp_path / "a.star").items()
    assert name == "3"
    assert picks.centers.tolist() == [[8, 20, 31.5], [10, 20, 30]]
    assert picks.half_sets is not None
    assert picks.half_sets.tolist() == [1, 2]
    assert picks.rotations is not None
    np.testing.assert_allclose(picks.rotations[0] @ (0, 0, 1), (1, 0, 0), atol=1e-12)
    (tmp_path / "b.star").write_text(STOPGAP.replace("_halfset", "_half"))
    with pytest.raises(InputError, match="the column halfset is missing"):
        read_picks(tmp_path / "b.star")


PEET = "CCC,reserved,reserved,pIndex,wedgeWT,NA,NA,NA,NA,NA,xOffset,yOffset,zOffset,NA,NA,reserved,EulerZ(1),"
PEET += "EulerZ(3),EulerX(2),reserved,PEET 1.17\n"


def test_motive_lists_of_peet_belong_to_the_points_of_a_model(tmp_path: Path) -> None:
    three = Picks(centers=np.array([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]]), tracks=np.array([1, 0, 1]))
    write_picks(tmp_path / "run1.mod", {"a": three}, flavor=PickFormat.MOD)
    path = tmp_path / "run1_MOTL_Tom1_Iter2.csv"
    lines = [f"0.{n},0,0,{n},0,0,0,0,0,0,1.5,0,-2,0,0,0,0,90,{90 * (n == 1)},0\n" for n in (1, 2, 3)]
    path.write_text(PEET + "".join(lines))
    (picks,) = read_picks(path).values()
    # The model holds the points of track 0 before those of track 1.
    assert picks.centers.tolist() == [[2, 5, 7.5], [-1, 2, 4.5], [5, 8, 10.5]]
    assert picks.rotations is not None
    np.testing.assert_allclose(picks.rotations[0] @ (0, 0, 1), (1, 0, 0), atol=1e-12)
    np.testing.assert_allclose(picks.rotations[1] @ (1, 0, 0), (0, 1, 0), atol=1e-12)
    written = tmp_path / "other" / "b.csv"
    written.parent.mkdir()
    write_picks(written, {"a": three}, flavor=PickFormat.PEET)
    assert written.read_text().splitlines()[0] == PEET.removesuffix(",PEET 1.17\n")
    path.write_text(PEET + lines[0])
    with pytest.raises(InputError, match=r"has 1 lines, and run1\.mod 3 points"):
        read_picks(path)
    (tmp_path / "run1.mod").unlink()
    with pytest.raises(InputError, match=r"Put run1_MOTL_Tom1_Iter2\.mod beside it"):
        read_picks(path)


COPICK = {
    "pickable_object_name": "ribosome",
    "user_id": "me",
    "session_id": "1",
    "run_name": "TS_01",
    "voxel_spacing": 10.0,
    "unit": "angstrom",
    "points": [
        {
            "location": {"x": 300, "y": 200, "z": 100},
            "transformation_": [[0, -1, 0, 15], [1, 0, 0, 0], [0, 0, 1, -20], [0, 0, 0, 1]],
            "instance_id": 4,
            "score": 0.5,
        }
    ],
    "trust_orientation": True,
}


def test_copick_holds_angstrom_and_matrices(tmp_path: Path) -> None:
    path = tmp_path / "me_1_ribosome.json"
    path.write_text(json.dumps(COPICK))
    ((name, picks),) = read_picks(path).items()
    assert name == "TS_01"
    assert picks.pixel_size == 10
    assert picks.centers.tolist() == [[8, 20, 31.5]]
    assert picks.rotations is not None
    assert picks.rotations[0].tolist() == QUARTER.tolist()
    kept = read_picks(path, PickFrame(keep_shifts=True))
    write_picks(tmp_path / "b.json", kept, flavor=PickFormat.COPICK)
    assert json.loads((tmp_path / "b.json").read_text()) == COPICK


def test_names_of_copick_files_give_user_session_and_object(tmp_path: Path) -> None:
    for name, parts in (
        ("a_7_membrane.json", ["a", "7", "membrane"]),
        ("x.json", ["cryoseg", "0", "particle"]),
    ):
        write_picks(tmp_path / name, {"TS_01": PICKS}, flavor=PickFormat.COPICK)
        content = json.loads((tmp_path / name).read_text())
        assert [content[key] for key in ("user_id", "session_id", "pickable_object_name")] == parts


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"unit": "pixel"}, "the unit is 'pixel'"),
        ({"voxel_spacing": None}, "Pass --pixel-size"),
        ({"points": [{"location": {"x": 1}}]}, "no picks file of copick"),
        ({"points": 5}, "no picks file of copick"),
    ],
)
def test_copick_files_with_errors_get_one_sentence(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    (tmp_path / "a.json").write_text(json.dumps(COPICK | change))
    with pytest.raises(InputError, match=words):
        read_picks(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.tbl", "1 2 3\n", "26 or more"),
        ("a.tbl", DYNAMO_ROW.replace("0.75", "high"), "does not consist of numbers"),
        ("a.tbl", DYNAMO_ROW.replace(" 30 20 ", " nan 20 "), "no finite number"),
        ("a.cs", "x", "no structured array of NumPy"),
    ],
)
def test_files_with_errors_get_one_sentence(tmp_path: Path, name: str, content: str, words: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=words):
        read_picks(tmp_path / name)


FIELDS = [
    ("uid", "<u8"),
    ("location/micrograph_uid", "<u8"),
    ("location/exp_group_id", "<u4"),
    ("location/micrograph_path", "S55"),
    ("location/micrograph_shape", "<u4", (2,)),
    ("location/center_x_frac", "<f4"),
    ("location/center_y_frac", "<f4"),
    ("location/micrograph_psize_A", "<f4"),
    ("pick_stats/ncc_score", "<f4"),
    ("pick_stats/power", "<f4"),
]
MICROGRAPH = "J14/motioncorrected/008578565574161745010_a_aligned.mrc"


def test_cryosparc_counts_rows_from_the_first_one_of_the_file(tmp_path: Path) -> None:
    image = np.zeros((40, 80))
    image[10, 60] = 1  # row 10 of the file: a quarter of the height from the first row
    flat = Picks(
        centers=np.argwhere(image).astype(float),
        scores=np.array([0.5], np.float32),
        shape=(40, 80),
        pixel_size=2.0,
    )
    path = tmp_path / "a.cs"
    write_picks(path, {MICROGRAPH: flat}, flavor=PickFormat.CRYOSPARC_EXTERNAL)
    table = np.load(path)
    assert table.dtype == np.dtype(FIELDS)
    (row,) = table
    assert (row["location/center_x_frac"], row["location/center_y_frac"]) == (0.75, 0.25)
    assert row["location/micrograph_shape"].tolist() == [40, 80]
    assert row["location/micrograph_uid"] == 8578565574161745010
    assert row["location/micrograph_psize_A"] == 2
    assert row["pick_stats/ncc_score"] == 0.5
    ((name, found),) = read_picks(path).items()
    assert name == MICROGRAPH
    assert found.centers.tolist() == [[10, 60]]
    assert found.pixel_size == 2
    write_picks(tmp_path / "b.cs", {name: found}, flavor=PickFormat.CRYOSPARC_EXTERNAL)
    assert (tmp_path / "b.cs").read_bytes() == path.read_bytes()


def test_cryosparc_needs_the_size_of_micrographs(tmp_path: Path) -> None:
    flat = Picks(centers=np.ones((1, 2)), pixel_size=2.0)
    with pytest.raises(OutputError, match=r"needs the size and the pixel size of m\.mrc"):
        write_picks(tmp_path / "a.cs", {"m.mrc": flat}, flavor=PickFormat.CRYOSPARC_EXTERNAL)


def test_a_huge_data_set_that_is_not_there_is_refused(tmp_path: Path) -> None:
    header = str({"descr": [("uid", "<u8")], "fortran_order": False, "shape": (10**12,)}).encode() + b"\n"
    (tmp_path / "a.cs").write_bytes(b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header)
    with pytest.raises(InputError, match="no structured array"):
        read_picks(tmp_path / "a.cs")


def test_relion_multiplies_the_matrices_of_subtomogram_and_particle(tmp_path: Path) -> None:
    text = (
        "data_particles\nloop_\n_rlnTomoName\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n"
        "_rlnAngleRot\n_rlnAngleTilt\n_rlnAnglePsi\n"
        "_rlnTomoSubtomogramRot\n_rlnTomoSubtomogramTilt\n_rlnTomoSubtomogramPsi\n"
        "t 1 2 3 10 20 30 40 50 60\n"
    )
    (tmp_path / "a.star").write_text(text)
    (picks,) = read_picks(tmp_path / "a.star").values()
    particle, subtomogram = RELION.matrices(np.array([[10.0, 20, 30], [40, 50, 60]]))
    assert picks.rotations is not None
    np.testing.assert_allclose(picks.rotations[0], subtomogram @ particle)


def test_one_orientation_in_all_conventions(tmp_path: Path) -> None:
    angles = np.array([[25.0, 70, -110]])
    matrix = RELION.matrices(angles)
    picks = Picks(centers=np.ones((1, 3)), rotations=matrix, pixel_size=10.0)
    write_picks(tmp_path / "a.tbl", {"1": picks}, flavor=PickFormat.DYNAMO)
    write_picks(tmp_path / "a.em", {"1": picks}, flavor=PickFormat.MOTL)
    table = np.loadtxt(tmp_path / "a.tbl")
    phi, psi, theta = np.frombuffer((tmp_path / "a.em").read_bytes()[512:], "<f4")[16:19]
    np.testing.assert_allclose(DYNAMO.matrices(table[None, 6:9]), matrix, atol=1e-6)
    np.testing.assert_allclose(MOTL.matrices(np.array([[phi, theta, psi]])), matrix, atol=1e-5)


TRACK = Picks(
    centers=np.array([[5.0, 0, 0], [5, 3, 4], [5, 6, 8]]), tracks=np.zeros(3, dtype=np.int64), pixel_size=10.0
)


def star_columns(path: Path) -> dict[str, list[float]]:
    import starfile

    table = starfile.read(path)
    return {name: list(table[name]) for name in table.columns}


def test_filaments_in_tomograms_have_the_columns_of_relion(tmp_path: Path) -> None:
    write_picks(tmp_path / "a.star", {"t": TRACK}, FRAME, flavor=PickFormat.STAR_RELION5)
    columns = star_columns(tmp_path / "a.star")
    assert columns["rlnHelicalTubeID"] == [1, 1, 1]
    assert columns["rlnHelicalTrackLengthAngst"] == [0, 50, 100]
    assert columns["rlnAngleTiltPrior"] == columns["rlnAngleTilt"] == [90] * 3
    assert columns["rlnAnglePsiPrior"] == columns["rlnAnglePsi"] == [0] * 3
    assert columns["rlnAnglePsiFlipRatio"] == [0.5] * 3
    (found,) = read_picks(tmp_path / "a.star", FRAME).values()
    assert found.rotations is not None
    # The z axis of each particle is the direction of its filament: (x, y, z) = (0.8, 0.6, 0).
    np.testing.assert_allclose(found.rotations[:, :, 2], [[0.8, 0.6, 0]] * 3, atol=1e-6)


def test_filaments_in_micrographs_have_priors_in_the_plane(tmp_path: Path) -> None:
    flat = replace(TRACK, centers=TRACK.centers[:, 1:])
    write_picks(tmp_path / "a.star", {"m.mrc": flat}, flavor=PickFormat.STAR)
    columns = star_columns(tmp_path / "a.star")
    assert columns["rlnHelicalTrackLengthAngst"] == [0, 50, 100]
    # -atan2(dy, dx) of the direction (0.8, 0.6)
    np.testing.assert_allclose(columns["rlnAnglePsiPrior"], [-36.8699] * 3, atol=1e-4)
    assert columns["rlnAngleTiltPrior"] == [90] * 3
    assert "rlnAngleRot" not in columns
    # In RELION's matrix the axis of the helix then lies along the track, with unknown polarity.
    (axis,) = RELION.matrices(np.array([[0.0, 90, columns["rlnAnglePsiPrior"][0]]]))[:, :, 2]
    np.testing.assert_allclose(np.abs(axis @ (0.8, 0.6, 0)), 1, atol=1e-6)
