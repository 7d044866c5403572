"""Average the logits of membrane-tiny over one to eight orientations, and compare the masks with the truth.

    python benchmarks/membrane_orientations.py RESULTS.jsonl TOMOGRAM TRUTH [TOMOGRAM TRUTH ...]

Every mask is post-processed with thin-noise. `error_auroc` is the probability that a wrong voxel has a larger
spread than a right one, among the voxels whose truth is known. Finished tomograms in RESULTS.jsonl are not
repeated; the table holds the mean over all of them.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.special import expit
from scipy.stats import rankdata

from cryoseg.config import EvaluateConfig, Metric, ModelChoice, ModelName, PostprocessStep, SegmentConfig
from cryoseg.core.grids.blank import find_blank
from cryoseg.core.grids.orientations import ORIENTATIONS, OrientationMean
from cryoseg.core.masks.postprocess import postprocess_mask
from cryoseg.core.metrics.masks import evaluate_mask, metrics_of
from cryoseg.io.images.volumes import read_mask, read_tomogram
from cryoseg.methods.segmenter import Execution, SegmentInput, no_progress
from cryoseg.pipelines.segment.model import prepare_run
from cryoseg.pipelines.segment.tomogram import check_tomogram

COUNTS = (1, 2, 4, 8)
METRICS = EvaluateConfig(metrics=(Metric.OVERLAP, Metric.NEAR))


def auroc(values: np.ndarray, wrong: np.ndarray) -> float:
    """Probability that a value of `wrong` exceeds one of the others; ties count one half."""
    ranks = rankdata(values)
    count = int(wrong.sum())
    below = ranks[wrong].sum() - count * (count + 1) / 2
    return float(below / (count * (len(values) - count)))


def measure(path: Path, truth_path: Path) -> list[dict]:
    """One row for each number of orientations."""
    tomogram, truth = read_tomogram(path), read_mask(truth_path).data
    run = prepare_run(SegmentConfig(), ModelChoice(name=ModelName.MEMBRANE_TINY), device="cpu")
    volume = SegmentInput(
        data=tomogram.data,
        pixel_size=check_tomogram(tomogram, run).angstrom,
        blank=find_blank(tomogram.data),
    )
    mean, parts = OrientationMean(with_spread=False), []
    known = truth >= 0
    rows, seconds = [], 0.0
    for number, orientation in enumerate(ORIENTATIONS, start=1):
        begun = time.process_time()
        turned = replace(
            volume,
            data=orientation.apply(volume.data),
            blank=None if volume.blank is None else orientation.apply(volume.blank),
        )
        result = run.model.method.segment(
            turned, run.config, run.model.files, Execution(device=run.device), no_progress
        )
        seconds += time.process_time() - begun
        logits = orientation.undo(result.logits)
        parts.append(expit(logits)[known])
        mean.add(logits.copy())
        if number not in COUNTS:
            continue
        mask = mean.logits > np.float32(run.config.logit_threshold)
        score = evaluate_mask(postprocess_mask(mask, [PostprocessStep.THIN_NOISE]), truth, METRICS)
        wrong = mask[known] != (truth[known] > 0)
        row = {"name": path.name, "orientations": number, "cpu_seconds": seconds}
        row |= metrics_of(score, METRICS)
        if number > 1:
            row["error_auroc"] = auroc(np.std(parts, axis=0), wrong)
            row["error_auroc_margin"] = auroc(-np.abs(mean.logits[known] - run.config.logit_threshold), wrong)
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def main() -> None:
    """Do what is missing and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("files", nargs="*", type=Path, help="Tomograms, each followed by its truth.")
    options = parser.parse_args()
    rows = []
    if options.results.exists():
        rows = [json.loads(line) for line in options.results.read_text().splitlines()]
    for path, truth in zip(options.files[::2], options.files[1::2], strict=True):
        if path.name not in {row["name"] for row in rows}:
            new = measure(path, truth)
            rows += new
            with options.results.open("a") as stream:
                stream.writelines(json.dumps(row) + "\n" for row in new)
    names = [name for name in rows[-1] if name not in ("name", "orientations")]
    print("| orientations |", " | ".join(names), "|")
    for count in COUNTS:
        own = [row for row in rows if row["orientations"] == count]
        print(
            f"| {count} |", " | ".join(f"{np.mean([row.get(n, np.nan) for row in own]):.4g}" for n in names)
        )


if __name__ == "__main__":
    main()
