"""ChimeraX is not run here: positions are held against values computed by hand from its source."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from cryoseg.errors import OutputError
from cryoseg.io.picks.chimerax import Scene, chimerax_frame, write_markers, write_scene
from cryoseg.types import Geometry, Picks, Tomogram


@pytest.mark.parametrize(
    ("geometry", "origin", "step"),
    [
        # mrc_format.py: the origin of the header if it is not zero, whatever the start indices are.
        (
            Geometry(voxel_size=(10.0, 8.0, 5.0), origin=(30.0, 0.0, -7.5), start=(1, 2, 3)),
            [-7.5, 0, 30],
            [5, 8, 10],
        ),
        # Otherwise the start indices times the voxel size.
        (Geometry(voxel_size=(10.0, 8.0, 5.0), start=(1, 2, -3)), [-15, 16, 10], [5, 8, 10]),
        # A step of 1 if a length of the cell is 0.
        (Geometry(voxel_size=(0.0, 8.0, 5.0), start=(1, 2, 3)), [3, 2, 1], [1, 1, 1]),
        (Geometry(), [0, 0, 0], [1, 1, 1]),
    ],
)
def test_the_frame_is_that_of_chimerax(geometry: Geometry, origin: list, step: list) -> None:
    found = chimerax_frame(geometry)
    assert found[0].tolist() == origin
    assert found[1].tolist() == step


def test_a_pick_lies_at_the_center_of_its_voxel(tmp_path: Path) -> None:
    # Voxel (z, y, x) = (2, 3, 4) of 10 A with the origin (x, y, z) = (100, 200, 300):
    # x = 100 + 4 * 10, y = 200 + 3 * 10, z = 300 + 2 * 10.
    geometry = Geometry(voxel_size=(10.0,) * 3, origin=(300.0, 200.0, 100.0))
    picks = Picks(
        centers=np.array([[2.0, 3.0, 4.0], [0.0, 0.0, 0.0], [0.5, 0.25, 0.0]]),
        scores=np.array([1.0, 0.5, 0.0], np.float32),
        tracks=np.array([1, 1, 2]),
    )
    path = tmp_path / "a<b.cmm"
    write_markers(path, picks, geometry, diameter=80.0)
    root = ET.parse(path).getroot()
    assert root.tag == "marker_set"
    assert root.get("name") == "a<b"
    markers = root.findall("marker")
    assert [[float(one.get(axis)) for axis in "xyz"] for one in markers] == [
        [140, 230, 320],
        [100, 200, 300],
        [100, 202.5, 305],
    ]
    assert {float(one.get("radius")) for one in markers} == {40.0}
    assert [float(one.get("score")) for one in markers] == [1, 0.5, 0]
    assert [one.get("r") for one in markers] == ["1", "0.6", "0.2"]
    assert [(one.get("id1"), one.get("id2")) for one in root.findall("link")] == [("1", "2")]
    with pytest.raises(OutputError, match="exists"):
        write_markers(path, picks, geometry)


def test_markers_without_a_diameter_are_four_voxels_wide(tmp_path: Path) -> None:
    write_markers(tmp_path / "a.cmm", Picks(centers=np.zeros((1, 3))), Geometry(voxel_size=(7.0,) * 3))
    (marker,) = ET.parse(tmp_path / "a.cmm").getroot()
    assert float(marker.get("radius")) == 14.0
    assert marker.get("score") is None


def scene_of(folder: Path, name: str = "tomo.mrc") -> Scene:
    geometry = Geometry(voxel_size=(10.0, 8.0, 5.0), origin=(30.0, 20.0, -7.5))
    tomogram = Tomogram(data=np.zeros((7, 20, 30)), geometry=geometry, source=folder / "raw data" / name)
    out = folder / "out"
    return Scene(tomogram=tomogram, mask=out / "m.mrc", labels=out / "c.mrc", markers=out / "p.cmm")


def test_a_scene_opens_its_files_by_relative_names_at_one_place(tmp_path: Path) -> None:
    scene = scene_of(tmp_path)
    write_scene(tmp_path / "scene.cxc", scene, tmp_path / "out")
    lines = (tmp_path / "scene.cxc").read_text().splitlines()
    assert lines[0].startswith("# tomo.mrc, written by cryoseg")
    assert lines[2:] == [
        "close session",
        'open "../raw data/tomo.mrc" format mrc',
        "volume #1 voxelSize 5,8,10",
        "volume #1 origin -7.5,20,30",
        "volume #1 style image step 1 region 0,0,3,29,19,3",
        'open "m.mrc" format mrc',
        "volume #2 voxelSize 5,8,10",
        "volume #2 origin -7.5,20,30",
        "volume #2 style surface step 1 color #4f97d9 level 0.5",
        "volume #2 hide",
        'open "c.mrc" format mrc',
        "volume #3 voxelSize 5,8,10",
        "volume #3 origin -7.5,20,30",
        "volume #3 hide",
        "segmentation surfaces #3",
        'open "p.cmm"',
        "view",
    ]


def test_other_formats_than_mrc_are_named_and_left_out(tmp_path: Path) -> None:
    write_scene(tmp_path / "scene.cxc", scene_of(tmp_path, "tomo.em"), tmp_path / "out")
    text = (tmp_path / "scene.cxc").read_text()
    assert "# tomo.em is no MRC file" in text
    assert 'open "m.mrc" format mrc\nvolume #1 ' in text
    assert "segmentation surfaces #2" in text


def test_quotes_and_backslashes_in_names(tmp_path: Path) -> None:
    write_scene(tmp_path / "scene.cxc", scene_of(tmp_path, 'a"b\\c.mrc'), tmp_path / "raw data")
    assert "open 'a\"b\\\\c.mrc' format mrc" in (tmp_path / "scene.cxc").read_text()
