"""Molecules of simulated micrographs as weighted points whose projections look like particles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoseg.simulate.fields import random_direction, random_directions, random_rotations, turn
from cryoseg.simulate.molecules import RNA_DENSITY, ribosome_balls
from cryoseg.types import Points

CAVITY = (0.55, 0.85)  # Diameter of the cavity of a shell relative to that of the shell.
Balls = tuple[Points, NDArray[np.float64]]  # Centers (n, 3) and radii (n,) in any unit.


@dataclass(frozen=True, kw_only=True)
class Species:
    """A kind of molecule.

    Attributes
    ----------
    points, weights
        (n, 3) positions in angstrom relative to the middle of the molecule, and (n,) volume of solid protein
        of each point in cubic angstrom.
    diameter
        Diameter of the sphere around the middle that contains 99 % of the points, in angstrom.
    kind
        Name of the shape.
    """

    points: Points
    weights: NDArray[np.float64]
    diameter: float
    kind: str

    @property
    def spacing(self) -> float:
        """Typical distance of neighboring points in angstrom."""
        return float(np.cbrt(np.sum(self.weights) / len(self.weights)))


def draw_species(
    rng: np.random.Generator,
    *,
    diameter: float,
    points: int,
    kind: str | None = None,
    cavity: tuple[float, float] = CAVITY,
) -> Species:
    """Draw a molecule of a shape from `KINDS`, or of a random one, with a diameter in angstrom.

    The number of `points` determines the level of detail. `cavity` has the smallest and the largest diameter
    of the cavity of a shell, relative to that of the shell.
    """
    kind = kind or str(rng.choice(list(KINDS)))
    centers, radii = KINDS[kind](rng)
    density = RNA_DENSITY if kind == "ribosome" else 1.0
    hollow = rng.uniform(*cavity) if kind == "shell" else 0.0
    cloud, volume = _fill(rng, centers, radii, points, hollow=hollow)
    cloud -= 0.5 * (cloud.min(axis=0) + cloud.max(axis=0))
    reach = float(np.quantile(np.linalg.norm(cloud, axis=1), 0.99))
    scale = diameter / (2.0 * reach)
    cloud *= scale
    weights = density * volume * scale**3 / len(cloud) * _texture(rng, cloud)
    return Species(points=cloud, weights=weights, diameter=diameter, kind=kind)


def _fill(
    rng: np.random.Generator, centers: Points, radii: NDArray[np.float64], count: int, *, hollow: float
) -> tuple[Points, float]:
    """Draw `count` uniform points in a union of balls, and estimate its volume."""
    low, high = (centers - radii[:, None]).min(axis=0), (centers + radii[:, None]).max(axis=0)
    box = float(np.prod(high - low))
    parts: list[Points] = []
    tried = found = 0
    while found < count:
        trial = rng.uniform(low, high, (2 * count, 3))
        squares = np.square(trial[:, None] - centers[None]).sum(axis=-1)
        inside = np.any(squares <= np.square(radii)[None], axis=1)
        if hollow:
            inside &= np.all(squares >= np.square(hollow * radii)[None], axis=1)
        parts.append(trial[inside])
        tried += len(trial)
        found += int(inside.sum())
    return np.concatenate(parts)[:count], box * found / tried


def _texture(rng: np.random.Generator, points: Points) -> NDArray[np.float64]:
    """Draw weights of mean 1 that vary over 8 to 30 angstrom, as domains and helices do."""
    waves = 14
    direction = random_directions(rng, waves)
    length = np.exp(rng.uniform(np.log(8.0), np.log(30.0), (waves, 1)))
    phase = turn(points, 2 * np.pi * direction / length) + rng.uniform(0, 2 * np.pi, waves)
    weights = np.clip(
        1.0 + rng.uniform(0.15, 0.6) * np.sqrt(2.0 / waves) * np.cos(phase).sum(axis=1), 0.05, None
    )
    return np.asarray(weights / weights.mean())


def _chain(rng: np.random.Generator, n: int, *, bend: float, step: float) -> Points:
    """Draw the centers of a chain of domains along a random walk."""
    heading = random_direction(rng)
    places = [np.zeros(3)]
    for _ in range(n - 1):
        heading = heading + bend * rng.standard_normal(3)
        heading /= np.linalg.norm(heading)
        places.append(places[-1] + step * heading)
    return np.stack(places)


def _turned(balls: Balls, fold: int, *, dihedral: bool = False) -> Balls:
    """Return copies of balls with cyclic symmetry about the first axis, or with dihedral symmetry."""
    centers, radii = balls
    copies = []
    for k in range(fold):
        angle = 2 * np.pi * k / fold
        y, x = centers[:, 1], centers[:, 2]
        turned = np.stack(
            [centers[:, 0], y * np.cos(angle) - x * np.sin(angle), y * np.sin(angle) + x * np.cos(angle)],
            axis=1,
        )
        copies.append(turned)
        if dihedral:
            copies.append(turned * np.array([-1.0, -1.0, 1.0]))
    return np.concatenate(copies), np.tile(radii, len(copies))


def _globule(rng: np.random.Generator) -> Balls:
    n = int(rng.integers(1, 5))
    return random_directions(rng, n) * rng.uniform(0.1, 0.5, (n, 1)), rng.uniform(0.6, 0.9, n)


def _lobes(rng: np.random.Generator) -> Balls:
    n = int(rng.integers(4, 13))
    return _chain(rng, n, bend=1.5, step=1.0) + 0.3 * rng.standard_normal((n, 3)), rng.uniform(0.5, 1.0, n)


def _subunit(rng: np.random.Generator, *, out: float) -> Balls:
    n = int(rng.integers(1, 4))
    centers = _chain(rng, n, bend=1.0, step=0.5) + np.array([0.0, 0.0, out])
    return centers, rng.uniform(0.35, 0.65, n)


def _ring(rng: np.random.Generator) -> Balls:
    fold = int(rng.integers(3, 10))
    return _turned(_subunit(rng, out=0.35 + 0.16 * fold), fold)


def _barrel(rng: np.random.Generator) -> Balls:
    fold = int(rng.integers(5, 9))
    centers, radii = _turned(_subunit(rng, out=0.16 * fold), fold)
    rings = int(rng.integers(2, 5))
    spots = [centers + np.array([0.95 * (k - (rings - 1) / 2), 0.0, 0.0]) for k in range(rings)]
    return np.concatenate(spots), np.tile(radii, rings)


def _dihedral(rng: np.random.Generator) -> Balls:
    centers, radii = _subunit(rng, out=rng.uniform(0.35, 0.9))
    centers = centers + np.array([rng.uniform(0.2, 0.9), rng.uniform(-0.4, 0.4), 0.0])
    return _turned((centers, radii), int(rng.integers(2, 5)), dihedral=True)


def _rod(rng: np.random.Generator) -> Balls:
    n = int(rng.integers(3, 8))
    return _chain(rng, n, bend=0.15, step=0.9), rng.uniform(0.5, 0.75, n)


def _antibody(rng: np.random.Generator) -> Balls:
    arms = random_directions(rng, 3) * rng.uniform(1.1, 1.7, (3, 1))
    centers = np.concatenate([0.55 * arms, arms])
    return centers, rng.uniform(0.32, 0.5, 6)


def _spike(rng: np.random.Generator) -> Balls:
    head = _turned(_subunit(rng, out=0.5), 3)
    levels = np.arange(0.6, rng.uniform(1.6, 3.2), 0.3)
    stalk = np.stack([levels, np.zeros_like(levels), np.zeros_like(levels)], axis=1)
    return np.concatenate([head[0], stalk]), np.concatenate([head[1], np.full(len(levels), 0.28)])


def _micelle(rng: np.random.Generator) -> Balls:
    """Draw a membrane protein: a belt of detergent with domains above or below."""
    belt = _turned((np.array([[0.0, 0.0, 0.9]]), np.array([rng.uniform(0.4, 0.55)])), 16)
    levels = np.arange(-0.5, 0.6, 0.35)
    core = np.stack([levels, np.zeros_like(levels), np.zeros_like(levels)], axis=1)
    n = int(rng.integers(1, 4))
    domain = random_directions(rng, n) * 0.4 + np.array([rng.uniform(1.0, 1.6), 0.0, 0.0])
    return (
        np.concatenate([belt[0], core, domain]),
        np.concatenate([belt[1], np.full(len(levels), 0.6), rng.uniform(0.4, 0.7, n)]),
    )


KINDS: dict[str, Callable[[np.random.Generator], Balls]] = {
    "globule": _globule,
    "lobes": _lobes,
    "ring": _ring,
    "barrel": _barrel,
    "dihedral": _dihedral,
    "shell": lambda rng: (np.zeros((1, 3)), np.ones(1)),
    "rod": _rod,
    "antibody": _antibody,
    "spike": _spike,
    "micelle": _micelle,
    "ribosome": lambda rng: ribosome_balls(rng, 1.0),
}


def project(
    rng: np.random.Generator,
    species: Species,
    *,
    center: tuple[float, float],
    pixel_size: float,
    margin_px: int,
) -> tuple[tuple[int, int], NDArray[np.float32]]:
    """Project a molecule in a random orientation, without blur.

    Returns the index (y, x) of the first pixel of the patch in the image, and the (y, x) thickness of solid
    protein in angstrom. `center` is a position (y, x) in pixels of the image; `margin_px` is the width of
    an empty margin in pixels, for a later blur.
    """
    turned = turn(species.points, random_rotations(rng, 1)[0])
    reach = int(np.ceil(np.abs(turned[:, 1:]).max() / pixel_size)) + margin_px + 1
    corner = (round(center[0]) - reach, round(center[1]) - reach)
    side = 2 * reach + 1
    index = np.rint(turned[:, 1:] / pixel_size + np.asarray(center) - np.asarray(corner)).astype(np.int64)
    flat = np.bincount(index[:, 0] * side + index[:, 1], weights=species.weights, minlength=side * side)
    return corner, (flat / pixel_size**2).reshape(side, side).astype(np.float32)
