"""Picks on carbon and on ice crystals of simulated micrographs, against those beside them.

    python benchmarks/pick_contamination.py [--model particle-mixed] [--count 12] [--seed 9000]

`cryoseg simulate micrographs` draws support films and crystals, and labels no particle there. Of the
micrographs of the seed, those with a film or a crystal over at least 3 % of the image are picked at
default settings. Printed: picks per million pixels on film, on crystals and elsewhere, the density of
true particles elsewhere, and the F1 of all picks (within half a radius).
"""

from __future__ import annotations

import argparse
from unittest.mock import patch

import numpy as np
import torch

from cryoseg.config.pick_micrograph import MicrographPickConfig
from cryoseg.config.segment import Polarity
from cryoseg.config.simulate import SimulateMicrographsConfig
from cryoseg.core.metrics.overlap import Counts
from cryoseg.core.metrics.picks import MatchCriteria, evaluate_picks
from cryoseg.methods.particles.model import load_particle_model
from cryoseg.pipelines.pick.micrograph import pick_micrograph
from cryoseg.simulate import micrographs
from cryoseg.types import Micrograph

FILM_ANGSTROM, CRYSTAL_ANGSTROM = 20.0, 60.0  # as where the simulation labels nothing
LEAST = 0.03  # of the image


def simulated(config: SimulateMicrographsConfig, index: int) -> tuple:
    """A micrograph and where its film and its crystals are (y, x)."""
    drawn = []

    def draw(*values, **named):
        drawn.append(original(*values, **named))
        return drawn[-1]

    original = micrographs.draw_surroundings
    with patch.object(micrographs, "draw_surroundings", draw):
        made = micrographs.simulate_micrograph(config, index)
    margin = micrographs.MARGIN_PX
    inner = tuple(slice(margin, margin + n) for n in made.data.shape)
    return made, drawn[0].carbon[inner] > FILM_ANGSTROM, drawn[0].frost[inner] > CRYSTAL_ANGSTROM


def main() -> None:
    """Simulate, pick, count."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="particle-mixed")
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--seed", type=int, default=9000)
    arguments = parser.parse_args()
    model = load_particle_model(arguments.model, torch.device("cpu"))
    config = SimulateMicrographsConfig(seed=arguments.seed)
    places = ("film", "crystals", "elsewhere")
    picks, pixels, truths = dict.fromkeys(places, 0), dict.fromkeys(places, 0), 0
    hits = wrong = missed = done = index = 0
    while done < arguments.count:
        made, film, crystals = simulated(config, index)
        index += 1
        if max(film.mean(), crystals.mean()) < LEAST or len(made.centers) < 10:
            continue
        done += 1
        diameter = made.record["particle_diameter_px"]
        result = pick_micrograph(
            Micrograph(data=made.data, pixel_size=made.pixel_size),
            model,
            MicrographPickConfig(particle_diameter_px=diameter, polarity=Polarity(made.record["polarity"])),
        ).picks
        at = tuple(np.clip(np.rint(result.centers).astype(int), 0, np.array(film.shape) - 1).T)
        for place, where in zip(places, (film, crystals & ~film, ~(film | crystals)), strict=True):
            picks[place] += int(where[at].sum())
            pixels[place] += int(where.sum())
        truths += len(made.centers)
        counts: Counts = evaluate_picks(
            result.centers, made.centers, MatchCriteria(radius_px=diameter / 4, shape=film.shape)
        ).counts
        hits, wrong, missed = (
            hits + counts.true_positives,
            wrong + counts.false_positives,
            missed + counts.false_negatives,
        )
        print(
            f"{index - 1}: {film.mean():.0%} film, {crystals.mean():.0%} crystals, F1 {counts.f_score():.2f}"
        )
    for place in places:
        density = 1e6 * picks[place] / max(pixels[place], 1)
        print(f"{place}: {picks[place]} picks, {density:.0f} per million pixels")
    print(f"particles elsewhere: {1e6 * truths / pixels['elsewhere']:.0f} per million pixels")
    print(f"F1 of {done} micrographs: {2 * hits / (2 * hits + wrong + missed):.3f}")


if __name__ == "__main__":
    main()
