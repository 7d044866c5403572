"""Whole volumes: determinism, resume, record, polarity, recipes."""

from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from cryoseg.config.simulate import PolarityOnDisk, SimulateConfig, SimulatedSeries, TomogramRecipe
from cryoseg.errors import ConfigError, OutputError
from cryoseg.io.images.volumes import read_mask, read_tomogram
from cryoseg.simulate.tomograms import output_paths, simulate_folder, simulate_tomogram

SMALL = SimulateConfig(shape=(16, 40, 44), seed=3)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one_worker")
    outcomes = list(simulate_folder(SMALL, folder, SimulatedSeries(count=3)))
    assert [outcome.made for outcome in outcomes] == [True] * 3
    return folder


def test_files_do_not_depend_on_the_number_of_workers_or_volumes(made: Path, tmp_path: Path) -> None:
    assert len(list(simulate_folder(SMALL, tmp_path, SimulatedSeries(count=2, workers=2)))) == 2
    assert len(contents(tmp_path)) == 6
    expected = contents(made)
    assert contents(tmp_path) == {name: expected[name] for name in contents(tmp_path)}


def test_another_seed_or_index_is_another_volume(made: Path) -> None:
    first, second = (output_paths(made, i)[0].read_bytes() for i in (0, 1))
    assert first != second
    other = simulate_tomogram(dataclasses.replace(SMALL, seed=4), 0)
    assert not np.array_equal(other.data, read_tomogram(output_paths(made, 0)[0]).data)


def test_deleted_output_is_made_again_and_nothing_else_is_touched(made: Path) -> None:
    before = contents(made)
    stamps = {path.name: path.stat().st_mtime_ns for path in made.iterdir()}
    for name in ("sim_0001_labels.mrc.gz", "sim_0002.json"):
        (made / name).unlink()
    outcomes = sorted(
        simulate_folder(SMALL, made, SimulatedSeries(count=3)), key=lambda outcome: outcome.index
    )
    assert [outcome.made for outcome in outcomes] == [False, True, True]
    assert contents(made) == before
    assert (made / "sim_0000_tomogram.mrc").stat().st_mtime_ns == stamps["sim_0000_tomogram.mrc"]


def test_torn_record_does_not_count_as_finished(made: Path) -> None:
    before = contents(made)
    record = made / "sim_0000.json"
    record.write_text(record.read_text()[:100])
    outcomes = list(simulate_folder(SMALL, made, SimulatedSeries(count=1)))
    assert outcomes[0].made
    assert contents(made) == before


def test_folder_of_other_settings_is_refused_unless_overwritten(made: Path) -> None:
    other = dataclasses.replace(SMALL, snr=(0.5, 0.5))
    with pytest.raises(OutputError, match="other settings"):
        list(simulate_folder(other, made, SimulatedSeries(count=1)))


def test_record_header_and_labels_tell_the_same(made: Path) -> None:
    tomogram, labels, record_path = output_paths(made, 0)
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


@pytest.mark.parametrize("index", [0, 1, 2])
def test_recorded_snr_is_measured_back_from_the_two_parts(index: int) -> None:
    simulated = simulate_tomogram(SMALL, index)
    measured = simulated.noise_free.var(dtype=np.float64) / simulated.noise.var(dtype=np.float64)
    assert measured == pytest.approx(simulated.record["snr"], rel=1e-3)


def test_polarity_turns_the_sign_and_nothing_else() -> None:
    config = dataclasses.replace(SMALL, snr=(20.0, 20.0), recipe=TomogramRecipe.SAMPLE, shape=(24, 64, 64))
    dark = simulate_tomogram(config)
    bright = simulate_tomogram(dataclasses.replace(config, polarity=PolarityOnDisk.BRIGHT))
    np.testing.assert_array_equal(dark.labels, bright.labels)
    assert np.corrcoef(dark.data.ravel(), bright.data.ravel())[0, 1] < -0.999
    assert np.corrcoef(dark.data.ravel(), dark.noise_free.ravel())[0, 1] < -0.9


def test_heldout_volumes_hold_three_kinds_of_distractor_over_a_tenth_of_their_voxels() -> None:
    config = SimulateConfig(recipe=TomogramRecipe.HELDOUT, shape=(24, 64, 64), seed=11)
    for index in range(3):
        record = simulate_tomogram(config, index).record
        assert record["distractor_fraction"] > 0.10
        assert sum(value > 0.002 for value in record["distractor_fractions"].values()) >= 3
        assert 0.1 <= record["snr"] <= 0.5
        assert 8.0 <= record["voxel_size_angstrom"] <= 16.0
        angles = record["imaging"]["tilt_angles"]
        assert max(abs(angles[0]), abs(angles[-1])) <= 60.0


def test_asked_ranges_are_kept() -> None:
    config = dataclasses.replace(SMALL, pixel_size=(10.0, 10.0), snr=(0.2, 0.2))
    simulated = simulate_tomogram(config)
    assert simulated.voxel_size == 10.0
    assert simulated.record["snr"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shape": (8, 64, 64)}, "at least 16"),
        ({"pixel_size": (12.0, 8.0)}, "range must rise"),
        ({"pixel_size": (0.8, 1.2)}, "angstrom"),
        ({"snr": (0.0, 1.0)}, "0.001"),
        ({"seed": -1}, "at least 0"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        SimulateConfig(**changes)  # type: ignore[arg-type]
