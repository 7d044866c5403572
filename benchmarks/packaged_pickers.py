"""The pickers in the package, as they come, on micrographs that none of them saw.

    python benchmarks/packaged_pickers.py DATA/empiar10017 SIMULATED... [--models particle-mixed ...]

Real: the two micrographs of EMPIAR-10017 that judge split 0, without the margin. SIMULATED: folders of
`cryoseg simulate micrographs`. Printed: the mean F1 over the micrographs of each set at the default
score threshold; a pick within half a radius is right.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from empiar10017_methods import DIAMETER_PX, MARGIN_PX, SPLITS, truth_of

from cryoseg.config.pick_micrograph import MicrographPickConfig
from cryoseg.config.segment import Polarity
from cryoseg.core.metrics.picks import MatchCriteria, evaluate_picks
from cryoseg.io.images.micrographs import read_micrograph
from cryoseg.io.picks.picks import read_picks
from cryoseg.methods.particles.model import load_particle_model
from cryoseg.pipelines.pick.micrograph import pick_micrograph

MODELS = ("particle-mixed", "particle-tiny")


def real_cases(folder: Path) -> list[tuple]:
    """Image, truth, diameter, polarity and margin of the judging micrographs."""
    truth = truth_of(folder)
    images = sorted((folder / "images").iterdir())
    return [(images[i], truth[images[i].stem], DIAMETER_PX, Polarity.DARK, MARGIN_PX) for i in SPLITS[0]]


def simulated_cases(folder: Path) -> list[tuple]:
    """The same of simulated micrographs."""
    cases = []
    for record in sorted(folder.glob("*.json")):
        made = json.loads(record.read_text())
        if "particle_diameter_px" not in made:
            continue
        (found,) = read_picks(record.with_name(f"{record.stem}_particles.star")).values()
        image = record.with_name(f"{record.stem}_micrograph.mrc")
        polarity = Polarity(made["polarity"])
        cases.append((image, found.centers[:, -2:], made["particle_diameter_px"], polarity, 0))
    return cases


def f1(model, image: Path, truth: np.ndarray, diameter: float, polarity: Polarity, margin: int) -> float:
    """Of one micrograph."""
    micrograph = read_micrograph(image)
    config = MicrographPickConfig(particle_diameter_px=diameter, polarity=polarity)
    picks = pick_micrograph(micrograph, model, config).picks
    score = evaluate_picks(
        picks.centers,
        truth,
        MatchCriteria(radius_px=diameter / 4, margin_px=margin, shape=micrograph.data.shape),
    )
    return score.counts.f_score()


def main() -> None:
    """Pick and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("real", type=Path)
    parser.add_argument("simulated", nargs="*", type=Path)
    parser.add_argument("--models", nargs="+", default=MODELS)
    arguments = parser.parse_args()
    sets = {"EMPIAR-10017": real_cases(arguments.real)}
    sets |= {str(folder): simulated_cases(folder) for folder in arguments.simulated}
    for name in arguments.models:
        model = load_particle_model(name, torch.device("cpu"))
        means = {key: float(np.nanmean([f1(model, *case) for case in cases])) for key, cases in sets.items()}
        print(name, *(f"{key} {mean:.3f} ({len(sets[key])})" for key, mean in means.items()), flush=True)


if __name__ == "__main__":
    main()
