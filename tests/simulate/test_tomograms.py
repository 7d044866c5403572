"""Whole volumes: signal to noise, polarity, recipes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cryoseg.config.simulate import PolarityOnDisk, SimulateConfig, TomogramRecipe
from cryoseg.errors import ConfigError
from cryoseg.simulate.tomograms import simulate_tomogram

SMALL = SimulateConfig(shape=(16, 40, 44), seed=3)


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


def test_cells_are_crowded_and_have_membranes() -> None:
    config = SimulateConfig(recipe=TomogramRecipe.CELL, shape=(24, 96, 96), seed=5)
    records = [simulate_tomogram(config, index).record for index in range(4)]
    for record in records:
        assert 7.0 <= record["voxel_size_angstrom"] <= 14.0
        assert 0.1 <= record["snr"] <= 1.5
        assert record["membrane_fraction"] > 0.003
        assert 0.2 <= record["specimen"]["cytosol"]["share"] <= 0.4
        assert sum(record["specimen"]["cytosol"]["counts"]) > 20
    assert np.mean([record["distractor_fraction"] for record in records]) > 0.15


def test_asked_ranges_are_kept() -> None:
    config = dataclasses.replace(SMALL, pixel_size=(10.0, 10.0), snr=(0.2, 0.2))
    simulated = simulate_tomogram(config)
    assert simulated.voxel_size == 10.0
    assert simulated.record["snr"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shape": (8, 64, 64)}, "at least 16"),
        ({"pixel_size": (12.0, 8.0)}, "first number must not exceed the second"),
        ({"pixel_size": (0.8, 1.2)}, "angstrom"),
        ({"snr": (0.0, 1.0)}, "0.001"),
        ({"seed": -1}, "at least 0"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        SimulateConfig(**changes)  # type: ignore[arg-type]
