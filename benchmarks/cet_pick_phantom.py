"""Few-shot picking measured on the particle phantom: five seeds, the table of docs/results/cet-pick.md.

    python benchmarks/cet_pick_phantom.py DATA/particle_phantom [--seeds 5] [--set steps=140 ...]

Trains from labels.csv, picks the same tomogram at the default threshold, and scores with the
labeled positions taken out of the truth and of the picks (matching radius 4 voxels, greedy by
score, one to one). Neither training nor threshold sees truth.csv.
"""

from __future__ import annotations

import argparse
import ast
import json
import multiprocessing
import resource
import sys
import tempfile
from pathlib import Path

import numpy as np

RADIUS_VOXELS = 4.0
DIAMETER_ANGSTROM = 160.0


def score(centers, scores, truth, threshold, radius):
    """Average precision, best F1, F1 at a threshold, errors of the picks above it, and of the scores."""
    from cryoseg.core.metrics.matching import assign, find_neighbors, matched_in_order
    from cryoseg.core.picking.calibration import expected_calibration_error

    near = find_neighbors(centers, truth, radius_px=radius)
    hit, partner = matched_in_order(near, np.arange(len(centers))), assign(near)
    found = np.cumsum(hit)
    precision = found / np.arange(1, len(hit) + 1)
    f1 = 2 * found / (np.arange(1, len(hit) + 1) + len(truth))
    above = scores > threshold
    errors = (centers - truth[partner])[(partner >= 0) & above] if len(truth) else np.zeros((0, 3))
    return {
        "ap": float((precision * hit).sum() / len(truth)),
        "best_f1": float(f1.max(initial=0)),
        "f1": float(2 * (hit & above).sum() / (above.sum() + len(truth))),
        "error": float(np.linalg.norm(errors, axis=1).mean()) if len(errors) else float("nan"),
        "calibration_error": expected_calibration_error(scores, hit),
        "median_hit": float(np.median(scores[hit])) if hit.any() else float("nan"),
        "highest": float(scores.max(initial=0)),
        "bias_zyx": [round(float(v), 3) for v in errors.mean(axis=0)] if len(errors) else None,
    }


def cpu_seconds():
    """User plus system time of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def one_seed(folder, seed, settings):
    """Train, pick and score once."""
    begun = cpu_seconds()
    import torch

    from cryoseg.config.cet_pick import CetPickConfig
    from cryoseg.core.metrics.matching import assign, find_neighbors
    from cryoseg.io.images.volumes import read_tomogram
    from cryoseg.io.picks.picks import read_picks
    from cryoseg.methods.cet_pick.train import LabeledTomogram, train_detector
    from cryoseg.pipelines.pick.tomogram import pick_tomogram

    torch.set_num_threads(1)
    tomogram = read_tomogram(folder / "tomogram.mrc")
    labels = read_picks(folder / "labels.csv")[""].centers
    truth = read_picks(folder / "truth.csv")[""].centers
    config = CetPickConfig(particle_diameter_angstrom=DIAMETER_ANGSTROM, seed=seed, **settings)
    with tempfile.TemporaryDirectory() as run:
        trained = train_detector([LabeledTomogram(tomogram=tomogram, labels=labels)], config, Path(run))
    seconds = cpu_seconds() - begun
    result = pick_tomogram(tomogram, trained.detector)
    centers, scores = result.candidates.centers, result.candidates.scores
    new = np.array([np.linalg.norm(labels - center, axis=1).min() > RADIUS_VOXELS for center in centers])
    truth = truth[assign(find_neighbors(truth, labels, radius_px=0.5)) < 0]
    metrics = score(centers[new], scores[new], truth, result.threshold, RADIUS_VOXELS)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seed": seed, **metrics, "threshold": result.threshold, "cpu_s": seconds, "peak_gib": memory}


def main():
    """Run the seeds, each in a process of its own, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE")
    arguments = parser.parse_args()
    settings = {}
    for pair in arguments.set:
        name, value = pair.split("=", 1)
        try:
            settings[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            settings[name] = value
    if "contrast" in settings:
        from cryoseg.config.cet_pick import Contrast

        settings["contrast"] = Contrast(settings["contrast"])
    context = multiprocessing.get_context("spawn")
    rows = []
    for seed in arguments.seeds:
        with context.Pool(1) as pool:
            rows.append(pool.apply(one_seed, (arguments.folder, seed, settings)))
        print(json.dumps(rows[-1]), flush=True)
    print(
        "\n| seed | AP | F1 (default) | best F1 | calibration error | error (voxels) | bias z, y, x ", end=""
    )
    print("| CPU s | peak GiB |\n|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        bias = ", ".join(f"{value:+.2f}" for value in row["bias_zyx"])
        print(
            f"| {row['seed']} | {row['ap']:.3f} | {row['f1']:.3f} | {row['best_f1']:.3f} "
            f"| {row['calibration_error']:.3f} | {row['error']:.2f} | {bias} "
            f"| {row['cpu_s']:.0f} | {row['peak_gib']:.2f} |"
        )
    ap = [row["ap"] for row in rows]
    print(f"\nmean AP {np.mean(ap):.4f}, worst {min(ap):.4f}", file=sys.stderr)


if __name__ == "__main__":
    main()
