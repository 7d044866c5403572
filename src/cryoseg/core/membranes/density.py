"""The thickness of a bilayer in the density: the distance of its two leaflets across the mid-surface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.optimize import least_squares
from scipy.spatial import KDTree

from cryoseg.core.membranes.midsurface import Surface

Array = NDArray[np.float64]

# Lengths in angstrom.
PATCH_SPACING = 100.0
PATCH_RADIUS = 80.0
_REACH = 80.0
_STEP = 2.5
# Distances of the phosphate layers that a bilayer, or a blurred one, may have.
_NEAREST, _FARTHEST = 25.0, 70.0
_MOST_PATCHES = 400
# A patch is measured if the leaflets are alike, stand out of the residuals, and leave a dip between them.
_MOST_UNLIKE = 3.0
_LEAST_SIGNAL = 3.0
_LEAST_DIP = 0.05


@dataclass(frozen=True, kw_only=True)
class DensityThickness:
    """Leaflet distances of the patches of a surface.

    Attributes
    ----------
    places
        (n, 3) centers of the patches (z, y, x) in angstrom.
    distances
        (n,) distances of the leaflets in angstrom; NaN where two leaflets are not resolved.
    offsets, profile
        (m,) distances from the mid-surface in angstrom, and the mean density over all patches there.
    """

    places: Array
    distances: Array
    offsets: Array
    profile: Array

    @property
    def measured(self) -> int:
        """Number of patches with two resolved leaflets."""
        return int(np.isfinite(self.distances).sum())

    def at(self, vertices: Array) -> Array:
        """Return the (n,) distances of the nearest measured patches to (n, 3) positions; NaN without any."""
        good = np.isfinite(self.distances)
        if not good.any():
            return np.full(len(vertices), np.nan)
        return np.asarray(self.distances[good][KDTree(self.places[good]).query(vertices)[1]])


def density_thickness(density: NDArray[Any], surface: Surface, voxel_size: float) -> DensityThickness:
    """Measure the leaflet distance in patches of a surface.

    The density along the normals is averaged over a patch, and two Gaussian peaks of one width on a linear
    background are fitted to the profile.

    Parameters
    ----------
    density
        (z, y, x) tomogram on the grid of the mask. The membrane may be dark or bright.
    surface
        Mid-surface of one component.
    voxel_size
        Voxel size in angstrom.
    """
    offsets = np.arange(-_REACH, _REACH + _STEP / 2, _STEP)
    vertices, normals = surface.mesh.vertices, surface.normals
    margin = int(np.ceil(_REACH / voxel_size)) + 4
    low = np.maximum(np.floor(vertices.min(0) / voxel_size).astype(int) - margin, 0)
    high = np.ceil(vertices.max(0) / voxel_size).astype(int) + margin
    block = np.asarray(density[tuple(map(slice, low, high))], np.float32)
    profiles = np.empty((len(vertices), len(offsets)), np.float32)
    for number, offset in enumerate(offsets):
        places = ((vertices + offset * normals) / voxel_size - low).T
        profiles[:, number] = map_coordinates(block, places, order=1, mode="nearest")
    cells = np.floor(vertices / PATCH_SPACING).astype(np.int64)
    centers = np.unique(cells, axis=0, return_index=True)[1]
    if len(centers) > _MOST_PATCHES:
        centers = np.random.default_rng(0).choice(centers, _MOST_PATCHES, replace=False)
    areas = surface.mesh.vertex_areas()
    means = np.empty((len(centers), len(offsets)))
    for row, near in enumerate(KDTree(vertices).query_ball_point(vertices[centers], PATCH_RADIUS)):
        index = np.asarray(near)
        index = index[normals[index] @ normals[centers[row]] > 0.8]
        means[row] = np.average(profiles[index], axis=0, weights=areas[index])
    core = np.abs(offsets) < 30
    # Membranes are dark or bright as a whole.
    sign = np.sign(means[:, core].mean() - means[:, ~core].mean()) or 1.0
    distances = np.array([_leaflet_distance(offsets, sign * mean) for mean in means])
    return DensityThickness(
        places=vertices[centers], distances=distances, offsets=offsets, profile=means.mean(0)
    )


def _leaflet_distance(offsets: Array, profile: Array) -> float:
    """Return the distance of two peaks in a profile of bright leaflets; NaN if they are not resolved."""
    scale = float(np.ptp(profile))
    if scale <= 0:
        return float("nan")
    values = (profile - profile.min()) / scale

    def model(p: Array) -> Array:
        base, slope, first, second, middle, distance, width = p
        peaks = [
            height * np.exp(-0.5 * ((offsets - middle - side * distance / 2) / width) ** 2)
            for height, side in ((first, -1), (second, 1))
        ]
        return np.asarray(base + slope * offsets / _REACH + peaks[0] + peaks[1])

    start = np.array([0.2, 0.0, 0.7, 0.7, 0.0, 40.0, 10.0])
    bounds = ([-2, -2, 0, 0, -20, 15, 4], [2, 2, 3, 3, 20, 90, 25])
    fit = least_squares(lambda p: model(p) - values, start, bounds=bounds, max_nfev=200)
    _, _, first, second, _, distance, width = fit.x
    if not _NEAREST <= distance <= _FARTHEST or min(first, second) <= 0:
        return float("nan")
    noise = float(np.sqrt(np.mean(fit.fun**2)))
    bridge = (first + second) * np.exp(-0.5 * (distance / 2 / width) ** 2)
    dip = 1 - bridge / min(first, second)
    is_measured = (
        max(first, second) <= _MOST_UNLIKE * min(first, second)
        and min(first, second) >= _LEAST_SIGNAL * noise
        and dip >= _LEAST_DIP
    )
    return float(distance) if is_measured else float("nan")
