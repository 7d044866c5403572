"""The bundled picker leaves a large ice crystal alone; the outline was drawn before it was trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.draw import polygon2mask

from cryoseg.config.pick_micrograph import MicrographPickConfig
from cryoseg.io.images.micrographs import read_micrograph
from cryoseg.methods.particles.model import load_particle_model
from cryoseg.pipelines.pick.micrograph import pick_micrograph

POLYGON = Path(__file__).parents[2] / "data" / "micrograph_ice_polygon.json"
DIAMETER_PX = 20.0
MOST_INSIDE = 0.10  # of the density outside


def test_the_polygon_covers_the_dark_crystal(real_data: Path) -> None:
    drawn = json.loads(POLYGON.read_text())
    image = read_micrograph(real_data / drawn["image"]).data
    assert list(image.shape) == drawn["shape_yx"]
    inside = polygon2mask(image.shape, np.array(drawn["vertices_xy"])[:, ::-1])
    assert 0.1 < inside.mean() < 0.2
    low, high = np.quantile(image[inside], 0.99), np.quantile(image[~inside], 0.01)
    assert low < np.median(image[~inside])
    assert np.median(image[inside]) < high


@pytest.mark.parametrize("name", ["particle-mixed", "particle-tiny"])
def test_picks_on_the_crystal_are_a_tenth_as_dense_as_outside(name: str, real_data: Path) -> None:
    drawn = json.loads(POLYGON.read_text())
    micrograph = read_micrograph(real_data / drawn["image"])
    model = load_particle_model(name, torch.device("cpu"))
    config = MicrographPickConfig(particle_diameter_px=DIAMETER_PX)
    picks = pick_micrograph(micrograph, model, config).picks
    inside = polygon2mask(micrograph.data.shape, np.array(drawn["vertices_xy"])[:, ::-1])
    on_ice = inside[tuple(np.clip(np.rint(picks.centers).astype(int), 0, np.array(inside.shape) - 1).T)]
    density_inside = on_ice.sum() / inside.sum()
    density_outside = (~on_ice).sum() / (~inside).sum()
    assert density_outside > 0
    assert density_inside <= MOST_INSIDE * density_outside
