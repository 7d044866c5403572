"""A membrane model on simulated tomograms: both stages, what the missing wedge hides, the ridge filter.

    python benchmarks/membrane_simulated.py RESULTS.jsonl FOLDER... [--model FILE] [--ridge] [--threshold1 T]
        [--by-snr]

FOLDER is one of `cryoseg simulate tomograms`; its records tell SNR and tilt range. Finished volumes
are kept in RESULTS.jsonl and not repeated. Stage 2 has the threshold of the model file; stage 1 has
that of `--threshold1`, to be chosen on the validation volumes, which chose the other one too: the
best common threshold of a folder is printed.

A membrane whose normal lies in the missing wedge leaves no signal: its normal (nx, ny, nz) fulfils
|nz| > tan(a) |nx| for a tilt axis along y and tilts up to a. Labels hold it all the same. The
benchmark tells the recall of both parts, and the Dice over what is not hidden (voxels within
three of hidden membrane left out).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from empiar10017_methods import binary_dice
from ridge_baseline import SIGMA_PX, ridge_strength
from scipy import ndimage

from cryoseg.config import ModelChoice, ModelName, PostprocessStep, SegmentConfig
from cryoseg.core.metrics.overlap import sweep_thresholds
from cryoseg.core.metrics.statistics import mean_with_interval
from cryoseg.io.images.volumes import read_mask, read_tomogram
from cryoseg.methods.training.learner import LOGIT_BINS, dice_by_threshold
from cryoseg.pipelines.segment.model import prepare_run, resolve_model
from cryoseg.pipelines.segment.tomogram import check_tomogram, segment_in_run

NEAR_HIDDEN = 3  # voxels


def hidden_by_wedge(membrane: np.ndarray, largest_tilt: float) -> np.ndarray:
    """Membrane voxels whose normal lies in the missing wedge; (z, y, x) boolean, tilt axis y, degrees.

    The normal is the first axis of the structure tensor of the smoothed labels.
    """
    smooth = ndimage.gaussian_filter(membrane.astype(np.float32), 1.5)
    slopes = np.gradient(smooth)
    tensor = np.empty((int(membrane.sum()), 3, 3))
    for a in range(3):
        for b in range(a, 3):
            both = ndimage.gaussian_filter(slopes[a] * slopes[b], 2.0)[membrane]
            tensor[:, a, b] = tensor[:, b, a] = both
    normal = np.abs(np.linalg.eigh(tensor)[1][:, :, 2])
    hidden = np.zeros(membrane.shape, bool)
    hidden[membrane] = normal[:, 0] > np.tan(np.radians(largest_tilt)) * normal[:, 2]
    return hidden


def one_volume(path: Path, model, ridge: bool) -> dict:
    """Every metric of one simulated tomogram."""
    stem = path.name.removesuffix("_tomogram.mrc")
    record = json.loads((path.parent / f"{stem}.json").read_text())
    tomogram, truth = read_tomogram(path), read_mask(path.parent / f"{stem}_labels.mrc.gz").data == 1
    config = SegmentConfig(postprocess=(PostprocessStep.THIN_NOISE,))
    run = prepare_run(config, model)
    result = segment_in_run(tomogram, run, check_tomogram(tomogram, run), keep_stages=True)
    mask = result.post_processed
    hidden = hidden_by_wedge(truth, max(abs(tilt) for tilt in record["imaging"]["tilt_angles"]))
    clear = ~ndimage.binary_dilation(hidden, iterations=NEAR_HIDDEN)
    seen, unseen = truth & ~hidden, hidden
    row = {
        "folder": path.parent.name,
        "name": stem,
        "snr": record["snr"],
        "voxel_size": record["voxel_size_angstrom"],
        "dice": binary_dice(mask, truth),
        "dice_raw": binary_dice(result.mask, truth),
        "curve": dice_by_threshold(result.logits, truth.astype(np.int8)).round(5).tolist(),
        "curve_stage1": dice_by_threshold(result.stage1_logits, truth.astype(np.int8)).round(5).tolist(),
        "precision": float((mask & truth).sum() / max(1, mask.sum())),
        "recall": float(mask[truth].mean()),
        "hidden": float(hidden.sum() / truth.sum()),
        "recall_seen": float(mask[seen].mean()),
        "recall_hidden": float(mask[unseen].mean()) if unseen.any() else float("nan"),
        "dice_seen": binary_dice(mask & clear, truth & clear),
    }
    if ridge:
        strength = ridge_strength(tomogram.data, sigma_px=SIGMA_PX, is_dark=True)
        row["ridge"] = binary_dice(strength > np.quantile(strength, 0.95), truth)
        strength *= 15 / np.abs(strength).max()  # the sweep's bins lie between -16 and 16
        best, _ = sweep_thresholds(strength, truth, np.ones_like(truth)).best_dice
        row["ridge_best"] = binary_dice(strength > best, truth)
    return row


def table(rows: list[dict], threshold1: float) -> None:
    """Print means with intervals, and stage 2 less stage 1 file by file."""

    def line(name: str, values: list[float]) -> None:
        values = [v for v in values if np.isfinite(v)]
        mean = mean_with_interval(values)
        print(
            f"| {name} | {mean.value:.3f} ({mean.low:.3f} to {mean.high:.3f}) | {np.median(values):.3f} "
            f"| {min(values):.3f} | {max(values):.3f} |"
        )

    print(f"\n{len(rows)} volumes\n")
    print("| | mean (95 % interval) | median | lowest | highest |\n|---|---|---|---|---|")
    metrics = [k for k in rows[0] if isinstance(rows[0][k], float) and k not in ("snr", "voxel_size")]
    for metric in metrics:
        line(metric, [row[metric] for row in rows])
    bin1 = int(np.abs(LOGIT_BINS - threshold1).argmin())
    first = [row["curve_stage1"][bin1] for row in rows]
    line("stage 1 alone", first)
    line("stage 2 less stage 1", [row["dice_raw"] - value for row, value in zip(rows, first, strict=True)])
    for curve in ("curve_stage1", "curve"):
        mean = np.mean([row[curve] for row in rows], axis=0)
        own = np.mean([max(row[curve]) for row in rows])
        best = mean.argmax()
        print(f"{curve}: best common threshold {LOGIT_BINS[best]:g}, Dice {mean[best]:.3f}; own {own:.3f}")


def main() -> None:
    """Do what is missing and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--model", type=Path, help="A packaged model; membrane-tiny without.")
    parser.add_argument("--threshold1", type=float, default=0.0, help="Logit threshold of stage 1.")
    parser.add_argument("--ridge", action="store_true", help="The ridge filter too.")
    parser.add_argument("--by-snr", action="store_true", help="A table per SNR instead of one per folder.")
    options = parser.parse_args()
    rows = []
    if options.results.exists():
        rows = [json.loads(line) for line in options.results.read_text().splitlines()]
    done = {(row["folder"], row["name"]) for row in rows}
    choice = (
        ModelChoice(model_file=options.model) if options.model else ModelChoice(name=ModelName.MEMBRANE_TINY)
    )
    for folder in options.folders:
        for path in sorted(folder.glob("*_tomogram.mrc")):
            if (folder.name, path.name.removesuffix("_tomogram.mrc")) in done:
                continue
            row = one_volume(path, resolve_model(choice), options.ridge)
            rows.append(row)
            with options.results.open("a") as stream:
                stream.write(json.dumps(row) + "\n")
            print(f"{folder.name} {row['name']} Dice {row['dice']:.3f}", flush=True)
    key = (lambda row: f"SNR {row['snr']:.3g}") if options.by_snr else (lambda row: row["folder"])
    for group in sorted({key(row) for row in rows}):
        print(f"\n{group}")
        table([row for row in rows if key(row) == group], options.threshold1)


if __name__ == "__main__":
    main()
