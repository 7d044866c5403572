"""Judge pickers on specimens: F1, AP and Dice against the diameter that is given.

    python benchmarks/unfamiliar.py DATA RESULTS.jsonl --models particle-mixed RUNS/all/finetune.safetensors
        [--factors 0.6 0.75 0.85 1 1.2 1.33 1.5] [--roles test] [--specimens ...] [--simulated FOLDER]
    python benchmarks/unfamiliar.py DATA RESULTS.jsonl --table

DATA as in `specimens.py`. A factor multiplies the diameter of the annotated discs; the picks of a micrograph
are judged at the default threshold of the model and at the best threshold of the micrograph. Dice is that of
discs of the annotated diameter. Beside the models stands a difference of Gaussians: `dog-fixed` with the
settings that were the best on EMPIAR-10017, and `dog-tuned` with widths, distance and threshold from the
training micrographs of the same specimen at the right diameter. `topaz` is Topaz's pretrained detector, a
program in an environment of its own (`pip install topaz-em`; `--topaz` names it), on images of eight angstrom
per pixel, as its manual says, with its default threshold of 0. Rows that RESULTS has are not made again.
SIMULATED is a folder of `cryoseg simulate micrographs`.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import torch
from dog_baseline import APART, FINE, WIDE, candidates
from packaged_pickers import simulated_cases
from specimens import SPECIMENS, TEST, TRAIN, VALID, Field, Specimen, fields_of

from cryoseg.config.pick_micrograph import MicrographPickConfig
from cryoseg.config.segment import Polarity
from cryoseg.core.grids.resample import resample_image, rescale_points
from cryoseg.core.grids.robust import view_shape
from cryoseg.core.metrics.picks import MatchCriteria, evaluate_picks, join_curves
from cryoseg.core.picking.detection import suppress_nonmaxima
from cryoseg.core.picking.micrograph_picks import draw_discs
from cryoseg.io.images.micrographs import read_micrograph
from cryoseg.methods.particles.model import load_particle_model
from cryoseg.pipelines.pick.micrograph import pick_micrograph, score_threshold

FACTORS = (0.6, 0.75, 0.85, 1.0, 1.2, 1.33, 1.5)
DOG_PIXELS = 27.0  # diameter of a particle in the shrunk image, as in dog_baseline.py
FIXED = (0.18, 0.25, 0.5, 2.05)  # widths, distance and threshold that were the best on EMPIAR-10017
DOGS = ("dog-fixed", "dog-tuned")
TOPAZ = "topaz"
TOPAZ_ANGSTROM = 8.0  # pixel size of the images that its detector was trained on

Found = tuple[np.ndarray, np.ndarray]  # places (n, 2) and scores (n,)
Picker = Callable[[np.ndarray, float], Found]


def scored(field: Field, found: Found, shape: tuple[int, int], threshold: float):
    """Counts and curve of the picks of a field."""
    one = field.specimen
    criteria = MatchCriteria(radius_px=one.match_px, margin_px=one.margin_px, shape=shape)
    return evaluate_picks(found[0], field.centers, criteria, scores=found[1], threshold=threshold)


def disc_dice(field: Field, places: np.ndarray, shape: tuple[int, int]) -> float:
    """Dice of discs around picks and around the truth, without the margin."""
    margin = field.specimen.margin_px
    inner = tuple(slice(margin, n - margin) for n in shape)
    drawn, true = (
        draw_discs(centers, shape, diameter_px=field.specimen.diameter_px)[inner] > 0
        for centers in (places, field.centers)
    )
    return 2 * float(np.sum(drawn & true)) / max(float(drawn.sum() + true.sum()), 1.0)


def dog(image: np.ndarray, diameter: float, setting: tuple[float, float, float]) -> Found:
    """Picks of a difference of Gaussians with two widths and a distance in diameters."""
    shape = view_shape(image.shape, diameter_px=diameter, particle_pixels=DOG_PIXELS)
    fine, wide, apart = setting
    peaks, heights = candidates(resample_image(image, shape), DOG_PIXELS, fine, wide)
    kept = suppress_nonmaxima(peaks, heights, min_distance=apart * DOG_PIXELS)
    return rescale_points(peaks[kept], np.array(image.shape) / np.array(shape)), heights[kept]


def tuned_dog(data: Path, specimen: Specimen) -> tuple[float, float, float, float]:
    """Settings and threshold with the best F1 on the training micrographs of a specimen."""
    fields = [field for field in fields_of(data, specimen) if field.role == TRAIN][:4]
    images = [read_micrograph(field.image).data for field in fields]
    best = (-1.0, FIXED)
    for setting in itertools.product((*FINE, 0.25, 0.35), (*WIDE, 0.7, 1.0), APART):
        if setting[0] >= setting[1]:
            continue
        curves = [
            scored(field, dog(image, specimen.diameter_px, setting), image.shape, 0.0).curve
            for field, image in zip(fields, images, strict=True)
        ]
        threshold, f1 = join_curves(curves).best_f1
        best = max(best, (f1, (*setting, threshold)))
    return best[1]


def model_picker(name: str) -> tuple[Callable[[np.ndarray, float, object], Found], float]:
    """A picker of all candidates, and the model's own threshold."""
    model = load_particle_model(name, torch.device("cpu"))

    def pick(micrograph, diameter: float, polarity: Polarity) -> Found:
        config = MicrographPickConfig(particle_diameter_px=diameter, score_threshold=0.0, polarity=polarity)
        picks = pick_micrograph(micrograph, model, config).picks
        return picks.centers, picks.scores

    return pick, score_threshold(MicrographPickConfig(particle_diameter_px=100.0), model.recipe)


