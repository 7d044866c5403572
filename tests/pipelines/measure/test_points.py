"""Statistics of picks in `measure_files`: the columns, the table of picks, the record and the page."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from cryoseg.config.measure import MeasureConfig
from cryoseg.events import Status
from cryoseg.io.images.volumes import write_mask
from cryoseg.pipelines.measure.files import measure_files
from cryoseg.types import Geometry

CENTER, RADIUS = 19.5, 14.0  # voxels of 10 A


@pytest.fixture(scope="module")
def mask(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("masks") / "ts_01_membrane_mask.mrc"
    radius = np.linalg.norm(np.mgrid[:40, :40, :40] - CENTER, axis=0)
    write_mask(path, np.abs(radius - RADIUS) < 2, Geometry(voxel_size=(10.0,) * 3), label="test")
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_poles_and_a_distant_pick(tmp_path: Path, mask: Path) -> None:
    picks = tmp_path / "picks.csv"
    # Both poles along z and one point of the equator, 2 voxels outside, and the center.
    places = [(CENTER, CENTER, CENTER + 16), (CENTER, CENTER, CENTER - 16), (CENTER + 16, CENTER, CENTER)]
    lines = [f"{x},{y},{z}" for x, y, z in [*places, (CENTER, CENTER, CENTER)]]
    picks.write_text("x,y,z\n" + "\n".join(lines) + "\n")
    report = measure_files([mask], tmp_path / "out", MeasureConfig(picks=picks, picks_within_angstrom=50))
    assert [row.status for row in report.rows] == [Status.DONE]
    assert report.rows[0].columns["on membranes"] == "3 of 4 picks"
    (membrane,) = rows_of(tmp_path / "out" / "ts_01_membrane_mask_measures.csv")
    assert membrane["points"] == "3"
    assert float(membrane["points_per_nm2"]) == pytest.approx(3 / (4 * np.pi * 14**2), rel=0.02)
    # From the pole and the equator it is a quarter of a great circle to the nearest other one.
    quarter = np.pi / 2 * 14
    assert float(membrane["nearest_point_nm"]) == pytest.approx(quarter, rel=0.03)
    *near, center = rows_of(tmp_path / "out" / "ts_01_membrane_mask_points.csv")
    for row in near:
        assert (row["component"], row["is_on_membrane"]) == ("1", "yes")
        assert float(row["distance_nm"]) == pytest.approx(2, abs=0.3)
        assert float(row["nearest_point_nm"]) == pytest.approx(quarter, rel=0.03)
    assert (center["is_on_membrane"], center["nearest_point_nm"]) == ("no", "")
    assert float(center["distance_nm"]) == pytest.approx(-14, abs=0.3)
    record = json.loads((tmp_path / "out" / "ts_01_membrane_mask_measures.json").read_text())
    assert record["points"]["picks_on_membranes"] == 3
    assert len(record["points"]["ripley_l"]["observed_nm"]) == len(record["points"]["ripley_l"]["radii_nm"])
    assert "Ripley" in (tmp_path / "out" / "ts_01_membrane_mask_measures.html").read_text()


def ripley_of(tmp_path: Path, mask: Path, directions: np.ndarray) -> dict[str, np.ndarray]:
    """Return the columns of the table of Ripley's L of picks on the sphere of the mask."""
    places = CENTER + RADIUS * directions / np.linalg.norm(directions, axis=1)[:, None]
    picks = tmp_path / "picks.csv"
    picks.write_text("x,y,z\n" + "\n".join(f"{x},{y},{z}" for x, y, z in places) + "\n")
    measure_files([mask], tmp_path / "out", MeasureConfig(picks=picks))
    rows = rows_of(tmp_path / "out" / "ts_01_membrane_mask_ripley.csv")
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def test_random_picks_stay_near_the_envelope_of_ripleys_l(tmp_path: Path, mask: Path) -> None:
    found = ripley_of(tmp_path, mask, np.random.default_rng(1).normal(size=(40, 3)))
    # By chance, a curve leaves limits that hold 95 % at each radius, but hardly limits of twice this width.
    far = found["radius_nm"] > 4
    width = (found["random_high_nm"] - found["random_low_nm"])[far]
    assert (np.abs(found["picks_nm"] - found["random_mean_nm"])[far] < width).all()
    # A cap of a sphere has the area 2 pi R^2 (1 - cos(r / R)), of which K is the mean over random picks.
    expected = RADIUS * np.sqrt(2 * (1 - np.cos(found["radius_nm"] / RADIUS)))
    assert found["random_mean_nm"][-10:] == pytest.approx(expected[-10:], rel=0.05)


def test_clustered_picks_exceed_the_envelope_by_what_is_counted_by_hand(tmp_path: Path, mask: Path) -> None:
    # Six groups of five picks on the axes. Within a radius between the size of a group and the distance of
    # two groups, every pick has 4 neighbors, so that K = 4 area / 29.
    axes = np.concatenate([np.eye(3), -np.eye(3)])
    shifts = np.random.default_rng(6).normal(0, 0.04, (6, 5, 3))
    found = ripley_of(tmp_path, mask, (axes[:, None] + shifts).reshape(-1, 3))
    middle = (found["radius_nm"] > 4) & (found["radius_nm"] < 12)
    assert middle.any()
    counted = np.sqrt(4 * 4 * np.pi * RADIUS**2 / 29 / np.pi)
    assert found["picks_nm"][middle] == pytest.approx(counted, rel=0.02)
    assert (found["picks_nm"] > found["random_high_nm"])[middle & (found["radius_nm"] < 8)].all()


def test_picks_of_the_tomogram_are_found_by_its_name(tmp_path: Path, mask: Path) -> None:
    picks = tmp_path / "picks.csv"
    picks.write_text(f"tomogram,x,y,z\nts_02,1,1,1\nts_01,{CENTER},{CENTER},{CENTER + 14}\n")
    report = measure_files([mask], tmp_path / "out", MeasureConfig(picks=picks))
    assert report.rows[0].columns["on membranes"] == "1 of 1 picks"
    picks.write_text("tomogram,x,y,z\nts_02,1,1,1\nts_03,1,1,1\n")
    report = measure_files([mask], tmp_path / "other", MeasureConfig(picks=picks))
    assert report.rows[0].status is Status.FAILED
    assert "holds no picks of ts_01" in report.rows[0].message


def test_a_mask_without_membranes_has_no_picks_on_them(tmp_path: Path) -> None:
    mask, picks = tmp_path / "empty.mrc", tmp_path / "picks.csv"
    write_mask(mask, np.zeros((8, 8, 8), bool), Geometry(voxel_size=(10.0,) * 3), label="test")
    picks.write_text("x,y,z\n1,1,1\n")
    report = measure_files([mask], tmp_path / "out", MeasureConfig(picks=picks))
    assert report.rows[0].columns["on membranes"] == "0 of 1 picks"
    (row,) = rows_of(tmp_path / "out" / "empty_points.csv")
    assert (row["component"], row["distance_nm"]) == ("", "")
    assert rows_of(tmp_path / "out" / "empty_ripley.csv") == []
