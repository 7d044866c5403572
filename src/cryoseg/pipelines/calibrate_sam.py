"""Scores of a trained picker, fitted to what its picks on validation micrographs were worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from cryoseg.core.calibration import Calibration, expected_calibration_error, fit_calibration
from cryoseg.core.mask_picks import mask_to_picks
from cryoseg.core.metrics_picks import PickCurve, evaluate_picks, join_curves
from cryoseg.models.prompt_sam import PromptSam
from cryoseg.training.micrograph_samples import TrainingMicrograph
from cryoseg.training.sam_fit import micrograph_logits

MATCH_RADIUS = 0.25  # a pick counts within half a radius of a particle; in diameters


@dataclass(frozen=True, kw_only=True)
class PickFit:
    """Calibration of picks, and how good they are on the micrographs it was fitted to.

    Attributes
    ----------
    calibration
        From raw scores to scores.
    score_threshold
        With the best F1.
    f1
        At that threshold.
    error
        Expected calibration error; on the same micrographs, so a little too good.
    """

    calibration: Calibration
    score_threshold: float
    f1: float
    error: float


def pick_curve(
    network: PromptSam,
    micrographs: Sequence[TrainingMicrograph],
    *,
    logit_threshold: float,
    particle_pixels: float,
    device: torch.device,
) -> PickCurve:
    """Raw scores and hits of all picks on known pixels, best first."""
    curves = []
    for micrograph in micrographs:
        logits = micrograph_logits(network, micrograph, device)
        picks = mask_to_picks(logits, diameter_px=particle_pixels, logit_threshold=logit_threshold)
        rows, columns = np.rint(picks.centers).astype(int).T
        picks = picks.take(micrograph.labels[rows, columns] >= 0)
        found = evaluate_picks(
            picks.centers,
            micrograph.centers,
            radius_px=MATCH_RADIUS * particle_pixels,
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
    """Calibrate the scores of a network's picks on micrographs with known centers.

    Parameters
    ----------
    network
        Trained.
    micrographs
        That chose nothing but the best weights and the threshold.
    logit_threshold
        Of the mask that picks come from.
    particle_pixels
        Diameter of a particle in the micrographs as the network sees them.
    device
        Where the network is.
    """
    curve = pick_curve(
        network,
        micrographs,
        logit_threshold=logit_threshold,
        particle_pixels=particle_pixels,
        device=device,
    )
    calibration = fit_calibration(curve.scores, curve.is_hit)
    scores = calibration(curve.scores).astype(np.float64)
    threshold, f1 = PickCurve(scores=scores, is_hit=curve.is_hit, truths=curve.truths).best_f1
    return PickFit(
        calibration=calibration,
        # Rounded down, so that the pick that sets it stays above it in float32.
        score_threshold=0.0 if np.isnan(threshold) else float(np.floor(threshold * 1e4) / 1e4),
        f1=f1,
        error=expected_calibration_error(scores, curve.is_hit),
    )
