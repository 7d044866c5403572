"""Calibrate the scores of a trained picker on validation micrographs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from cryoseg.core.metrics.picks import MatchCriteria, PickCurve, evaluate_picks, join_curves
from cryoseg.core.picking.calibration import Calibration, expected_calibration_error, fit_calibration
from cryoseg.core.picking.logit_picks import PEAK_SIGMAS, logits_to_picks
from cryoseg.methods.particles.fit import micrograph_logits
from cryoseg.methods.particles.samples import TrainingMicrograph
from cryoseg.methods.prompt_sam.network import PromptSam
from cryoseg.types import FloatArray

MATCH_RADIUS = 0.25  # largest distance of a correct pick from a particle, in diameters


@dataclass(frozen=True, kw_only=True)
class PickFit:
    """Calibration of scores and metrics of the picks on the micrographs it was fitted to.

    Attributes
    ----------
    peak_sigma
        Standard deviation of the blur with the best F1, in diameters.
    calibration
        Function from raw scores to scores.
    score_threshold
        Threshold with the best F1.
    f1
        F1 at that threshold.
    error
        Expected calibration error, slightly too small since it is of the same micrographs.
    """

    peak_sigma: float
    calibration: Calibration
    score_threshold: float
    f1: float
    error: float


def pick_curve(
    micrographs: Sequence[TrainingMicrograph],
    logits: Sequence[FloatArray],
    *,
    logit_threshold: float,
    peak_sigma: float,
    particle_pixels: float,
) -> PickCurve:
    """Return raw scores and hits of all picks in (y, x) logits on pixels with a known label."""
    curves = []
    for micrograph, drawn in zip(micrographs, logits, strict=True):
        picks = logits_to_picks(
            drawn, diameter_px=particle_pixels, logit_threshold=logit_threshold, peak_sigma=peak_sigma
        )
        rows, columns = np.rint(picks.centers).astype(int).T
        picks = picks.take(micrograph.labels[rows, columns] >= 0)
        found = evaluate_picks(
            picks.centers,
            micrograph.centers,
            MatchCriteria(radius_px=MATCH_RADIUS * particle_pixels),
            scores=picks.raw_scores,
        )
        assert found.curve is not None
        curves.append(found.curve)
    return join_curves(curves)


def fit_picks(
    network: PromptSam,
    micrographs: Sequence[TrainingMicrograph],
    *,
    logit_threshold: float,
    particle_pixels: float,
    device: torch.device,
) -> PickFit:
    """Calibrate the scores of a network's picks on micrographs with labels.

    Parameters
    ----------
    network
        Trained network on `device`.
    micrographs
        Validation micrographs.
    logit_threshold
        Logit threshold of the mask that is picked.
    particle_pixels
        Diameter of a particle in pixels of the network.
    device
        Device to compute on.
    """
    logits = [micrograph_logits(network, micrograph, device) for micrograph in micrographs]
    curves = {
        sigma: pick_curve(
            micrographs,
            logits,
            logit_threshold=logit_threshold,
            peak_sigma=sigma,
            particle_pixels=particle_pixels,
        )
        for sigma in PEAK_SIGMAS
    }
    # Without a single hit F1 is not a number, and the first width is used.
    peak_sigma = max(curves, key=lambda sigma: np.nan_to_num(curves[sigma].best_f1[1], nan=-1.0))
    curve = curves[peak_sigma]
    calibration = fit_calibration(curve.scores, curve.is_hit)
    scores = calibration(curve.scores).astype(np.float64)
    threshold, f1 = PickCurve(scores=scores, is_hit=curve.is_hit, truths=curve.truths).best_f1
    return PickFit(
        peak_sigma=peak_sigma,
        calibration=calibration,
        # Rounded down, so that in float32 the pick with this score is above the threshold.
        score_threshold=0.0 if np.isnan(threshold) else float(np.floor(threshold * 1e4) / 1e4),
        f1=f1,
        error=expected_calibration_error(scores, curve.is_hit),
    )
