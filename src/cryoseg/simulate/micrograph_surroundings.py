"""Simulate ice, carbon film, contamination and gold of a micrograph."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryoseg.simulate.fields import log_uniform, smooth_noise
from cryoseg.types import BoolArray, FloatArray

COARSE = 4  # Smooth fields are drawn on a grid that is this many times coarser.


@dataclass(frozen=True, kw_only=True)
class Chances:
    """Probabilities that a micrograph contains carbon, large crystals, thin flakes of ice or gold."""

    carbon: float = 0.3
    crystals: float = 0.35
    flakes: float = 0.2
    gold: float = 0.12


@dataclass(kw_only=True)
class Surroundings:
    """(y, x) maps of thickness in angstrom: vitreous ice, the carbon film, ice crystals (`frost`) and gold.

    `record` has parameters for the record.
    """

    ice: FloatArray
    carbon: FloatArray
    frost: FloatArray
    metal: FloatArray
    record: dict[str, Any] = field(default_factory=dict)

    def blocked(self) -> BoolArray:
        """Return the (y, x) mask of pixels on carbon, crystals or gold, where particles are not picked."""
        return np.asarray((self.carbon > 20.0) | (self.frost > 60.0) | (self.metal > 5.0))


def plane_noise(rng: np.random.Generator, shape: tuple[int, int], *, spacing_px: float) -> FloatArray:
    """Draw a (y, x) smooth random field of zero mean and about unit standard deviation."""
    box = (slice(0, 1), slice(0, shape[0]), slice(0, shape[1]))
    plane = smooth_noise(rng, box, spacing_px=spacing_px)[0]
    return np.asarray(plane - plane.mean(), np.float32)


def sometimes(rng: np.random.Generator, chance: float, low: int, high: int) -> int:
    """Draw a number from `low` to `high` - 1 with probability `chance`, otherwise return 0."""
    return int(rng.integers(low, high)) if rng.random() < chance else 0


def draw_surroundings(
    rng: np.random.Generator,
    shape: tuple[int, int],
    pixel_size: float,
    particle_diameter: float,
    *,
    easy: bool,
    chances: Chances = Chances(),
) -> Surroundings:
    """Draw the surroundings of particles for an image of (y, x) shape in pixels.

    The diameter of a particle is in angstrom. `easy` gives even ice with a carbon edge and little
    contamination; otherwise `chances` decide what is drawn.
    """
    ice, carbon, frost, metal = (np.zeros(shape, np.float32) for _ in range(4))
    field_ = Surroundings(ice=ice, carbon=carbon, frost=frost, metal=metal)
    _add_ice(rng, field_, particle_diameter, easy=easy)
    if easy or rng.random() < chances.carbon:
        _add_carbon(rng, field_, pixel_size, easy=easy)
    crystals = 1 if easy else sometimes(rng, chances.crystals, 1, 3)
    blobs = 2 if easy else sometimes(rng, 0.5, 1, 15)
    extent = min(shape) * pixel_size
    for _ in range(crystals):
        radius = log_uniform(rng, 0.05, 0.3) * extent
        if easy:
            radius = 0.1 * extent
        _add_blob(rng, field_, pixel_size, radius=radius, peak=radius * rng.uniform(0.8, 2.5))
    for _ in range(blobs):
        radius = particle_diameter * log_uniform(rng, 0.3, 2.5)
        _add_blob(rng, field_, pixel_size, radius=radius, peak=radius * rng.uniform(0.3, 1.6))
    flakes = 0 if easy else sometimes(rng, chances.flakes, 1, 5)
    for _ in range(flakes):
        _add_flake(rng, field_, pixel_size, radius=rng.uniform(0.02, 0.12) * extent)
    dots = 0 if easy else sometimes(rng, chances.gold, 2, 30)
    for _ in range(dots):
        _add_gold(rng, field_, pixel_size, radius=rng.uniform(15.0, 60.0))
    field_.record |= {"crystals": crystals, "blobs": blobs, "flakes": flakes, "gold": dots}
    return field_


def _add_ice(rng: np.random.Generator, field_: Surroundings, diameter: float, *, easy: bool) -> None:
    shape = field_.ice.shape
    base = max(1.1 * diameter, rng.uniform(250.0, 900.0))
    slope = 0.15 if easy else float(rng.choice([0.05, 0.2, 0.6]))
    coarse = (shape[0] // COARSE + 2, shape[1] // COARSE + 2)
    bumps = plane_noise(rng, coarse, spacing_px=max(coarse) / rng.uniform(1.0, 4.0))
    bumps = np.asarray(ndimage.zoom(bumps, COARSE, order=1)[: shape[0], : shape[1]], np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape)
    ramp = np.float32(np.sin(angle)) * y[:, None] + np.float32(np.cos(angle)) * x[None, :]
    thickness = base * (1 + slope * (0.5 * ramp + 0.3 * bumps))
    field_.ice[...] = np.maximum(thickness, 0.4 * base)
    field_.record["ice_angstrom"] = base
    field_.record["ice_slope"] = slope


def _add_carbon(rng: np.random.Generator, field_: Surroundings, pixel_size: float, *, easy: bool) -> None:
    """Add a carbon film outside a round hole."""
    shape = np.asarray(field_.carbon.shape)
    hole = rng.uniform(4000.0, 15000.0) / pixel_size
    angle = rng.uniform(0, 2 * np.pi)
    outward = np.array([np.sin(angle), np.cos(angle)])
    reach = float(np.abs(outward) @ shape) / 2
    inside = 0.75 if easy else rng.uniform(0.1, 0.95)
    middle = shape / 2 - outward * (hole - inside * reach)
    y, x = (np.arange(n, dtype=np.float32) for n in shape)
    distance = np.hypot(y[:, None] - np.float32(middle[0]), x[None, :] - np.float32(middle[1])) - np.float32(
        hole
    )
    coarse = (int(shape[0]) // COARSE + 2, int(shape[1]) // COARSE + 2)
    rough = plane_noise(rng, coarse, spacing_px=max(4.0, 300.0 / pixel_size / COARSE))
    distance += ndimage.zoom(rough, COARSE, order=1)[: shape[0], : shape[1]] * np.float32(
        rng.uniform(5, 40) / pixel_size
    )
    thickness = rng.uniform(80.0, 300.0)
    rise = rng.uniform(10.0, 150.0) / pixel_size
    field_.carbon[...] = thickness * np.clip(distance / rise + 0.5, 0, 1)
    field_.record["carbon_angstrom"] = thickness


def _window(
    shape: tuple[int, ...], center: NDArray[np.float64], reach: float
) -> tuple[tuple[slice, slice], FloatArray, FloatArray] | None:
    """Return a box of the image around a center, and its coordinates relative to the center in pixels."""
    low = np.clip(np.floor(center - reach).astype(int), 0, shape)
    high = np.clip(np.ceil(center + reach).astype(int) + 1, 0, shape)
    if np.any(high - low < 2):
        return None
    y, x = (
        np.arange(a, b, dtype=np.float32) - np.float32(c) for a, b, c in zip(low, high, center, strict=True)
    )
    return (slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))), y[:, None], x[None, :]


def _outline(rng: np.random.Generator, angle: FloatArray, *, rough: float) -> FloatArray:
    """Draw the relative radius at each angle: a circle with a few low harmonics."""
    radius = np.ones_like(angle)
    for order in range(2, 7):
        radius += np.float32(rough * rng.standard_normal() / order) * np.cos(
            order * angle + np.float32(rng.uniform(0, 2 * np.pi))
        )
    return np.maximum(radius, 0.3)


def _add_blob(
    rng: np.random.Generator, field_: Surroundings, pixel_size: float, *, radius: float, peak: float
) -> None:
    """Add a rounded, sometimes striped ice crystal of `radius` and thickness `peak` in angstrom."""
    center = rng.uniform(-0.05, 1.05, 2) * np.asarray(field_.frost.shape)
    window = _window(field_.frost.shape, center, 1.8 * radius / pixel_size)
    if window is None:
        return
    box, y, x = window
    stretch = np.float32(rng.uniform(0.75, 1.3))
    y, x = y * stretch, x / stretch
    outline = _outline(rng, np.arctan2(y, x), rough=rng.uniform(0.0, 0.15))
    share = np.hypot(y, x) * np.float32(pixel_size / radius) / outline
    steep = rng.uniform(0.3, 0.9)
    dome = np.clip(1 - share**2, 0, None) ** np.float32(steep)
    if rng.random() < 0.3:
        turn = rng.uniform(0, np.pi)
        along = y * np.float32(np.sin(turn)) + x * np.float32(np.cos(turn))
        wave = np.float32(2 * np.pi * pixel_size / (radius * rng.uniform(0.1, 0.5)))
        dome *= 1 + np.float32(rng.uniform(0.05, 0.25)) * np.sin(along * wave) * (share < 1)
    field_.frost[box] = np.maximum(field_.frost[box], np.float32(peak) * dome)


def _add_flake(rng: np.random.Generator, field_: Surroundings, pixel_size: float, *, radius: float) -> None:
    """Add a thin hexagonal crystal with straight edges."""
    center = rng.uniform(0, 1, 2) * np.asarray(field_.frost.shape)
    window = _window(field_.frost.shape, center, 1.2 * radius / pixel_size)
    if window is None:
        return
    box, y, x = window
    turn = rng.uniform(0, np.pi / 3)
    inside = np.full(np.broadcast_shapes(y.shape, x.shape), np.inf, np.float32)
    for k in range(6):
        angle = turn + k * np.pi / 3
        side = radius * rng.uniform(0.5, 1.0) / pixel_size
        inside = np.minimum(
            inside, np.float32(side) - (y * np.float32(np.sin(angle)) + x * np.float32(np.cos(angle)))
        )
    field_.frost[box] += np.float32(rng.uniform(60, 400)) * np.clip(inside / 2 + 0.5, 0, 1)


def _add_gold(rng: np.random.Generator, field_: Surroundings, pixel_size: float, *, radius: float) -> None:
    center = rng.uniform(0, 1, 2) * np.asarray(field_.metal.shape)
    window = _window(field_.metal.shape, center, radius / pixel_size + 2)
    if window is None:
        return
    box, y, x = window
    squared = np.clip(1 - (y**2 + x**2) * np.float32((pixel_size / radius) ** 2), 0, None)
    field_.metal[box] = np.maximum(field_.metal[box], np.float32(2 * radius) * np.sqrt(squared))
