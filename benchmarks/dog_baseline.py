"""A picking baseline that learns nothing: difference of Gaussians, local maxima, discs.

    python benchmarks/dog_baseline.py FOLDER [-o OUT]

FOLDER holds `images/`, `masks/` (named IMAGE_mask.png) and `particles.csv` (image, x, y, radius). At
a quarter of the size, particles are where the image, low-passed at two widths, is darkest between
them. The two widths, the least distance and the threshold are the best of a small grid on the
training micrographs of each split; the others judge. The margin of 131 px, within which nobody has
picked, does not count, and a pick is right within half a radius (27 px) of a truth of its own.

OUT receives one CSV of picks per micrograph and the truth, for `cryoseg evaluate picks`.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import time
from pathlib import Path

import numpy as np
from scipy import ndimage

from cryoseg.config.pick import PickFormat
from cryoseg.core.grids.resample import linear_weights
from cryoseg.core.metrics.overlap import Counts
from cryoseg.core.metrics.picks import MatchCriteria, evaluate_picks
from cryoseg.core.picking.detection import local_maxima, suppress_nonmaxima
from cryoseg.core.picking.micrograph_picks import draw_discs
from cryoseg.io.images.micrographs import read_micrograph
from cryoseg.io.picks.picks import write_picks
from cryoseg.types import Picks

STEP = 4
MARGIN_PX = 131.0
FINE = (0.10, 0.14, 0.18)  # deviations of the Gaussians, in particle diameters
WIDE = (0.25, 0.35, 0.5)
APART = (0.5, 0.6, 0.7, 0.85)  # diameters
SPLITS = ((0, 1), (4, 5), (8, 9))  # held-out micrographs, by their place in the sorted list


def shrink(image: np.ndarray) -> np.ndarray:
    """A quarter of the size, averaged."""
    rows, columns = (linear_weights(n, n // STEP) for n in image.shape)
    return np.asarray((columns @ (rows @ image).T).T, np.float32)


def candidates(small: np.ndarray, diameter: float, fine: float, wide: float) -> tuple[np.ndarray, np.ndarray]:
    """Peaks of darkness (y, x at the small scale) and their heights in robust deviations."""
    band = ndimage.gaussian_filter(small, wide * diameter) - ndimage.gaussian_filter(small, fine * diameter)
    low, high = np.quantile(band, [0.25, 0.75])
    band = band / ((high - low) / 1.349)
    peaks = local_maxima(band, floor=0.5)
    return peaks.astype(np.float64), band[tuple(peaks.T)]


def picked(peaks: np.ndarray, heights: np.ndarray, apart: float) -> tuple[np.ndarray, np.ndarray]:
    """Peaks that are far enough from better ones, in pixels of the image."""
    kept = suppress_nonmaxima(peaks, heights, min_distance=apart)
    # Pixel i of the small image covers pixels 4 i to 4 i + 3 of the large one.
    return (peaks[kept] + 0.5) * STEP - 0.5, heights[kept]


def counts_at(scores: list, threshold: float) -> Counts:
    """Counts of several images at one threshold, from their curves."""
    tp = fp = fn = 0
    for score in scores:
        above = score.curve.scores >= threshold
        hits = int(score.curve.is_hit[above].sum())
        tp, fp, fn = tp + hits, fp + int(above.sum()) - hits, fn + score.curve.truths - hits
    return Counts(true_positives=tp, false_positives=fp, false_negatives=fn)


def dice_of(a: np.ndarray, b: np.ndarray) -> float:
    """Dice of two masks without the margin."""
    inner = slice(int(MARGIN_PX), -int(MARGIN_PX))
    a, b = a[inner, inner], b[inner, inner]
    return 2 * float(np.sum(a & b)) / max(float(a.sum() + b.sum()), 1.0)


def main() -> None:
    """Choose on training micrographs, judge on the others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output-dir", type=Path)
    arguments = parser.parse_args()
    truth: dict[str, list] = {}
    with (arguments.folder / "particles.csv").open() as stream:
        for row in csv.DictReader(stream):
            truth.setdefault(Path(row["image"]).stem, []).append(
                (float(row["y"]), float(row["x"]), float(row["radius"]))
            )
    paths = sorted((arguments.folder / "images").iterdir())
    centers = {path.stem: np.array(truth[path.stem])[:, :2] for path in paths}
    diameter = 2 * float(np.median([row[2] for rows in truth.values() for row in rows]))
    small, shapes = {}, {}
    for path in paths:
        image = read_micrograph(path).data
        shapes[path.stem], small[path.stem] = image.shape, shrink(image)

    def score(name: str, setting: tuple[float, float, float], peaks: tuple) -> object:
        places, heights = picked(*peaks, setting[2] * diameter / STEP)
        return evaluate_picks(
            places,
            centers[name],
            MatchCriteria(radius_px=diameter / 4, margin_px=MARGIN_PX, shape=shapes[name]),
            scores=heights,
        )

    begun = time.process_time()
    names = [path.stem for path in paths]
    table = {}
    for fine, wide in itertools.product(FINE, WIDE):
        found = {name: candidates(small[name], diameter / STEP, fine, wide) for name in names}
        for apart in APART:
            table[fine, wide, apart] = {name: score(name, (fine, wide, apart), found[name]) for name in names}
    print(f"settings tried: {len(table)} in {time.process_time() - begun:.0f} CPU seconds")
    metrics = []
    for held in SPLITS:
        test = [names[k] for k in held]
        train = [name for name in names if name not in test]
        best = (-1.0, None, 0.0)
        for setting, scores in table.items():
            chosen = [scores[name] for name in train]
            thresholds = np.quantile(
                np.concatenate([s.curve.scores for s in chosen]), np.linspace(0, 0.95, 60)
            )
            for threshold in thresholds:
                f1 = counts_at(chosen, threshold).f_score()
                if f1 > best[0]:
                    best = (f1, setting, float(threshold))
        train_f1, setting, threshold = best
        counts = counts_at([table[setting][name] for name in test], threshold)
        dices = []
        for name in test:
            begun = time.process_time()
            places, heights = picked(
                *candidates(small[name], diameter / STEP, *setting[:2]), setting[2] * diameter / STEP
            )
            seconds = time.process_time() - begun
            places, heights = places[heights >= threshold], heights[heights >= threshold]
            drawn = draw_discs(places, shapes[name], diameter_px=diameter) > 0
            true = draw_discs(centers[name], shapes[name], diameter_px=diameter) > 0
            dices.append(dice_of(drawn, true))
            if arguments.output_dir:
                picks = Picks(centers=places, scores=heights.astype(np.float32), diameter_px=diameter)
                write_picks(
                    arguments.output_dir / f"{name}.csv", {name: picks}, flavor=PickFormat.CSV, overwrite=True
                )
        metrics.append((counts.f_score(), float(np.mean(dices)), counts.precision, counts.recall))
        print(
            f"held out {test}: widths {setting[0]:g} {setting[1]:g}, apart {setting[2]:g}, threshold "
            f"{threshold:.2f}; training F1 {train_f1:.3f}; F1 {counts.f_score():.3f} (precision "
            f"{counts.precision:.3f}, recall {counts.recall:.3f}), disc Dice {np.mean(dices):.3f}, "
            f"{seconds:.2f} s each"
        )
    mean = np.mean(metrics, axis=0)
    print(f"mean of {len(SPLITS)} splits: F1 {mean[0]:.3f}, disc Dice {mean[1]:.3f}")
    if arguments.output_dir:
        held_out = [names[k] for split in SPLITS for k in split]
        rows = {name: Picks(centers=centers[name], diameter_px=diameter) for name in held_out}
        write_picks(arguments.output_dir / "truth" / "truth.csv", rows, flavor=PickFormat.CSV, overwrite=True)


if __name__ == "__main__":
    main()
