"""`cryoseg convert --near`: distances, numbers and normals of membranes at picks, and the places to keep."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cryoseg.config.convert import ConvertConfig, Place, PlaceRule
from cryoseg.errors import ConfigError, CryosegError, InputError
from cryoseg.events import Event
from cryoseg.io.images.volumes import write_mask
from cryoseg.io.picks.frame import PickFrame
from cryoseg.io.picks.picks import read_picks
from cryoseg.pipelines.convert.files import convert_picks
from cryoseg.types import Geometry, Picks

# Voxels (z, y, x), and radii of two spheres around one center, the outer one with a wall of more voxels.
CENTER, INNER, OUTER = np.array([30.0, 32.0, 34.0]), 12.0, 24.0
# Offsets of picks along x from the center, in voxels: in the inner sphere, on it, between, and outside.
OFFSETS = (5.0, 12.0, 16.0, 27.0)


@pytest.fixture(scope="module")
def mask(tmp_path_factory: pytest.TempPathFactory) -> Path:
    radius = np.linalg.norm(np.mgrid[:60, :64, :68] - CENTER[:, None, None, None], axis=0)
    marked = (np.abs(radius - INNER) < 2) | (np.abs(radius - OUTER) < 2)
    path = tmp_path_factory.mktemp("masks") / "ts_01_membrane_mask.mrc"
    write_mask(path, marked, Geometry(voxel_size=(10.0,) * 3), label="test")
    return path


def write_points(path: Path, factor: float = 1.0) -> Path:
    rows = [
        f"{(34 + offset + 0.5) * factor - 0.5},{32.5 * factor - 0.5},{30.5 * factor - 0.5}"
        for offset in OFFSETS
    ]
    path.write_text("x,y,z\n" + "\n".join(rows) + "\n")
    return path


def convert(
    source: Path, target: Path, mask: Path, *keep: str, voxel_size: float = 0.0
) -> tuple[Picks, list[str]]:
    told: list[str] = []

    def on_event(event: Event) -> None:
        told.append(getattr(event, "text", ""))

    rules = tuple(PlaceRule.read(text, option="--keep") for text in keep)
    config = ConvertConfig(near=mask, keep=rules, name="ts_01")
    convert_picks(source, target, config, frame=PickFrame(voxel_size=voxel_size), on_event=on_event)
    (picks,) = read_picks(target).values()
    return picks, told


@pytest.mark.parametrize("target", ["out.star", "out.csv"])
def test_columns_hold_distance_number_and_normal(tmp_path: Path, mask: Path, target: str) -> None:
    picks, told = convert(write_points(tmp_path / "ts_01.csv"), tmp_path / target, mask)
    distances = picks.columns["membrane_distance"].astype(float)
    # Inside of the nearest sphere the distance is negative, in angstrom.
    assert distances == pytest.approx([-70, 0, 40, 30], abs=3)
    # The outer sphere has more voxels, and so the number 1.
    assert picks.columns["membrane_component"].tolist() == ["2", "2", "2", "1"]
    assert picks.columns["membrane_tilt"].astype(float) == pytest.approx(90, abs=2)
    # The normal is +x: RELION's psi turns the other way than the axes of the image, and the tilt tips to -x.
    assert np.abs(picks.columns["membrane_psi"].astype(float)) == pytest.approx(180, abs=2)
    if target == "out.star":
        assert picks.rotations is not None
        assert picks.rotations @ [0, 0, 1] == pytest.approx(np.tile([1.0, 0, 0], (4, 1)), abs=0.05)
    else:
        assert any("csv cannot hold" in text and "orientations" in text for text in told)


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        (["inside"], [5.0, 12.0, 16.0]),
        (["outside"], [27.0]),
        (["within:35A"], [12.0, 27.0]),
        (["within:3.5nm", "outside"], [27.0]),
    ],
)
def test_places_are_kept(tmp_path: Path, mask: Path, keep: list[str], expected: list[float]) -> None:
    source = write_points(tmp_path / "ts_01.csv")
    source.write_text(source.read_text().replace("46.0", "45.9"))  # 1 A inside of the inner membrane
    picks, told = convert(source, tmp_path / "out.star", mask, *keep)
    assert picks.centers[:, 2] - 34 == pytest.approx(expected, abs=0.11)
    assert f"keeps {len(expected)} of 4 points" in " ".join(told)


def test_picks_in_smaller_voxels_than_those_of_the_mask_are_scaled(tmp_path: Path, mask: Path) -> None:
    source = write_points(tmp_path / "ts_01.csv", factor=2)
    picks, _ = convert(source, tmp_path / "out.star", mask, voxel_size=5.0)
    assert picks.columns["membrane_distance"].astype(float) == pytest.approx([-70, 0, 40, 30], abs=3)
    assert picks.centers[:, 2] == pytest.approx([(34.5 + offset) * 2 - 0.5 for offset in OFFSETS])


def test_a_folder_of_masks_serves_several_tomograms(tmp_path: Path, mask: Path) -> None:
    source = tmp_path / "all.csv"
    source.write_text("tomogram,x,y,z\nts_01,39,32,30\nts_02,39,32,30\n")
    other = tmp_path / "masks" / "ts_02_membrane_mask.mrc"
    other.parent.mkdir()
    empty = np.zeros((60, 64, 68), bool)
    write_mask(other, empty, Geometry(voxel_size=(10.0,) * 3), label="test")
    frame = PickFrame()
    with pytest.raises(InputError, match="one mask, and 2 tomograms"):
        convert_picks(source, tmp_path / "o.csv", ConvertConfig(near=mask), frame=frame)
    with pytest.raises(InputError, match="no mask for ts_01"):
        convert_picks(source, tmp_path / "o.csv", ConvertConfig(near=other.parent), frame=frame)
    (other.parent / mask.name).write_bytes(mask.read_bytes())
    convert_picks(source, tmp_path / "o.csv", ConvertConfig(near=other.parent), frame=frame)
    found = read_picks(tmp_path / "o.csv")
    assert found["ts_01"].columns["membrane_component"].tolist() == ["2"]
    assert found["ts_02"].columns["membrane_component"].tolist() == ["0"]
    assert found["ts_02"].columns["membrane_distance"].tolist() == ["nan"]


def test_lost_columns_are_named(tmp_path: Path, mask: Path) -> None:
    source = write_points(tmp_path / "ts_01.csv")
    told = convert(source, tmp_path / "out.tbl", mask)[1]
    assert any("dynamo cannot hold" in text and "membrane_distance" in text for text in told)


@pytest.mark.parametrize("text", ["near", "within", "within:far", "inside:10A"])
def test_other_places_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--keep"):
        PlaceRule.read(text, option="--keep")


def test_places_need_membranes() -> None:
    with pytest.raises(CryosegError, match="Pass --near"):
        ConvertConfig(keep=(PlaceRule(place=Place.INSIDE),))
