"""A baseline that learns nothing: Hessian ridge filter, threshold, blob filter.

    python benchmarks/ridge_baseline.py TOMOGRAM [TRUTH] [-o MASK.mrc]
    python benchmarks/ridge_baseline.py FOLDER_OF_TOMOGRAMS FOLDER_OF_TRUTHS --best-threshold

A membrane is a sheet, so across it the smoothed density is curved and along it it is not: the
ridge strength of a voxel is the largest eigenvalue of the Hessian (for dark membranes). The
strongest 5 % of the volume are marked and filtered as `cryoseg segment --post-process` does. 5 %
is about what a tomogram of a cell holds. Widths of 3 and 4 px were tried on the real tomogram of
docs/results and the better one kept, so the baseline has a small advantage there over a model whose
settings never saw it.

With `--best-threshold` each volume gets the threshold of its own highest Dice, which no user could
know: an upper bound of what this filter can do.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy import ndimage

from cryoseg.config import EvaluateConfig, Metric, PostprocessStep
from cryoseg.core.masks.postprocess import postprocess_mask
from cryoseg.core.metrics.masks import evaluate_mask, metrics_of, split_truth
from cryoseg.core.metrics.overlap import sweep_thresholds
from cryoseg.io.images.volumes import made_by, read_mask, read_tomogram, write_mask
from cryoseg.pipelines.evaluate.pairs import match_predictions

SIGMA_PX = 4.0
VOLUME_FRACTION = 0.05
MIN_SLICES = 10


def ridge_strength(tomogram: np.ndarray, *, sigma_px: float, is_dark: bool, slab: int = 32) -> np.ndarray:
    """Largest eigenvalue of the Hessian (of the inverted volume for bright membranes), (z, y, x) float32."""
    strength = np.empty(tomogram.shape, np.float32)
    halo = int(np.ceil(4 * sigma_px))
    for z in range(0, len(tomogram), slab):
        low, high = max(z - halo, 0), min(z + slab + halo, len(tomogram))
        block = tomogram[low:high].astype(np.float32)
        block = block if is_dark else -block

        def second(
            *axes: int, block: np.ndarray = block, cut: slice = slice(z - low, z - low + slab)
        ) -> np.ndarray:
            order = [sum(axis == a for a in axes) for axis in range(3)]
            return ndimage.gaussian_filter(block, sigma_px, order=order, mode="nearest")[cut]

        strength[z : z + slab] = _largest_eigenvalue(
            second(0, 0), second(1, 1), second(2, 2), second(0, 1), second(0, 2), second(1, 2)
        )
    return strength


def _largest_eigenvalue(a, b, c, d, e, f):
    """Of the symmetric matrices [[a, d, e], [d, b, f], [e, f, c]], by the trigonometric formula."""
    mean = (a + b + c) / 3
    a, b, c = a - mean, b - mean, c - mean
    scale = np.sqrt(np.maximum((a * a + b * b + c * c + 2 * (d * d + e * e + f * f)) / 6, 1e-30))
    determinant = a * (b * c - f * f) - d * (d * c - f * e) + e * (d * f - b * e)
    angle = np.arccos(np.clip(determinant / (2 * scale**3), -1, 1)) / 3
    return mean + 2 * scale * np.cos(angle)


def main() -> None:
    """Filter, score and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tomogram", help="A tomogram, or a folder of them.")
    parser.add_argument("truth", nargs="?", help="Labels, or a folder of them matched by name.")
    parser.add_argument("--sigma", type=float, default=SIGMA_PX, help="Width of the filter in pixels.")
    parser.add_argument("--fraction", type=float, default=VOLUME_FRACTION, help="Part of the volume to mark.")
    parser.add_argument("--min-slices", type=int, default=MIN_SLICES)
    parser.add_argument("--bright", action="store_true", help="Membranes are bright.")
    parser.add_argument("--best-threshold", action="store_true")
    parser.add_argument("-o", "--output", type=Path, help="Write the mask of a single tomogram.")
    options = parser.parse_args()
    if options.truth:
        work = [
            (pair.name, pair.pred, pair.truth) for pair in match_predictions(options.tomogram, options.truth)
        ]
    else:
        work = [(Path(options.tomogram).stem, Path(options.tomogram), None)]
    dices = []
    for name, path, truth_path in work:
        if path is None:
            raise SystemExit(f"{truth_path}: no tomogram of this name in {options.tomogram}")
        tomogram = read_tomogram(path)
        strength = ridge_strength(tomogram.data, sigma_px=options.sigma, is_dark=not options.bright)
        truth = None if truth_path is None else read_mask(truth_path).data
        if options.best_threshold:
            if truth is None:
                raise SystemExit("--best-threshold needs the truth")
            # The sweep's bins lie between -16 and 16.
            strength *= 15 / np.abs(strength).max()
            membrane, known = split_truth(truth, EvaluateConfig())
            threshold, _ = sweep_thresholds(strength, membrane, known).best_dice
        else:
            threshold = float(np.quantile(strength, 1 - options.fraction))
        raw = strength > threshold
        mask = postprocess_mask(raw, [PostprocessStep.THIN_NOISE], min_slices=options.min_slices)
        print(f"{name}: {raw.mean():.2%} marked, {mask.mean():.2%} after the blob filter")
        if truth is not None:
            config = EvaluateConfig(metrics=(Metric.OVERLAP, Metric.NEAR))
            for kind, one in (("raw", raw), ("filtered", mask)):
                metrics = metrics_of(evaluate_mask(one, truth, config), config)
                print(f"  {kind:9}", "  ".join(f"{key} {value:.4f}" for key, value in metrics.items()))
            dices.append(evaluate_mask(raw, truth, config).dice)
        if options.output:
            write_mask(options.output, mask, tomogram.geometry, label=made_by("ridge baseline"))
    if len(dices) > 1:
        print(f"mean Dice of {len(dices)} volumes before the blob filter: {np.mean(dices):.4f}")


if __name__ == "__main__":
    main()
