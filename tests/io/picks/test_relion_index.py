from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cryoseg.config.pick import PickFormat
from cryoseg.errors import OutputError
from cryoseg.io.picks.picks import write_picks
from cryoseg.io.picks.relion_index import write_autopick, write_import_index
from cryoseg.io.picks.star import read_tables
from cryoseg.types import Picks


def star(path: Path, name: str, yx: list[tuple[float, ...]], **more) -> Path:
    centers = np.array(yx, float).reshape(len(yx), 3 if more.pop("deep", False) else 2)
    write_picks(path, {name: Picks(centers=centers, **more)}, flavor=PickFormat.STAR, overwrite=True)
    return path


def table(path: Path):
    ((name, found),) = read_tables(path)
    return name, found


def test_autopick_keeps_names_and_folders_of_the_micrographs(tmp_path):
    job = tmp_path / "External/job004"
    job.mkdir(parents=True)
    names = ["MotionCorr/job002/raw/g1/a.b.mrc", "raw/g2/c d.mrc", "/far/e.mrc", "../up/f.mrc"]
    picked = {name: star(tmp_path / f"{n}.star", name, [(n, n)]) for n, name in enumerate(names)}
    write_autopick(job, picked, project=tmp_path)
    block, index = table(job / "autopick.star")
    assert block == "coordinate_files"
    assert [*index.rlnMicrographName] == names
    assert [*index.rlnMicrographCoordinates] == [
        "External/job004/raw/g1/a.b_autopick.star",
        "External/job004/raw/g2/c d_autopick.star",
        "External/job004/far/e_autopick.star",
        "External/job004/up/f_autopick.star",
    ]
    for n, path in enumerate(index.rlnMicrographCoordinates):
        assert [*table(tmp_path / path)[1].rlnCoordinateX] == [str(n)]


def test_micrographs_of_two_jobs_with_one_name_keep_the_folders_of_the_jobs(tmp_path):
    names = ["MotionCorr/job002/raw/a.mrc", "MotionCorr/job003/raw/a.mrc"]
    write_autopick(
        tmp_path, {name: star(tmp_path / "p.star", name, [(1, 2)]) for name in names}, project=tmp_path
    )
    _, index = table(tmp_path / "autopick.star")
    assert [*index.rlnMicrographCoordinates] == [name.replace(".mrc", "_autopick.star") for name in names]


def test_coordinates_are_whole_since_relion_cuts_off_fractions(tmp_path):
    picked = {
        "m.mrc": star(tmp_path / "p.star", "m.mrc", [(10.4, 20.5), (10.6, 0.49)], scores=np.array([0.9, 0.8]))
    }
    write_autopick(tmp_path, picked, project=tmp_path)
    _, found = table(tmp_path / "m_autopick.star")
    assert [*found.rlnCoordinateX] == ["21", "0"]
    assert [*found.rlnCoordinateY] == ["10", "11"]
    assert found.rlnAutopickFigureOfMerit.astype(float).tolist() == [0.9, 0.8]


def test_rows_of_tiff_files_are_counted_from_the_last_one(tmp_path):
    picked = {"m.tif": star(tmp_path / "p.star", "m.tif", [(0.0, 3.0), (20.5, 7.0)])}
    write_autopick(tmp_path, picked, project=tmp_path, reversed_rows={"m.tif": 96})
    _, found = table(tmp_path / "m_autopick.star")
    assert [*found.rlnCoordinateX] == ["3", "7"]
    assert [*found.rlnCoordinateY] == ["95", "74"]


def test_a_micrograph_without_picks_has_an_empty_table(tmp_path):
    write_autopick(
        tmp_path, {"g/m.mrc": star(tmp_path / "p.star", "g/m.mrc", [])}, project=tmp_path / "other"
    )
    _, index = table(tmp_path / "autopick.star")
    # The folder is not in the project, so that the path is absolute.
    assert [*index.rlnMicrographCoordinates] == [str(tmp_path / "g/m_autopick.star")]
    _, found = table(tmp_path / "g/m_autopick.star")
    assert len(found) == 0
    assert {"rlnCoordinateX", "rlnCoordinateY"} <= {*found.columns}


def test_import_index_leaves_out_tomograms_without_particles(tmp_path):
    (tmp_path / "out").mkdir()
    files = [
        star(tmp_path / "out/TS_01.star", "TS_01", [(1, 2, 3)], deep=True),
        star(tmp_path / "out/TS_02.star", "TS_02", [], deep=True),
    ]
    write_import_index(tmp_path / "out/import_index.star", files, project=tmp_path)
    block, index = table(tmp_path / "out/import_index.star")
    assert block == "particles"
    assert index.to_numpy().tolist() == [["TS_01", "out/TS_01.star"]]


def test_import_index_has_angles_in_all_files_or_none(tmp_path):
    turned = star(tmp_path / "a.star", "TS_01", [(1, 2, 3)], deep=True, rotations=np.eye(3)[None])
    bare = star(tmp_path / "b.star", "TS_02", [(1, 2, 3)], deep=True)
    write_import_index(tmp_path / "i.star", [turned], project=tmp_path)
    with pytest.raises(OutputError, match=r"a\.star has angles and b\.star has none"):
        write_import_index(tmp_path / "i.star", [turned, bare], project=tmp_path)
