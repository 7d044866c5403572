"""The mid-surface of a membrane in a mask, with its thickness and curvature at every vertex."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from cryoseg.core.membranes.faces import mid_points
from cryoseg.core.membranes.fit import (
    Neighbors,
    Sheet,
    curvatures,
    extrapolate,
    fit_heights,
    frames,
    neighbors_of,
    shape_operators,
    smooth_values,
)
from cryoseg.core.membranes.mesh import Mesh, clip, subdivided, surface_through
from cryoseg.types import BoolArray

Array = NDArray[np.float64]

# All lengths are in voxels.
_MARGIN = 6
_RAY_STEP = 0.5
# Variance along each axis of the triangle that linear interpolation convolves with.
_BLUR_VARIANCE = 1 / 6
_MOST_ROUNDS = 8
# How far the first surface, and a surface that grows at its edges, reach beyond their points.
_FIRST_REACH, _GROWING_REACH = 3.5, 6.0
_FIRST_RADIUS = 5.0
_RADII = (5.0, 10.0)
# Radius of the fits in units of the radius of curvature.
_RELATIVE_RADIUS = 0.7
# Triangles of surfaces with a smaller radius of curvature are divided.
_COARSE_RADIUS = 24.0
# Rays whose length is this far from the typical one, in its units, do not take part in the fits.
_SHORTEST, _LONGEST = 0.6, 1.5
# Around a vertex that takes part, the rays are this full of mask.
_LEAST_FULL = 0.85
# Part of the band that is full inside of its edges, in units of its thickness from the middle.
_CORE = 0.2
# Offsets of a disc of a radius of 1.3 voxels.
_DISC = [
    (radius * np.cos(angle), radius * np.sin(angle))
    for radius, count in ((0.3, 3), (0.7, 6), (1.0, 9), (1.3, 12))
    for angle in 2 * np.pi * (np.arange(count) + 0.5) / count
]
# Number of nearest vertices over which the filling of the rays is averaged.
_CALM = 12
# A surface grows until this share of the vertices at its edge is in the mask at most.
_LEFT_INSIDE = 0.03


@dataclass(frozen=True, kw_only=True)
class Surface:
    """The mid-surface of one or several membranes.

    Attributes
    ----------
    mesh
        (n, 3) vertices (z, y, x) in angstrom from the center of the first voxel, and (m, 3) faces.
    normals
        (n, 3) unit normals. They point outward on closed surfaces. On open ones they point to the convex
        side.
    thickness
        (n,) thickness of the band in angstrom.
    mean_curvature, gaussian_curvature
        (n,) curvatures in 1/angstrom and 1/angstrom^2. The mean curvature of a sphere is positive.
    component
        (n,) number of the component of each vertex.
    """

    mesh: Mesh
    normals: Array
    thickness: Array
    mean_curvature: Array
    gaussian_curvature: Array
    component: NDArray[np.int64]

    def smooth_mesh(self) -> Mesh:
        """Return a finer mesh on the curved surface that the normals imply, for areas and volumes."""
        return subdivided(self.mesh, self.normals, self.normals)[0]


@dataclass(frozen=True, kw_only=True)
class _Rays:
    """Profiles of a mask along the normals of vertices.

    Attributes
    ----------
    shift
        (n,) positions of the middle of the band.
    length
        (n,) lengths in the band.
    fullness
        (n,) shares of the typical length that are in the band, smoothed where the band is complete.
    usable
        (n,) whether both faces of the band are found at a plausible distance.
    """

    shift: Array
    length: Array
    fullness: Array
    usable: BoolArray


@dataclass(frozen=True, kw_only=True)
class _Band:
    """The mask of one component with a margin.

    Attributes
    ----------
    image
        (z, y, x) mask as bytes.
    low, high
        First and last position inside the tomogram, per axis.
    """

    image: NDArray[np.uint8]
    low: Array
    high: Array


def mid_surface(
    mask: BoolArray,
    voxel_size: float,
    *,
    corner: Sequence[int] = (0, 0, 0),
    shape: Sequence[int] | None = None,
    component: int = 1,
) -> Surface | None:
    """Return the mid-surface of a membrane.

    Parameters
    ----------
    mask
        (z, y, x) mask of one component.
    voxel_size
        Voxel size in angstrom.
    corner, shape
        First voxel of the mask in the tomogram, and shape of the tomogram; by default the mask is the whole.
        A membrane that the border of the tomogram cuts is measured up to the border.
    component
        Number of the component.

    Returns
    -------
    Surface or None
        None if the component is no sheet: a ball, a rod, or a few voxels.
    """
    padded = np.pad(mask, _MARGIN)
    start = mid_points(padded)
    if start is None:
        return None
    low = _MARGIN - np.asarray(corner, np.float64) - 0.5
    whole = np.asarray(mask.shape if shape is None else shape, np.float64)
    band = _Band(image=padded.view(np.uint8), low=low, high=low + whole)
    spacing = 2 if start.thickness >= 3 else 1
    grown = _grown(band, start.points, start.normals, spacing=spacing, typical=start.thickness)
    if grown is None:
        return None
    mesh, sheet, rays, typical = grown
    mean, gauss = curvatures(sheet.tensors)
    bend = np.sqrt(np.clip(2 * mean**2 - gauss, 1e-9, None))[rays.fullness > 0.5]
    sharpest = float(np.percentile(bend, 75)) if len(bend) else 1.0
    radius = float(np.clip(_RELATIVE_RADIUS / sharpest, *_RADII))
    mesh = replace(mesh, vertices=sheet.vertices)
    around = neighbors_of(sheet.vertices, sheet.normals, mesh.vertex_areas(), radius)
    sheet, rays = _refined(band, sheet, around, typical)
    thickness = smooth_values(around, rays.length, rays.usable)
    is_measured = np.isfinite(thickness)
    fields = np.column_stack([sheet.normals, np.nan_to_num(thickness), *curvatures(sheet.tensors)])
    mesh = replace(mesh, vertices=sheet.vertices)
    fullness = np.where(is_measured, _edge_fullness(band, sheet, around, rays, typical), 0.0)
    mesh, fields = clip(mesh, fullness, 0.5, fields)
    if not len(mesh.faces):
        return None
    if sharpest > 1 / _COARSE_RADIUS:
        mesh, fields = subdivided(mesh, _unit(fields[:, :3]), fields)
    turn = _inward(mesh, fields[:, 4])
    sign = np.where(turn, -1.0, 1.0)
    mesh = mesh.flipped(turn)
    origin = np.asarray(corner) - _MARGIN
    return Surface(
        mesh=replace(mesh, vertices=(mesh.vertices + origin) * voxel_size),
        normals=_unit(fields[:, :3]) * sign[:, None],
        thickness=fields[:, 3] * voxel_size,
        mean_curvature=fields[:, 4] * sign / voxel_size,
        gaussian_curvature=fields[:, 5] / voxel_size**2,
        component=np.full(len(mesh.vertices), component, np.int64),
    )


def _grown(
    band: _Band, points: Array, normals: Array, *, spacing: int, typical: float
) -> tuple[Mesh, Sheet, _Rays, float] | None:
    """Build a surface through points, fit it to the band, and let it grow until it covers the band."""
    reach = _FIRST_REACH
    result = None
    for _ in range(_MOST_ROUNDS):
        mesh = surface_through(points, normals, spacing=spacing, reach=reach)
        if not len(mesh.faces):
            return result
        flat = Sheet(
            vertices=mesh.vertices,
            normals=mesh.vertex_normals(),
            tensors=np.zeros((len(mesh.vertices), 3, 3)),
        )
        around = neighbors_of(flat.vertices, flat.normals, mesh.vertex_areas(), _FIRST_RADIUS)
        sheet, rays = _refined(band, flat, around, typical)
        if not rays.usable.any():
            return result
        typical = float(np.median(rays.length[rays.usable]))
        result = mesh, sheet, rays, typical
        inside = rays.fullness > 0.5
        edge = mesh.edge_vertices()
        if not len(edge) or inside[edge].mean() <= _LEFT_INSIDE:
            break
        points, normals = sheet.vertices[inside], sheet.normals[inside]
        reach = _GROWING_REACH
    return result


def _refined(band: _Band, sheet: Sheet, around: Neighbors, typical: float) -> tuple[Sheet, _Rays]:
    """Move a surface into the middle of the band."""
    rays = _rays(band, sheet, around, typical)
    points = sheet.vertices + (rays.shift + _blur_shift(sheet, typical))[:, None] * sheet.normals
    fitted, known = fit_heights(sheet, around, points, rays.usable)
    tensors = shape_operators(fitted.vertices, fitted.normals, around, known)
    known &= np.isfinite(tensors).all((1, 2))
    return extrapolate(replace(fitted, tensors=np.nan_to_num(tensors)), known), rays


def _blur_shift(sheet: Sheet, typical: float) -> Array:
    """Return the (n,) shifts that undo the blur of the interpolation, which moves curved faces inward.

    A blur of variance v moves a face of mean curvature h by v * h. On a sphere, the mean of both faces of
    a band of thickness t moves by v * H / (1 - (H t / 2)^2).
    """
    mean, _ = curvatures(sheet.tensors)
    return _BLUR_VARIANCE * mean / np.clip(1 - (mean * typical / 2) ** 2, 0.5, None)


def _rays(band: _Band, sheet: Sheet, around: Neighbors, typical: float) -> _Rays:
    reach = int(np.ceil((0.9 * typical + 2.5) / _RAY_STEP))
    index = np.arange(-reach, reach + 1)
    steps = index * _RAY_STEP
    profile = np.empty((len(sheet.vertices), len(steps)), np.float32)
    for number, step in enumerate(steps):
        places = (sheet.vertices + step * sheet.normals).T
        profile[:, number] = map_coordinates(band.image, places, order=1, output=np.float32)
    inside = profile >= 0.5
    # The interval of the band is the one at, or next to, the vertex.
    nearest = np.where(inside, np.abs(index), 2 * reach).argmin(1) - reach
    low = np.where(~inside & (index < nearest[:, None]), index, -reach - 1).max(1)
    high = np.where(~inside & (index > nearest[:, None]), index, reach + 1).min(1)
    # Sums over the mask average the noise of its faces, which crossings of a level do not.
    beyond = round(1 / _RAY_STEP)
    taken = profile * ((index >= low[:, None] - beyond) & (index <= high[:, None] + beyond))
    length = taken.sum(1, dtype=np.float64) * _RAY_STEP
    shift = (taken * steps).sum(1, dtype=np.float64) * _RAY_STEP / np.maximum(length, 1e-9)
    usable = (low >= -reach) & (high <= reach) & (np.abs(nearest) * _RAY_STEP <= typical / 2)
    usable &= (length > _SHORTEST * typical) & (length < _LONGEST * typical)
    # Where the border of the tomogram cuts the ray, its middle is not that of the membrane.
    for end in (-typical / 2, typical / 2):
        places = sheet.vertices + end * sheet.normals
        usable &= ((places > band.low) & (places < band.high)).all(1)
    filled = profile[:, np.abs(steps) <= typical / 2].mean(1, dtype=np.float64)
    filled /= np.median(filled[usable]) if usable.any() else 1.0
    near = around.weight[:, :_CALM] > 0
    calm = (filled[around.index[:, :_CALM]] * near).sum(1) / np.maximum(near.sum(1), 1)
    is_full = calm > _LEAST_FULL
    fullness = np.where(is_full, calm, filled)
    return _Rays(shift=shift, length=length, fullness=fullness, usable=usable & is_full)


def _edge_fullness(band: _Band, sheet: Sheet, around: Neighbors, rays: _Rays, typical: float) -> Array:
    """Return the (n,) fullness of the rays, averaged over a disc where the edge of the band is near.

    Vertices are up to two voxels apart, so that values which jump at the edge would not locate it. The mean
    over a disc falls linearly and is one half at a straight edge.
    """
    result = rays.fullness.copy()
    near = (rays.fullness[around.index[:, :_CALM]] < _LEAST_FULL).any(1)
    index = np.flatnonzero(near)
    if not len(index):
        return result
    # The faces are noisy.
    steps = np.linspace(-_CORE, _CORE, 7) * typical

    def marked(chosen: NDArray[np.int64], offset: Array | float = 0.0) -> Array:
        total = np.zeros(len(chosen))
        for step in steps:
            places = sheet.vertices[chosen] + offset + step * sheet.normals[chosen]
            total += map_coordinates(band.image, places.T, order=1, output=np.float32)
        return total

    full = marked(np.flatnonzero(~near & rays.usable))
    first, second = frames(sheet.normals[index])
    around_it = [marked(index, across * first + along * second) for across, along in _DISC]
    result[index] = np.mean(around_it, axis=0) / (np.median(full) if len(full) else len(steps))
    return result


def _inward(mesh: Mesh, mean: Array) -> BoolArray:
    """Return the (n,) vertices of pieces whose normals point inward, or whose mean curvature is negative."""
    piece = mesh.pieces()
    result = np.zeros(len(piece), bool)
    for number in range(int(piece.max()) + 1):
        own = piece == number
        part, _ = mesh.kept(own)
        result[own] = (part.enclosed_volume() if part.is_closed() else mean[own].sum()) < 0
    return result


def _unit(vectors: Array) -> Array:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1), 1e-12)[:, None])
