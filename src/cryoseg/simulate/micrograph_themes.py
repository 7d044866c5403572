"""Themes of the `hard` micrographs: each collects what makes one kind of specimen difficult to pick."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cryoseg.simulate.fields import log_uniform
from cryoseg.simulate.micrograph_imaging import DETECTABILITY
from cryoseg.simulate.micrograph_surroundings import Chances
from cryoseg.simulate.particle_shapes import CAVITY, KINDS

USUAL_CHANCES = Chances()
HARD_CHANCES = Chances(carbon=0.4, crystals=0.4, flakes=0.25, gold=0.25)


@dataclass(frozen=True, kw_only=True)
class Theme:
    """Ranges from which the particles of a micrograph and their contrast are drawn.

    Attributes
    ----------
    kinds
        Shapes, of which one is drawn.
    coverage
        Area of the discs of all particles relative to that of the image.
    distance
        Smallest distance of two particles in diameters.
    detectability
        Signal-to-noise ratio of a matched filter for the mean particle.
    defocus
        Defocus in angstrom; None for that of every micrograph.
    faintest
        Density of the faintest particle relative to that of the densest.
    second
        Probability of a second kind of particle.
    tries
        Number of random positions for every particle that is wanted; many of them pack particles densely.
    cavity
        Diameter of the cavity of a shell relative to that of the shell.
    chances
        Probabilities of carbon, crystals, flakes and gold.
    """

    kinds: tuple[str, ...] = tuple(KINDS)
    coverage: tuple[float, float] = (0.0, 0.55)
    distance: tuple[float, float] = (0.55, 1.4)
    detectability: tuple[float, float] = DETECTABILITY
    defocus: tuple[float, float] | None = None
    faintest: float = 1.0
    second: float = 0.15
    tries: int = 3
    cavity: tuple[float, float] = CAVITY
    chances: Chances = USUAL_CHANCES

    def draw_detectability(self, rng: np.random.Generator) -> tuple[float, float]:
        """Draw the detectability of a micrograph as a range without extent."""
        value = log_uniform(rng, *self.detectability)
        return value, value


EVERYTHING = Theme()  # The theme of the recipe `train`.
_COMPACT = ("globule", "barrel", "dihedral", "shell", "ribosome", "lobes")
THEMES: dict[str, Theme] = {
    "shells": Theme(
        kinds=("shell",),
        coverage=(0.15, 0.7),
        distance=(0.8, 1.05),
        detectability=(9.0, 50.0),
        second=0.0,
        tries=20,
        cavity=(0.4, 0.88),
        chances=HARD_CHANCES,
    ),
    "rings": Theme(
        kinds=("ring", "barrel"),
        coverage=(0.08, 0.55),
        distance=(0.75, 1.1),
        detectability=(8.0, 50.0),
        second=0.0,
        tries=12,
        chances=HARD_CHANCES,
    ),
    "faint": Theme(
        coverage=(0.05, 0.4), distance=(0.8, 1.3), detectability=(5.0, 12.0), chances=HARD_CHANCES
    ),
    "elongated": Theme(
        kinds=("rod", "spike", "antibody", "lobes"),
        coverage=(0.05, 0.4),
        distance=(0.5, 1.1),
        detectability=(7.0, 40.0),
        chances=HARD_CHANCES,
    ),
    "detergent": Theme(
        kinds=("micelle",), coverage=(0.05, 0.45), distance=(0.7, 1.2), detectability=(6.0, 25.0)
    ),
    "touching": Theme(
        kinds=_COMPACT,
        coverage=(0.3, 0.8),
        distance=(0.6, 0.95),
        detectability=(8.0, 45.0),
        second=0.0,
        tries=12,
        cavity=(0.4, 0.88),
    ),
    "uneven": Theme(
        coverage=(0.05, 0.5),
        distance=(0.6, 1.2),
        detectability=(10.0, 45.0),
        faintest=0.3,
        second=0.4,
        chances=HARD_CHANCES,
    ),
    "fringes": Theme(
        coverage=(0.05, 0.5), distance=(0.7, 1.2), detectability=(12.0, 60.0), defocus=(30000.0, 60000.0)
    ),
}


def draw_theme(rng: np.random.Generator) -> tuple[str, Theme]:
    """Draw the name of a theme from `THEMES`, and the theme."""
    name = str(rng.choice(list(THEMES)))
    return name, THEMES[name]
