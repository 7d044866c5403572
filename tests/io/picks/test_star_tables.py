"""STAR tables: every cell stays the text that the file has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import starfile

from cryoseg import __version__
from cryoseg.config.pick import PickFormat
from cryoseg.errors import InputError, OutputError
from cryoseg.io.picks.picks import read_picks, write_picks
from cryoseg.io.picks.relion_star import join_stars
from cryoseg.io.picks.star import read_tables, write_table
from cryoseg.types import Picks

# Names that a reader of numbers, of missing values, or of STAR's own words would change.
NAMES = [
    "007",
    "1e5",
    "12.10",
    "00255",
    "nan",
    "inf",
    "NA",
    "null",
    "None",
    "<NA>",
    "True",
    "0x10",
    "1_000",
    "-0",
    "data_01.mrc",
    "loop_1",
    "_a.mrc",
    "#1.mrc",
    "mic#1.mrc",
    "it's.mrc",
    "'a.mrc",
    "grid 1/mic 01.mrc",
    "mic\u00a001.mrc",
    "h\u00e4lix.mrc",
]
FLAT = "data_\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n"


@pytest.mark.parametrize("flavor", [PickFormat.STAR, PickFormat.CSV])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_names_survive_a_round_trip(tmp_path: Path, flavor: PickFormat, dimensions: int) -> None:
    sets = {name: Picks(centers=np.full((1, dimensions), index)) for index, name in enumerate(NAMES)}
    path = tmp_path / f"a.{flavor.value}"
    write_picks(path, sets, flavor=flavor)
    found = read_picks(path)
    assert list(found) == NAMES
    for index, picks in enumerate(found.values()):
        np.testing.assert_array_equal(picks.centers, np.full((1, dimensions), index))


@pytest.mark.parametrize("name", ["a\tb.mrc", "a\nb.mrc", "a\" b'.mrc"])
def test_a_name_that_star_cannot_hold_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match="STAR cannot hold the name"):
        write_picks(tmp_path / "a.star", {name: Picks(centers=np.ones((1, 2)))}, flavor=PickFormat.STAR)


def test_joined_files_keep_names_and_numbers_as_text(tmp_path: Path) -> None:
    files = {}
    for name in ("007", "1e5"):
        path = tmp_path / f"{name}.star"
        write_picks(path, {name: Picks(centers=np.array([[1.5, 2, 3]]))}, flavor=PickFormat.STAR)
        files[path] = f"x/{name}"
    join_stars(files, tmp_path / "all.star")
    assert list(read_picks(tmp_path / "all.star")) == ["007", "1e5"]


def test_joined_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    files = {}
    for folder in ("grid1", "grid2"):
        path = tmp_path / f"{folder}_TS_01.star"
        write_picks(path, {"TS_01": Picks(centers=np.ones((2, 3)))}, flavor=PickFormat.STAR)
        files[path] = f"{folder}/TS_01"
    join_stars(files, tmp_path / "all.star")
    found = read_picks(tmp_path / "all.star")
    assert {name: len(picks) for name, picks in found.items()} == {"grid1/TS_01": 2, "grid2/TS_01": 2}


def test_blocks_of_one_name_are_both_read(tmp_path: Path) -> None:
    path = tmp_path / "a.star"
    path.write_text("data_a\n_b 1\n_c 'x y'\n\ndata_a\nloop_\n_d\n_e\n1 2\n")
    tables = read_tables(path)
    assert [name for name, _ in tables] == ["a", "a"]
    assert tables[0][1].iloc[0].to_dict() == {"b": "1", "c": "x y"}
    assert tables[1][1].to_numpy().tolist() == [["1", "2"]]


def test_nameless_tables_are_told_apart_by_their_blocks_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.star"
    loop = FLAT.removeprefix("data_")
    path.write_text(f"data_m1{loop}1 2\n3 4\n\ndata_m2{loop}5 6\n")
    assert {name: len(picks) for name, picks in read_picks(path).items()} == {"m1": 2, "m2": 1}
    path.write_text(f"{FLAT}1 2\n3 4\n\n{FLAT}5 6\n")
    with pytest.raises(InputError, match="2 tables name no image"):
        read_picks(path)


def test_a_tomogram_in_two_blocks_keeps_all_its_points(tmp_path: Path) -> None:
    path = tmp_path / "a.star"
    loop = "\nloop_\n_rlnTomoName\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n"
    path.write_text(f"data_a\n{loop}T 1 2 3\n\ndata_b\n{loop}T 4 5 6\n")
    assert read_picks(path)["T"].centers.tolist() == [[3, 2, 1], [6, 5, 4]]


def test_a_row_of_another_length_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.star"
    path.write_text(FLAT + "1 2\n3\n")
    with pytest.raises(InputError, match="line 7 has 1 values for 2 columns"):
        read_picks(path)


def test_comments_and_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.star"
    path.write_bytes(
        b"\xef\xbb\xbf# made by x\r\n" + (FLAT + "1 2 # by hand\n\n 3\t4  \n").replace("\n", "\r\n").encode()
    )
    assert read_picks(path)[""].centers.tolist() == [[2, 1], [4, 3]]


def test_a_table_without_rows_is_written(tmp_path: Path) -> None:
    write_table(tmp_path / "a.star", "particles", {"a": [], "b": []})
    assert list(read_tables(tmp_path / "a.star")[0][1].columns) == ["a", "b"]


def test_a_table_is_written_as_by_starfile(tmp_path: Path) -> None:
    table = {
        "name": ["a b.mrc", "", "c.mrc"],
        "whole": np.array([1, -2, 3]),
        "single": np.array([0.1, -0.0, np.nan], np.float32),
        "double": [1e9, 2.0000005, float("nan")],
    }
    path = tmp_path / "a.star"
    write_table(path, "particles", table)
    comment, rest = path.read_text().split("\n", 1)
    assert comment == f"# Created by cryoseg {__version__}"
    assert rest == starfile.to_string({"particles": pd.DataFrame(table)}).split("\n", 1)[1]
    write_table(path, "particles", pd.DataFrame(table))
    assert path.read_text() == f"{comment}\n{rest}"
