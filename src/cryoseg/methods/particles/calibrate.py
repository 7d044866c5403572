"""Calibrate the scores of a trained picker on validation micrographs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from cryoseg.core.metrics.picks import MatchCriteria, PickCurve, evaluate_picks, join_curves
from cryoseg.core.picking.calibration import expected_calibration_error, fit_calibration
from cryoseg.core.picking.logit_picks import PEAK_SIGMAS, logits_to_picks
from cryoseg.methods.particles.fit import micrograph_logits
from cryoseg.methods.particles.recipe import ParticleRecipe
from cryoseg.methods.particles.samples import TrainingMicrograph
from cryoseg.methods.prompt_sam.network import PromptSam
from cryoseg.types import FloatArray

MATCH_RADIUS = 0.25  # largest distance of a correct pick from a particle, in diameters


def pick_curve(
    micrographs: Sequence[TrainingMicrograph], logits: Sequence[FloatArray], recipe: ParticleRecipe
) -> PickCurve:
    """Return raw scores and hits of all picks in (y, x) logits on pixels with a known label."""
    curves = []
    for micrograph, found in zip(micrographs, logits, strict=True):
        picks = logits_to_picks(
            found,
            diameter_px=recipe.particle_pixels,
            logit_threshold=recipe.logit_threshold,
            peak_sigma=recipe.peak_sigma,
        )
        rows, columns = np.rint(picks.centers).astype(int).T
        picks = picks.take(micrograph.labels[rows, columns] >= 0)
        criteria = MatchCriteria(radius_px=MATCH_RADIUS * recipe.particle_pixels)
        score = evaluate_picks(picks.centers, micrograph.centers, criteria, scores=picks.raw_scores)
        assert score.curve is not None
        curves.append(score.curve)
    return join_curves(curves)


def with_scores(
    network: PromptSam,
    micrographs: Sequence[TrainingMicrograph],
    recipe: ParticleRecipe,
    device: torch.device,
) -> tuple[ParticleRecipe, dict[str, float]]:
    """Calibrate the scores of a network's picks.

    Parameters
    ----------
    network
        Trained network on `device`.
    micrographs
        Validation micrographs.
    recipe
        Recipe with the logit threshold.
    device
        Device to compute on.

    Returns
    -------
    tuple
        Recipe with the blur, calibration and score threshold that have the best F1, and metrics of the
        picks for the model card.
    """
    logits = [micrograph_logits(network, micrograph, device) for micrograph in micrographs]
    curves = {
        sigma: pick_curve(micrographs, logits, replace(recipe, peak_sigma=sigma)) for sigma in PEAK_SIGMAS
    }
    # Without a single hit F1 is not a number, and the first width is used.
    peak_sigma = max(curves, key=lambda sigma: np.nan_to_num(curves[sigma].best_f1[1], nan=-1.0))
    curve = curves[peak_sigma]
    calibration = fit_calibration(curve.scores, curve.is_hit)
    scores = calibration(curve.scores).astype(np.float64)
    threshold, f1 = PickCurve(scores=scores, is_hit=curve.is_hit, truths=curve.truths).best_f1
    recipe = replace(
        recipe,
        peak_sigma=peak_sigma,
        score_slope=calibration.slope,
        score_intercept=calibration.intercept,
        # Rounded down, so that in float32 the pick with this score is above the threshold.
        score_threshold=0.0 if np.isnan(threshold) else float(np.floor(threshold * 1e4) / 1e4),
    )
    error = expected_calibration_error(scores, curve.is_hit)
    metrics = {"validation_f1": f1, "validation_calibration_error": error}
    return recipe, {name: round(value, 4) for name, value in metrics.items() if np.isfinite(value)}
