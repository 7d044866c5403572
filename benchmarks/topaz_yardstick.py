"""Topaz's pretrained detector on EMPIAR-10017, as a yardstick: the splits and the scoring of the others.

    python benchmarks/topaz_yardstick.py DATA/empiar10017 --topaz topaz --work FOLDER

Topaz is a program of its own and no part of this project; install it in an environment of its own
(`pip install topaz-em`) and name its executable. It gets the images as its manual says: shrunk, so
that a pixel is about eight angstrom (`--down 4`), normalized by its own mixture model, and with the
particle's radius at that scale. Its score threshold is chosen on the ten training micrographs of each
split, and for comparison on the two that judge, which nobody could.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
from pathlib import Path

import mrcfile
import numpy as np
from dog_baseline import MARGIN_PX, SPLITS, counts_at, dice_of
from empiar10017_methods import DIAMETER_PX, MATCH_PX, truth_of

from cryoseg.core.metrics.picks import MatchCriteria, evaluate_picks
from cryoseg.core.picking.micrograph_picks import draw_discs
from cryoseg.io.images.micrographs import read_micrograph


def main() -> None:
    """Pick with Topaz, choose thresholds, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--topaz", nargs="+", default=["topaz"], help="the command that runs it")
    parser.add_argument("--work", type=Path, required=True, help="folder for its files")
    parser.add_argument("--model", default="resnet16_u64")
    parser.add_argument("--down", type=int, default=4)
    arguments = parser.parse_args()
    images, small, found = (arguments.work / name for name in ("images", "small", "picks.txt"))
    for place in (images, small):
        place.mkdir(parents=True, exist_ok=True)
    truth = truth_of(arguments.folder)
    shapes = {}
    for path in sorted((arguments.folder / "images").iterdir()):
        data = read_micrograph(path).data
        shapes[path.stem] = data.shape
        mrcfile.write(images / f"{path.stem}.mrc", data, overwrite=True)
    names, down = list(shapes), str(arguments.down)

    def topaz(*options: str) -> None:
        subprocess.run([*arguments.topaz, *options], check=True)

    if not found.exists():
        sources = [str(images / f"{name}.mrc") for name in names]
        topaz("preprocess", "-s", down, "-o", str(small), *sources)
        radius = str(round(DIAMETER_PX / 2 / arguments.down))
        shrunk = [str(small / f"{name}.mrc") for name in names]
        # A low threshold: the choice is made here.
        options = ["-r", radius, "-t", "-6", "-x", down, "-o", str(found)]
        topaz("extract", "-m", arguments.model, *options, *shrunk)
    rows: dict[str, list] = {name: [] for name in names}
    with found.open() as stream:
        for row in csv.DictReader(stream, delimiter="\t"):
            rows[row["image_name"]].append(
                (float(row["y_coord"]), float(row["x_coord"]), float(row["score"]))
            )
    picks = {name: np.array(values, float).reshape(-1, 3) for name, values in rows.items()}
    scores = {
        name: evaluate_picks(
            picks[name][:, :2],
            truth[name],
            MatchCriteria(radius_px=MATCH_PX, margin_px=MARGIN_PX, shape=shapes[name]),
            scores=picks[name][:, 2],
        )
        for name in names
    }

    def best_threshold(chosen: list[str]) -> float:
        heights = np.concatenate([scores[name].curve.scores for name in chosen])
        candidates = np.quantile(heights, np.linspace(0, 0.99, 100))
        found = [counts_at([scores[name] for name in chosen], t).f_score() for t in candidates]
        return float(candidates[int(np.argmax(found))])

    metrics = []
    for held in SPLITS:
        test = [names[k] for k in held]
        threshold = best_threshold([name for name in names if name not in test])
        counts = counts_at([scores[name] for name in test], threshold)
        own = counts_at([scores[name] for name in test], best_threshold(test)).f_score()
        dices = []
        for name in test:
            places = picks[name][picks[name][:, 2] >= threshold, :2]
            drawn, true = (
                draw_discs(p, shapes[name], diameter_px=DIAMETER_PX) > 0 for p in (places, truth[name])
            )
            dices.append(dice_of(drawn, true))
        metrics.append((counts.f_score(), own, float(np.mean(dices))))
        print(
            f"held out {test}: threshold {threshold:.2f}, F1 {counts.f_score():.3f} (precision "
            f"{counts.precision:.3f}, recall {counts.recall:.3f}), at their own best threshold {own:.3f}, "
            f"disc Dice {np.mean(dices):.3f}"
        )
    mean = np.mean(metrics, axis=0)
    print(f"mean: F1 {mean[0]:.3f}, at the best threshold {mean[1]:.3f}, disc Dice {mean[2]:.3f}")


if __name__ == "__main__":
    main()
