"""Few-shot picking on harder simulated phantoms: AP and F1 by number of labels.

    python benchmarks/cet_pick_hard.py RESULTS.jsonl [--cases noisy crowded ...] [--labels 10 25 100]
        [--seeds 0 1 2] [--set steps=140] [--table]

Each case trains on one phantom and is scored on another of the same kind. Finished runs are kept
in RESULTS.jsonl and not repeated; the table is printed from that file. Matching radius: a quarter
of the (largest) particle diameter.
"""

from __future__ import annotations

import argparse
import ast
import json
import multiprocessing
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

CASES = {
    "noisy": {"snr": 0.03},
    "crowded": {"snr": 0.05, "spacing": 1.0, "count": 400},
    "membranes and gold": {"snr": 0.05, "membranes": 4, "gold": 15},
    "solid, 8 A": {"snr": 0.03, "body": "solid", "voxel_size": 8.0, "diameters_angstrom": (140.0,)},
    "15 A": {"snr": 0.05, "voxel_size": 15.0, "shape": (48, 180, 180), "diameters_angstrom": (200.0,)},
    "two sizes, both wanted": {"snr": 0.05, "diameters_angstrom": (120.0, 200.0)},
    "one of two sizes": {
        "snr": 0.05,
        "diameters_angstrom": (140.0,),
        "distractor_diameter_angstrom": 240.0,
        "distractors": 40,
    },
    "all at once": {
        "snr": 0.03,
        "membranes": 3,
        "gold": 10,
        "count": 150,
        "diameters_angstrom": (160.0,),
        "distractor_diameter_angstrom": 260.0,
        "distractors": 25,
    },
}


def one_run(case, labels, seed, settings):
    """Train on one phantom, pick another, score."""
    import torch
    from cet_pick_phantom import cpu_seconds, score

    from cryoseg.config.cet_pick import CetPickConfig
    from cryoseg.config.simulate import Body, PhantomConfig
    from cryoseg.methods.cet_pick.train import LabeledTomogram, train_detector
    from cryoseg.pipelines.pick.tomogram import pick_tomogram
    from cryoseg.simulate.phantoms import make_phantom
    from cryoseg.types import Geometry, Tomogram

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    begun = cpu_seconds()
    kind = dict(CASES[case])
    if "body" in kind:
        kind["body"] = Body(kind["body"])
    train, test = (make_phantom(PhantomConfig(seed=base + seed, **kind)) for base in (1000, 2000))
    voxel = kind.get("voxel_size", 10.0)
    diameter = max(kind.get("diameters_angstrom", (160.0,)))
    geometry = Geometry(voxel_size=(voxel,) * 3)
    chosen = np.random.default_rng(seed).permutation(len(train.centers))[:labels]
    labeled = LabeledTomogram(
        tomogram=Tomogram(data=train.data, geometry=geometry), labels=train.centers[chosen]
    )
    config = CetPickConfig(particle_diameter_angstrom=diameter, seed=seed, **settings)
    with tempfile.TemporaryDirectory() as run:
        trained = train_detector([labeled], config, Path(run))
    result = pick_tomogram(Tomogram(data=test.data, geometry=geometry), trained.detector)
    scores = result.candidates.scores
    metrics = score(result.candidates.centers, scores, test.centers, result.threshold, diameter / voxel / 4)
    settings = replace(trained.detector.settings, score_slope=1.0, score_intercept=0.0)
    raw = pick_tomogram(
        Tomogram(data=test.data, geometry=geometry), replace(trained.detector, settings=settings)
    ).candidates
    sigmoid = score(raw.centers, raw.scores, test.centers, 0.5, diameter / voxel / 4)
    metrics |= {f"sigmoid_{name}": sigmoid[name] for name in ("calibration_error", "median_hit", "highest")}
    histogram = np.histogram(scores, bins=np.linspace(0, 1, 11))[0].tolist()
    return {
        "case": case,
        "labels": int(min(labels, len(chosen))),
        "asked": labels,
        "seed": seed,
        "truth": len(test.centers),
        **metrics,
        "threshold": result.threshold,
        "histogram": histogram,
        "checks": [[c["step"], c["recall"], c["threshold_logit"]] for c in trained.checks],
        "cpu_s": cpu_seconds() - begun,
    }


def main():
    """Do what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--cases", nargs="+", default=list(CASES))
    parser.add_argument("--labels", type=int, nargs="+", default=[10, 25, 100])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--table", action="store_true", help="print what is there, run nothing")
    arguments = parser.parse_args()
    settings = {name: ast.literal_eval(value) for name, value in (p.split("=", 1) for p in arguments.set)}
    rows = []
    if arguments.results.exists():
        rows = [json.loads(line) for line in arguments.results.read_text().splitlines()]
    done = {(row["case"], row["asked"], row["seed"]) for row in rows}
    context = multiprocessing.get_context("spawn")
    for seed in [] if arguments.table else arguments.seeds:
        for case in arguments.cases:
            for labels in arguments.labels:
                if (case, labels, seed) in done:
                    continue
                with context.Pool(1) as pool:
                    row = pool.apply(one_run, (case, labels, seed, settings))
                rows.append(row)
                with arguments.results.open("a") as stream:
                    stream.write(json.dumps(row) + "\n")
                print(json.dumps(row), flush=True)
    print(
        "\n| phantom | labels | runs | AP | F1 (default threshold) | best F1 | calibration error | sigmoid ",
        end="",
    )
    print("| error (voxels) |\n|---|---|---|---|---|---|---|---|---|")
    for case in CASES:
        for labels in sorted({row["asked"] for row in rows}):
            mine = [row for row in rows if row["case"] == case and row["asked"] == labels]
            if mine:
                ap, f1, best, gap, sigmoid, error = (
                    np.array([row.get(key, np.nan) for row in mine])
                    for key in (
                        "ap",
                        "f1",
                        "best_f1",
                        "calibration_error",
                        "sigmoid_calibration_error",
                        "error",
                    )
                )
                print(
                    f"| {case} | {labels} | {len(mine)} | {ap.mean():.3f} ({ap.min():.3f}) | "
                    f"{f1.mean():.3f} ({f1.min():.3f}) | {best.mean():.3f} | {gap.mean():.3f} | "
                    f"{sigmoid.mean():.3f} | "
                    f"{np.nanmean(error):.2f} |"
                )


if __name__ == "__main__":
    main()