def topaz(image: np.ndarray, specimen: Specimen, factor: float, program: str) -> Found:
    """Picks of Topaz's pretrained detector."""
    scale = specimen.pixel_size / TOPAZ_ANGSTROM
    shape = tuple(round(side * scale) for side in image.shape)
    with tempfile.TemporaryDirectory() as folder:
        raw, normal, table = (Path(folder) / name for name in ("image.mrc", "normal", "picks.txt"))
        mrcfile.write(raw, resample_image(image, shape))
        radius = str(max(2, round(factor * specimen.visible_px * scale / 2)))
        # A low threshold: the choice is made here.
        extract = ["extract", "-m", "resnet16_u64", "-r", radius, "-t", "-6", "-o", str(table)]
        for options in (["normalize", "-o", str(normal), str(raw)], [*extract, str(normal / raw.name)]):
            subprocess.run([program, *options, "-d", "-1"], check=True, capture_output=True)
        with table.open() as stream:
            rows = list(csv.DictReader(stream, delimiter="\t"))
    found = np.array([[float(row[key]) for key in ("y_coord", "x_coord", "score")] for row in rows])
    return rescale_points(found[:, :2], np.array(image.shape) / shape), found[:, 2]


def simulated_fields(folder: Path) -> list[tuple[Field, Polarity]]:
    """Fields of simulated micrographs, each a specimen of its own."""
    fields = []
    for image, centers, diameter, polarity, margin in simulated_cases(folder):
        one = Specimen(
            name="simulated",
            diameter_px=diameter,
            visible_px=diameter,
            margin_px=margin,
            match_px=diameter / 4,
        )
        fields.append((Field(specimen=one, image=image, centers=centers, role=TEST), polarity))
    return fields


def print_table(rows: list[dict]) -> None:
    """F1 at the default and at the best threshold, AP and Dice of every model, specimen and factor."""
    print("| specimen | picker | diameter | micrographs | F1 | best F1 | AP | Dice |")
    print("|---|---|---|---|---|---|---|---|")
    keys = list(dict.fromkeys((row["specimen"], row["model"], row["factor"]) for row in rows))
    for specimen, model, factor in sorted(keys):
        mine = [
            row for row in rows if (row["specimen"], row["model"], row["factor"]) == (specimen, model, factor)
        ]
        means = (float(np.nanmean([row[key] for row in mine])) for key in ("f1", "best_f1", "ap", "dice"))
        cells = " | ".join(f"{value:.3f}" for value in means)
        print(f"| {specimen} | {model} | x {factor:g} | {len(mine)} | {cells} |")


def main() -> None:
    """Pick, judge and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--models", nargs="*", default=(), help=f"models, {TOPAZ}, {' and '.join(DOGS)}")
    parser.add_argument("--topaz", default="topaz", help="its program")
    parser.add_argument("--factors", nargs="+", type=float, default=FACTORS)
    parser.add_argument("--roles", nargs="+", choices=(TRAIN, VALID, TEST), default=(TEST,))
    parser.add_argument("--specimens", nargs="*", default=[one.name for one in SPECIMENS])
    parser.add_argument("--simulated", type=Path)
    parser.add_argument("--table", action="store_true", help="print what is there")
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in arguments.results.open()] if arguments.results.exists() else []
    done = {(row["model"], row["image"], row["factor"]) for row in rows}
    fields = [
        (field, Polarity.DARK)
        for one in SPECIMENS
        if one.name in arguments.specimens
        for field in fields_of(arguments.data, one)
        if field.role in arguments.roles
    ]
    if arguments.simulated:
        fields += simulated_fields(arguments.simulated)
    for name in () if arguments.table else arguments.models:
        settings: dict[str, tuple] = {}
        picker = None if name in (*DOGS, TOPAZ) else model_picker(name)
        for field, polarity in fields:
            one = field.specimen
            if name in ("dog-tuned", TOPAZ) and one.name == "simulated":
                continue
            micrograph = read_micrograph(field.image)
            image = micrograph.data if polarity is Polarity.DARK else -micrograph.data
            for factor in arguments.factors:
                if (name, field.name, factor) in done:
                    continue
                if picker is not None:
                    threshold = picker[1]
                    found = picker[0](micrograph, factor * one.diameter_px, polarity)
                elif name == TOPAZ:
                    threshold, found = 0.0, topaz(image, one, factor, arguments.topaz)
                else:
                    if one.name not in settings:
                        tuned = name == "dog-tuned"
                        settings[one.name] = tuned_dog(arguments.data, one) if tuned else FIXED
                    threshold = settings[one.name][3]
                    found = dog(image, factor * one.diameter_px, settings[one.name][:3])
                score = scored(field, found, image.shape, threshold)
                row = {
                    "model": name,
                    "specimen": one.name,
                    "image": field.name,
                    "factor": factor,
                    "f1": score.counts.f_score(),
                    "precision": score.counts.precision,
                    "recall": score.counts.recall,
                    "best_f1": score.curve.best_f1[1],
                    "ap": score.curve.average_precision,
                    "dice": disc_dice(field, found[0][found[1] >= threshold], image.shape),
                }
                rows.append(row)
                print(json.dumps(row), flush=True)
                with arguments.results.open("a") as stream:
                    stream.write(json.dumps(row) + "\n")
    print_table(rows)


if __name__ == "__main__":
    main()
