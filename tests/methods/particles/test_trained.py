from __future__ import annotations

import numpy as np
import pytest
import torch

from cryoseg.core.picking.micrograph_picks import draw_discs
from cryoseg.methods.particles import trained
from cryoseg.methods.particles.files import ParticleRecipe
from cryoseg.methods.particles.samples import TrainingMicrograph
from cryoseg.methods.particles.trained import with_scores


def test_scores_of_picks_mean_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Discs of strength s are particles with probability sigmoid(s); logits stand in for a network's."""
    rng = np.random.default_rng(0)
    shape, diameter = (800, 800), 12.0
    places = np.array([[y, x] for y in range(12, 790, 20) for x in range(12, 790, 20)], float)
    strengths = rng.uniform(0.5, 4, len(places))
    real = rng.random(len(places)) < 1 / (1 + np.exp(-(2 * strengths - 4)))
    numbers = draw_discs(places, shape, diameter_px=diameter)
    logits = np.where(numbers > 0, np.r_[0, strengths][numbers], -4).astype(np.float32)
    micrograph = TrainingMicrograph(
        name="a", grey=np.zeros(shape, np.float16), labels=np.zeros(shape, np.int32), centers=places[real]
    )
    monkeypatch.setattr(trained, "micrograph_logits", lambda network, grey, device: logits)
    recipe, metrics = with_scores(
        None,  # type: ignore[arg-type]
        [micrograph],
        ParticleRecipe(image_size=64, particle_pixels=diameter),
        torch.device("cpu"),
    )
    assert recipe.score_slope == pytest.approx(2, abs=0.3)
    assert recipe.score_intercept == pytest.approx(-4, abs=0.6)
    assert metrics["validation_calibration_error"] < 0.05
    assert 0.6 < metrics["validation_f1"] < 1
    # The best F1 of such scores lies near half of itself.
    assert recipe.score_threshold == pytest.approx(metrics["validation_f1"] / 2, abs=0.15)
