"""Damage that fuzzing found, each with the answer it has now."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cryoseg.config.pick import PickFormat
from cryoseg.errors import InputError
from cryoseg.io import records as score_files
from cryoseg.io.picks.picks import read_picks, write_picks
from cryoseg.io.picks.relion_frame import read_tomograms_star
from cryoseg.io.picks.relion_star import join_stars
from cryoseg.types import Picks

LOOP = "data_particles\n\nloop_\n"
STAR = LOOP + "_rlnTomoName #1\n_rlnCoordinateX #2\n_rlnCoordinateY #3\n_rlnCoordinateZ #4\n{}\n"
SIZES = "_rlnTomoSizeX\n_rlnTomoSizeY\n_rlnTomoSizeZ\n{}\n"
TOMOGRAMS = LOOP + "_rlnTomoName\n_rlnTomoTiltSeriesPixelSize\n" + SIZES


def save(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.star", STAR.format("ts 1 2 nan"), "rlnCoordinateZ is 'nan' in row 1"),
        ("a.star", STAR.format("ts 1 2 3\nts 1 x 3"), "rlnCoordinateY is 'x' in row 2"),
        ("a.star", STAR.format("ts 1 2 3\nts 1 2 3 4 5"), "cannot be read as STAR"),
        ("a.star", STAR.format("ts 1 2 3").replace("_rlnCoordinateY", "_rlnCoordinateX"), "a column twice"),
        ("a.star", "data_\n_a\n", "cannot be read as STAR"),
        ("a.star", "data_\n", "no table with coordinates"),
        ("a.cbox", "data_cryolo\n_a\n", "cannot be read as CBOX"),
        ("a.csv", "x,y,z\n1,2,inf\n", "line 2 is '1 2 inf'"),
        ("a.csv", "x,y,z,score\n1,2,3,high\n", "line 2"),
        ("a.csv", "x,y,z,x\n1,2,3,4\n", "names x twice"),
        ("a.csv", "x,y,z\n1,-1e300,3\n", r"a coordinate is -1e\+300, which is in no image"),
        ("a.json", "{}", "user_id, session_id, pickable_object_name and points"),
        ("a.csv", "x,y,name\n1,2," + "a" * 200_000 + "\n", "cannot be read as a table"),
        ("a.box", "1 2 nan 4\n", "finite numbers"),
        ("a.coords", "1 2 nan\n", "line 1"),
        ("a.point", "1 2 nan\n", "line 1"),
        ("a.ndjson", '{"location": {"x": 1, "y": 2, "z": NaN}}', "line 1 is no point"),
        ("a.ndjson", '{"location": {"x": 1, "y": 2, "z": 3}, "score": {}}', "line 1 is no point"),
        ("a.ndjson", "[" * 100_000, "line 1 is no point"),
    ],
)
def test_what_is_no_position_is_refused_in_a_line(tmp_path: Path, name: str, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        read_picks(save(tmp_path / name, text))
    assert "\n" not in str(caught.value)


def test_other_bytes_than_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.star").write_bytes(b"data_\n\x97\n")
    with pytest.raises(InputError, match="cannot be read as text"):
        read_picks(tmp_path / "a.star")


def test_a_mended_star_is_read_afresh(tmp_path: Path) -> None:
    path = save(tmp_path / "a.star", STAR.format("ts 1 2 3\nts 1 2 3 4 5"))
    with pytest.raises(InputError):
        read_picks(path)
    np.testing.assert_array_equal(read_picks(save(path, STAR.format("ts 1 2 3")))["ts"].centers, [[3, 2, 1]])


def test_incomplete_scores_and_tracks_are_none(tmp_path: Path) -> None:
    path = save(tmp_path / "a.csv", "tomogram,x,y,z,score,track\na,1,2,3,,\na,1,2,3,0.5,1\nb,1,2,3,0.5,4\n")
    sets = read_picks(path)
    assert sets["a"].scores is None
    assert sets["a"].tracks is None
    assert "only some of the points have a score" in sets["a"].warnings[0]
    assert not sets["b"].warnings
    np.testing.assert_array_equal(sets["b"].scores, [0.5])
    np.testing.assert_array_equal(sets["b"].tracks, [4])
    huge = '{"location": {"x": 1, "y": 2, "z": 3}, "score": 1e300, "instance_id": 99999999999999999999}'
    (picks,) = read_picks(save(tmp_path / "a.ndjson", huge)).values()
    assert picks.scores is None
    assert picks.tracks is None


def test_scored_and_unscored_sets_of_one_csv_come_back(tmp_path: Path) -> None:
    scored = Picks(centers=np.ones((2, 3)), scores=np.array([0.5, 0.25], np.float32))
    sets = {"a": scored, "b": Picks(centers=np.zeros((1, 3)))}
    write_picks(tmp_path / "a.csv", sets, flavor=PickFormat.CSV)
    found = read_picks(tmp_path / "a.csv")
    np.testing.assert_array_equal(found["a"].scores, scored.scores)
    assert found["b"].scores is None


def test_names_stay_as_the_file_has_them(tmp_path: Path) -> None:
    found = read_picks(save(tmp_path / "a.csv", "tomogram,x,y,z\nts.mrc,1,2,3\nts,4,5,6\n"))
    assert {name: len(picks) for name, picks in found.items()} == {"ts.mrc": 1, "ts": 1}


def test_a_star_without_particles_is_not_joined(tmp_path: Path) -> None:
    path = save(tmp_path / "a.star", STAR.format("ts 1 2 3").replace("data_particles", "data_other"))
    with pytest.raises(InputError, match="no table particles"):
        join_stars([path], tmp_path / "b.star")


@pytest.mark.parametrize(
    "row", ["ts 2.5 400 400 1e30", "ts 0 400 400 200", "ts 2.5 nan 400 200", "ts 2.5 0 4 2"]
)
def test_sizes_that_no_tomogram_has(tmp_path: Path, row: str) -> None:
    with pytest.raises(InputError, match="Correct it"):
        read_tomograms_star(save(tmp_path / "tomograms.star", TOMOGRAMS.format(row)))


@pytest.mark.parametrize("dtype", ["V1000000000", "O", "U99"])
def test_figures_of_a_score_are_numbers(dtype: str) -> None:
    with pytest.raises(TypeError, match="no type of numbers"):
        score_files._read(NDArray[np.float64], {"dtype": dtype, "values": [1]})


def test_a_model_is_read_chunk_by_chunk_to_its_end(tmp_path: Path) -> None:
    head = b"IMODV1.2" + bytes(232) + b"OBJT" + bytes(176)
    contour = b"CONT" + struct.pack(">iIii", 2, 0, 0, 0) + struct.pack(">6f", 1.5, 2.5, 3, 4.5, 5.5, 6)
    mesh = b"MESH" + struct.pack(">iiIhh", 1, 2, 0, 0, 0) + bytes(12 + 8)
    other = b"LABL" + struct.pack(">i", 5) + b"12345"
    whole = head + contour + other + mesh + contour + b"IEOF"
    (tmp_path / "a.mod").write_bytes(whole)
    (picks,) = read_picks(tmp_path / "a.mod").values()
    np.testing.assert_array_equal(picks.centers, [[3, 2, 1], [6, 5, 4]] * 2)
    np.testing.assert_array_equal(picks.tracks, [0, 0, 1, 1])
    for broken in (
        whole[:-4],
        whole[:300],
        whole.replace(struct.pack(">iI", 2, 0), struct.pack(">iI", 2**31 - 1, 0)),
        whole.replace(struct.pack(">iI", 2, 0), struct.pack(">iI", -1, 0)),
        whole.replace(b"LABL" + struct.pack(">i", 5), b"LABL" + struct.pack(">i", -8)),
        b"DOMI" + whole[4:],
    ):
        (tmp_path / "b.mod").write_bytes(broken)
        with pytest.raises(InputError, match="no IMOD model, or one that is cut short"):
            read_picks(tmp_path / "b.mod")
    (tmp_path / "c.mod").write_bytes(whole.replace(struct.pack(">f", 5.5), struct.pack(">f", np.nan)))
    with pytest.raises(InputError, match="no number"):
        read_picks(tmp_path / "c.mod")
