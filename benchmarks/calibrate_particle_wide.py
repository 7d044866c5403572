"""Fit calibration and score threshold of a particle model to the real validation micrographs.

    python benchmarks/calibrate_particle_wide.py DATA MODEL OUT.safetensors

DATA as in `specimens.py`. The picks are those of `cryoseg pick` with the annotated diameters. Every specimen
has the same weight: Platt's calibration sees 250 of its picks. The threshold is the middle of those with
which the mean F1 of the specimens is within 0.005 of the highest, which depends on few picks.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.special import logit
from specimens import SPECIMENS, VALID, fields_of

from cryoseg.config.pick_micrograph import MicrographPickConfig
from cryoseg.core.metrics.picks import MatchCriteria, PickCurve, evaluate_picks, join_curves
from cryoseg.core.picking.calibration import fit_calibration
from cryoseg.io.images.micrographs import read_micrograph
from cryoseg.methods.particles.files import read_particle_file, save_particle_model
from cryoseg.methods.particles.model import load_particle_model
from cryoseg.pipelines.pick.micrograph import pick_micrograph

EACH = 250  # picks of a specimen
THRESHOLDS = np.linspace(-3, 4, 71)  # raw scores
TOLERANCE = 0.005  # of F1


def f1_at(curve: PickCurve, threshold: float) -> float:
    """F1 of the picks with at least this raw score."""
    kept = curve.scores >= threshold
    return float(2 * curve.is_hit[kept].sum() / (kept.sum() + curve.truths))


def main() -> None:
    """Pick, fit, and write the model with its new recipe."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    model = load_particle_model(arguments.model, torch.device("cpu"))
    recipe = model.recipe
    curves: dict[str, list[PickCurve]] = {}
    for one in SPECIMENS:
        for field in fields_of(arguments.data, one):
            if field.role != VALID:
                continue
            micrograph = read_micrograph(field.image)
            config = MicrographPickConfig(particle_diameter_px=one.diameter_px, score_threshold=0.0)
            picks = pick_micrograph(micrograph, model, config).picks
            scores = np.clip(np.asarray(picks.scores, np.float64), 1e-6, 1 - 1e-6)
            raw = (logit(scores) - recipe.score_intercept) / recipe.score_slope
            criteria = MatchCriteria(
                radius_px=one.match_px, margin_px=one.margin_px, shape=micrograph.data.shape
            )
            curve = evaluate_picks(picks.centers, field.centers, criteria, scores=raw).curve
            curves.setdefault(one.name, []).append(curve)
    rng = np.random.default_rng(0)
    joined = [join_curves(each) for each in curves.values()]
    chosen = [rng.permutation(len(curve.scores))[:EACH] for curve in joined]
    calibration = fit_calibration(
        np.concatenate([curve.scores[index] for curve, index in zip(joined, chosen, strict=True)]),
        np.concatenate([curve.is_hit[index] for curve, index in zip(joined, chosen, strict=True)]),
    )
    means = [
        np.mean([np.mean([f1_at(curve, threshold) for curve in each]) for each in curves.values()])
        for threshold in THRESHOLDS
    ]
    best = THRESHOLDS[np.array(means) >= max(means) - TOLERANCE].mean()
    loaded = read_particle_file(arguments.model)
    changed = replace(
        recipe,
        score_slope=calibration.slope,
        score_intercept=calibration.intercept,
        score_threshold=round(float(calibration(np.array([best]))[0]), 3),
    )
    save_particle_model(arguments.output, loaded.network, changed, base=None, card=loaded.card)
    print(f"{changed}\nhighest mean F1 of the specimens: {max(means):.3f}")


if __name__ == "__main__":
    main()
