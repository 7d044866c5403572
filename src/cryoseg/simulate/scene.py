"""The specimen during its construction: distance to the nearest membrane, density and contents."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import IntFlag

import numpy as np
from numpy.typing import NDArray

from cryoseg.simulate.fields import Box, Grid, smooth_noise
from cryoseg.simulate.surfaces import Surface
from cryoseg.types import BoolArray, FloatArray

FAR_ANGSTROM = np.float32(1e6)


class Kind(IntFlag):
    """Contents of a voxel apart from membranes, as bits of `Scene.kinds`."""

    CYTOSOLIC_PROTEIN = 1
    RIBOSOME = 2
    MEMBRANE_PROTEIN = 4
    FILAMENT = 8
    GOLD = 16
    ICE_CONTAMINATION = 32
    CARBON = 64
    OUTSIDE_LAMELLA = 128


@dataclass(frozen=True, kw_only=True)
class Bilayer:
    """Density profile of a membrane, in units of the density of protein minus that of vitreous ice.

    Attributes
    ----------
    thickness
        Thickness of the label in angstrom, centered on the mid-surface.
    leaflet_separation
        Distance of the two headgroup peaks in angstrom.
    leaflet_sigma
        Standard deviation of a peak in angstrom.
    leaflet_density
        Heights of the outer and the inner peak.
    core_density
        Density of the tails, usually below that of ice.
    """

    thickness: float = 40.0
    leaflet_separation: float = 36.0
    leaflet_sigma: float = 5.0
    leaflet_density: tuple[float, float] = (1.0, 1.0)
    core_density: float = -0.2

    def profile(self, distance: FloatArray, *, voxel_size: float) -> FloatArray:
        """Return the density at (z, y, x) signed distances in angstrom, blurred by the voxel; same shape."""
        # The variance of a box with the width of a voxel is 1/12 of its square.
        sigma2 = self.leaflet_sigma**2 + voxel_size**2 / 12.0
        height = self.leaflet_sigma / np.sqrt(sigma2)
        half = 0.5 * self.leaflet_separation
        outer, inner = self.leaflet_density
        core_sigma2 = (0.3 * self.leaflet_separation) ** 2 + voxel_size**2 / 12.0
        density = (
            outer * height * np.exp(-((distance - half) ** 2) / (2 * sigma2))
            + inner * height * np.exp(-((distance + half) ** 2) / (2 * sigma2))
            + self.core_density * np.exp(-(distance**2) / (2 * core_sigma2))
        )
        return np.asarray(density, dtype=np.float32)


class Scene:
    """A grid to which membranes and molecules are added.

    Attributes
    ----------
    grid
        Shape and voxel size.
    distance
        (z, y, x) unsigned distance to the nearest mid-surface in angstrom; large without one.
    density
        (z, y, x) density in units of the density of protein minus that of vitreous ice.
    kinds
        (z, y, x) uint8 bits of `Kind`.
    compartment
        (z, y, x) int16 number of the innermost closed membrane; 0 outside.
    counts
        Number of membranes by kind.
    closed
        Numbers of the closed membranes.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.distance: FloatArray = np.full(grid.shape, FAR_ANGSTROM, dtype=np.float32)
        self.density: FloatArray = np.zeros(grid.shape, dtype=np.float32)
        self.kinds: NDArray[np.uint8] = np.zeros(grid.shape, dtype=np.uint8)
        self.compartment: NDArray[np.int16] = np.zeros(grid.shape, dtype=np.int16)
        self.counts: Counter[str] = Counter()
        self.closed: list[int] = []

    def fits(self, surface: Surface, *, min_gap: float) -> bool:
        """Return whether a surface crosses the grid at `min_gap` angstrom or more from all other ones."""
        on_it = surface.absolute() < 0.75 * self.grid.voxel_size
        if np.count_nonzero(on_it) < 30:
            return False
        return bool(self.distance[surface.box][on_it].min() >= min_gap)

    def add(
        self,
        surface: Surface,
        bilayer: Bilayer,
        *,
        min_gap: float,
        rng: np.random.Generator | None = None,
        unevenness: float = 0.0,
    ) -> bool:
        """Add a membrane to the scene if it fits; return whether it does.

        `min_gap` is the smallest distance between two mid-surfaces in angstrom. With `rng`, the density
        varies along the membrane with the relative standard deviation `unevenness`.
        """
        if not self.fits(surface, min_gap=min_gap):
            return False
        absolute = surface.absolute()
        np.minimum(self.distance[surface.box], absolute, out=self.distance[surface.box])
        near = np.nonzero(absolute < 70.0)
        signed = np.where(surface.distance[near] < 0, -absolute[near], absolute[near])
        profile = bilayer.profile(signed, voxel_size=self.grid.voxel_size)
        if rng is not None and unevenness > 0:
            field = smooth_noise(rng, surface.box, spacing_px=max(150.0 / self.grid.voxel_size, 4.0))
            profile *= np.clip(1.0 + unevenness * field[near], 0.2, 2.0)
        self.density[surface.box][near] += profile
        self.counts[surface.kind] += 1
        if surface.rim is None:
            number = len(self.closed) + 1
            self.compartment[surface.box][surface.distance < 0] = number
            self.closed.append(number)
        return True

    def mark(self, kind: Kind, where: BoolArray, box: Box | None = None) -> None:
        """Record that the voxels `where` of a box, or of the whole grid, contain `kind`."""
        target = self.kinds if box is None else self.kinds[box]
        target[where] |= np.uint8(kind)

    def clear(self, where: BoolArray) -> None:
        """Remove membranes, density and molecules from the voxels `where` (z, y, x)."""
        self.distance[where] = FAR_ANGSTROM
        self.density[where] = 0.0
        self.kinds[where] = 0

    def label(self, thickness: float) -> BoolArray:
        """Return the (z, y, x) voxels within half of `thickness` (angstrom) of a mid-surface."""
        return np.asarray(self.distance <= np.float32(0.5 * thickness))


def surface_points(
    rng: np.random.Generator, grid: Grid, surface: Surface, n: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw random points of a surface; return them and the outward unit normals there.

    Both are (n, 3) z, y, x, positions in angstrom; they are empty if the surface has no voxels.
    """
    inner = tuple(slice(1, -1) for _ in range(3))
    absolute = np.abs(surface.distance[inner])
    near = absolute < 0.6 * grid.voxel_size
    if surface.rim is not None:
        near &= surface.rim[inner] <= 0
    candidates = np.argwhere(near) + 1
    if len(candidates) == 0 or n == 0:
        return np.zeros((0, 3)), np.zeros((0, 3))
    chosen = candidates[rng.integers(0, len(candidates), n)]
    normals = np.empty((n, 3))
    for axis in range(3):
        step = np.zeros(3, dtype=int)
        step[axis] = 1
        normals[:, axis] = (
            surface.distance[tuple((chosen + step).T)] - surface.distance[tuple((chosen - step).T)]
        )
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    offset = surface.distance[tuple(chosen.T)].astype(np.float64)
    corner = np.array([part.start for part in surface.box])
    points = (chosen + corner) * grid.voxel_size - offset[:, None] * normals
    return points, normals


def surface_area(grid: Grid, surface: Surface) -> float:
    """Return the area of the part of a surface on the grid in square angstrom."""
    return float(np.count_nonzero(surface.absolute() < grid.voxel_size)) * grid.voxel_size**2 / 2.0
