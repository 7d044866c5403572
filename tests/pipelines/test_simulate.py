"""Simulated files: determinism, resume, records."""

from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from cryoseg.config.simulate import SimulateConfig, SimulatedSeries, SimulateMicrographsConfig
from cryoseg.events import Report, Status
from cryoseg.io.images.volumes import read_mask, read_tomogram
from cryoseg.io.picks.picks import read_picks
from cryoseg.pipelines.simulate import Config, output_paths, simulate_files

SMALL = SimulateConfig(shape=(16, 40, 44), seed=3)
MICROGRAPHS = SimulateMicrographsConfig(shape=(192, 224), particle_diameter_px=(16, 24), seed=5)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the content of every file, without the line of a STAR file that tells the time."""
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    return {
        name: content.partition(b"\n")[2] if name.endswith(".star") else content
        for name, content in files.items()
    }


def run(config: Config, folder: Path, **series: int) -> Report:
    return simulate_files(config, folder, SimulatedSeries(**series))


def statuses(report: Report) -> list[str]:
    return [row.status.value for row in report.rows]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one_worker")
    assert statuses(run(SMALL, folder, count=3)) == ["done"] * 3
    return folder


def test_files_do_not_depend_on_the_number_of_workers_or_volumes(made: Path, tmp_path: Path) -> None:
    assert statuses(run(SMALL, tmp_path, count=2, workers=2)) == ["done"] * 2
    assert len(contents(tmp_path)) == 6
    expected = contents(made)
    assert contents(tmp_path) == {name: expected[name] for name in contents(tmp_path)}


def test_another_seed_or_index_is_another_volume(made: Path, tmp_path: Path) -> None:
    run(dataclasses.replace(SMALL, seed=4), tmp_path)
    first, second = ((made / f"sim_000{index}_tomogram.mrc").read_bytes() for index in (0, 1))
    assert len({first, second, (tmp_path / "sim_0000_tomogram.mrc").read_bytes()}) == 3


def test_deleted_output_is_made_again_and_nothing_else_is_touched(made: Path) -> None:
    before = contents(made)
    stamps = {path.name: path.stat().st_mtime_ns for path in made.iterdir()}
    for name in ("sim_0001_labels.mrc.gz", "sim_0002.json"):
        (made / name).unlink()
    assert statuses(run(SMALL, made, count=3)) == ["skipped", "done", "done"]
    assert contents(made) == before
    assert (made / "sim_0000_tomogram.mrc").stat().st_mtime_ns == stamps["sim_0000_tomogram.mrc"]


def test_files_of_other_settings_are_refused_unless_overwritten(made: Path) -> None:
    before = contents(made)
    other = dataclasses.replace(SMALL, snr=(0.5, 0.5))
    (row,) = run(other, made).rows
    assert row.status is Status.FAILED
    assert "snr" in row.message
    assert "--overwrite" in row.message
    assert contents(made) == before


def test_the_files_of_version_0_1_0_are_kept(made: Path, tmp_path: Path) -> None:
    run(SMALL, tmp_path)
    record = tmp_path / "sim_0000.json"
    content = json.loads(record.read_text())
    old = {name: content[name] for name in ("command", "config", "index", "snr")}
    record.write_text(json.dumps(old | {"software": "cryoseg 0.1.0"}, indent=1))
    assert statuses(run(SMALL, tmp_path)) == ["skipped"]


def test_record_header_and_labels_tell_the_same(made: Path) -> None:
    tomogram, labels, record_path = output_paths(SMALL, made, "sim_0000").values()
    record = json.loads(record_path.read_text())
    read, mask = read_tomogram(tomogram), read_mask(labels)
    assert read.data.shape == mask.data.shape == SMALL.shape
    assert read.geometry.voxel_size == pytest.approx((record["voxel_size_angstrom"],) * 3, rel=1e-5)
    assert mask.geometry.voxel_size == read.geometry.voxel_size
    assert str(read.data.dtype) == record["storage"]["type"]
    assert set(np.unique(mask.data)) == {0, 1}
    assert mask.data.mean() == pytest.approx(record["membrane_fraction"])
    assert gzip.decompress(labels.read_bytes())[208:212] == b"MAP "
    assert record["polarity"] == "dark"
    assert 0.05 <= record["snr"] <= 1.2
    assert 35.0 <= record["label_thickness_angstrom"] <= 50.0
    assert set(record["distractor_fractions"]) == {
        "cytosolic_protein",
        "ribosome",
        "membrane_protein",
        "filament",
        "gold",
        "ice_contamination",
        "carbon",
        "outside_lamella",
    }
    assert {"tilt_angles", "defocus", "doses", "jitter", "ctf"} <= set(record["imaging"])
    assert {"arrangement", "membranes", "bilayer"} <= set(record["specimen"])
    assert record["config"]["seed"] == 3


def test_micrographs_are_complete_reproducible_and_resumable(tmp_path: Path) -> None:
    assert statuses(run(MICROGRAPHS, tmp_path, count=2)) == ["done"] * 2
    before = contents(tmp_path)
    paths = output_paths(MICROGRAPHS, tmp_path, "sim_0001")
    paths["record"].unlink()
    assert statuses(run(MICROGRAPHS, tmp_path, count=2)) == ["skipped", "done"]
    assert contents(tmp_path) == before
    record = json.loads(paths["record"].read_text())
    assert (record["command"], record["index"]) == ("simulate micrographs", 1)
    micrograph, labels = read_tomogram(paths["micrograph"]), read_mask(paths["labels"])
    assert micrograph.data.shape == labels.data.shape == (1, *MICROGRAPHS.shape)
    assert micrograph.geometry.voxel_size[2] == pytest.approx(record["pixel_size_angstrom"], rel=1e-5)
    (picks,) = read_picks(paths["particles"]).values()
    assert len(picks) == record["particles"]
