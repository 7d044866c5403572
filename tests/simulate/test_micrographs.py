"""Simulated micrographs: positions, labels, reproducible files, ranges."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cryoseg.config.simulate import MicrographRecipe, PolarityOnDisk, SimulateMicrographsConfig
from cryoseg.errors import ConfigError
from cryoseg.simulate.micrograph_themes import THEMES
from cryoseg.simulate.micrographs import simulate_micrograph
from cryoseg.simulate.particle_shapes import KINDS, draw_species, project

SMALL = SimulateMicrographsConfig(shape=(192, 224), particle_diameter_px=(16, 24), seed=5)


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_shape_has_its_diameter_and_projects_to_its_volume(kind: str) -> None:
    rng = np.random.default_rng(1)
    species = draw_species(rng, diameter=120.0, points=1500, kind=kind)
    reach = np.linalg.norm(species.points, axis=1)
    assert np.quantile(reach, 0.99) == pytest.approx(60.0)
    _, patch = project(rng, species, center=(50.3, 20.8), pixel_size=4.0, margin_px=3)
    # Thickness summed over pixels, times a pixel's area, is the volume.
    assert float(patch.sum()) * 16.0 == pytest.approx(float(species.weights.sum()), rel=1e-4)
    assert species.weights.sum() < 1.6 * 4 / 3 * np.pi * 75.0**3


def test_projection_is_centered_where_it_was_put() -> None:
    rng = np.random.default_rng(2)
    species = draw_species(rng, diameter=100.0, points=4000, kind="shell")
    corner, patch = project(rng, species, center=(40.25, 71.5), pixel_size=2.0, margin_px=2)
    y, x = np.indices(patch.shape)
    middle = [float((patch * axis).sum() / patch.sum()) + c for axis, c in zip((y, x), corner, strict=True)]
    assert middle == pytest.approx([40.25, 71.5], abs=0.7)


def test_labels_lie_at_their_positions() -> None:
    config = dataclasses.replace(SMALL, recipe=MicrographRecipe.SAMPLE)
    made = simulate_micrograph(config, 0)
    assert made.labels.dtype == np.int16
    assert len(made.centers) == made.record["particles"] > 3
    diameter = made.record["particle_diameter_px"]
    for number, center in enumerate(made.centers, start=1):
        inside = np.argwhere(made.labels == number)
        assert len(inside)
        assert np.linalg.norm(inside - center, axis=1).max() < 0.75 * diameter
    assert set(np.unique(made.labels)) >= set(range(1, len(made.centers) + 1))


def test_particles_are_darker_than_their_surroundings() -> None:
    config = dataclasses.replace(SMALL, recipe=MicrographRecipe.SAMPLE)
    made = simulate_micrograph(config, 1)
    mask = made.labels > 0
    dark = float(made.data[~mask].mean() - made.data[mask].mean())
    assert dark > 0
    bright = simulate_micrograph(dataclasses.replace(config, polarity=PolarityOnDisk.BRIGHT), 1)
    np.testing.assert_array_equal(bright.labels, made.labels)
    assert float(bright.data[mask].mean() - bright.data[~mask].mean()) == pytest.approx(dark, rel=1e-3)


def test_no_position_lies_on_carbon() -> None:
    # The label of a blocked particle is 0, so every position has its own number somewhere near it.
    for index in range(6):
        made = simulate_micrograph(SMALL, index)
        assert np.isfinite(made.data).all()
        assert made.data.dtype == np.float32
        assert made.labels.max() <= 32767
        assert (made.centers >= 0).all()
        assert (made.centers <= np.array(SMALL.shape) - 1).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (10, 400)}, "--shape 10x400"),
        ({"particle_diameter_px": (40.0, 20.0)}, "--particle-diameter-px 40:20"),
        ({"particle_diameter_px": (40.0, 200.0)}, "half of the image"),
        ({"particle_diameter": (1.0, 20.0)}, "--particle-diameter 1:20"),
        ({"seed": -1}, "--seed -1"),
    ],
)
def test_impossible_settings_name_their_option(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(SMALL, **changes)  # type: ignore[arg-type]


def test_hard_micrographs_show_particles_as_their_theme_says() -> None:
    config = dataclasses.replace(SMALL, recipe=MicrographRecipe.HARD)
    seen = set()
    for index in range(12):
        record = simulate_micrograph(config, index).record
        theme = THEMES[record["theme"]]
        seen.add(record["theme"])
        low, high = theme.detectability
        assert low <= record["detectability"] <= high
        assert record["species"][0] in theme.kinds
        if theme.defocus is not None:
            assert theme.defocus[0] <= record["imaging"]["defocus"] <= theme.defocus[1]
    assert len(seen) > 3


def test_cavity_of_a_shell_is_as_wide_as_requested() -> None:
    species = draw_species(
        np.random.default_rng(3), diameter=100.0, points=4000, kind="shell", cavity=(0.7, 0.7)
    )
    distance = np.linalg.norm(species.points, axis=1)
    assert distance.min() == pytest.approx(35.0, rel=0.03)
