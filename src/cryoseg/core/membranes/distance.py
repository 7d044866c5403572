"""Distances of points to a mid-surface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from cryoseg.core.membranes.mesh import Mesh
from cryoseg.core.membranes.midsurface import Surface
from cryoseg.types import BoolArray, Points

Array = NDArray[np.float64]

_CHUNK = 4096
# Number of triangles, by the distance of their centers, among which the nearest one is sought.
_CANDIDATES = 16


@dataclass(frozen=True, kw_only=True)
class SurfaceDistances:
    """The place on a surface that is nearest to each of n points.

    Attributes
    ----------
    distance
        (n,) distances in angstrom, positive where the normals point: outside of closed surfaces.
    nearest
        (n, 3) nearest positions (z, y, x) in angstrom.
    normal
        (n, 3) unit normals there.
    component
        (n,) number of the component there.
    """

    distance: Array
    nearest: Points
    normal: Array
    component: NDArray[np.int64]


def signed_distance(surface: Surface, points: Points) -> SurfaceDistances:
    """Return the signed distances of points to the nearest place of a surface.

    Parameters
    ----------
    surface
        Surface with at least one vertex.
    points
        (n, 3) positions (z, y, x) in angstrom, in the frame of the surface.

    Notes
    -----
    The nearest place on the triangles is moved half way to the tangent planes at the corners, weighted by
    its barycentric coordinates. This is exact for paraboloids, whereas flat triangles lie inside of them
    (compare Boubekeur and Alexa 2008, Phong tessellation, section 3, which moves by three quarters).
    """
    faces, share = _closest(surface.mesh, points)
    corners = surface.mesh.faces[faces]
    flat = np.einsum("nk,nkd->nd", share, surface.mesh.vertices[corners])
    normals = surface.normals[corners]
    height = np.einsum("nkd,nkd->nk", flat[:, None] - surface.mesh.vertices[corners], normals)
    nearest = flat - np.einsum("nk,nkd->nd", share * height, normals) / 2
    normal = np.einsum("nk,nkd->nd", share, normals)
    normal /= np.maximum(np.linalg.norm(normal, axis=1), 1e-12)[:, None]
    offset = points - nearest
    return SurfaceDistances(
        distance=np.where((offset * normal).sum(1) < 0, -1.0, 1.0) * np.linalg.norm(offset, axis=1),
        nearest=nearest,
        normal=normal,
        component=surface.component[corners[:, 0]],
    )


def _closest(mesh: Mesh, points: Points) -> tuple[NDArray[np.int64], Array]:
    """Return the (n,) nearest triangles, and the (n, 3) barycentric coordinates of the nearest places."""
    corners = mesh.vertices[mesh.faces]
    tree = KDTree(corners.mean(1))
    face, share = np.empty(len(points), np.int64), np.empty((len(points), 3))
    for start in range(0, len(points), _CHUNK):
        part = points[start : start + _CHUNK]
        near = tree.query(part, k=min(_CANDIDATES, len(corners)))[1].reshape(len(part), -1)
        shares = _barycentric(corners[near], part[:, None])
        gaps = np.einsum("nck,nckd->ncd", shares, corners[near]) - part[:, None]
        best = (gaps**2).sum(2).argmin(1)
        rows = np.arange(len(part))
        face[start : start + _CHUNK] = near[rows, best]
        share[start : start + _CHUNK] = shares[rows, best]
    return face, share


def _barycentric(corners: Array, points: Array) -> Array:
    """Return the (..., 3) barycentric coordinates of the nearest places on (..., 3, 3) triangles."""
    shares = np.zeros((4, *corners.shape[:-1]))
    # The foot on the plane, and the nearest places on the three sides.
    first, second = corners[..., 1, :] - corners[..., 0, :], corners[..., 2, :] - corners[..., 0, :]
    offset = points - corners[..., 0, :]
    aa, ab, bb = ((p * q).sum(-1) for p, q in ((first, first), (first, second), (second, second)))
    pa, pb = (offset * first).sum(-1), (offset * second).sum(-1)
    size = np.maximum(aa * bb - ab * ab, 1e-12)
    shares[0, ..., 1], shares[0, ..., 2] = (bb * pa - ab * pb) / size, (aa * pb - ab * pa) / size
    shares[0, ..., 0] = 1 - shares[0, ..., 1] - shares[0, ..., 2]
    for side, (i, j) in enumerate(((0, 1), (1, 2), (2, 0)), start=1):
        along = corners[..., j, :] - corners[..., i, :]
        length = np.maximum((along * along).sum(-1), 1e-12)
        t = np.clip(((points - corners[..., i, :]) * along).sum(-1) / length, 0, 1)
        shares[side, ..., i], shares[side, ..., j] = 1 - t, t
    gaps = (np.square(np.einsum("s...k,...kd->s...d", shares, corners) - points)).sum(-1)
    gaps[0, (shares[0] < 0).any(-1)] = np.inf
    return np.asarray(np.take_along_axis(shares, gaps.argmin(0)[None, ..., None], axis=0)[0])


def inside_closed(surfaces: Sequence[Surface], points: Points) -> BoolArray:
    """Return which of (n, 3) points (z, y, x) in angstrom are inside of a closed surface."""
    result = np.zeros(len(points), bool)
    for surface in surfaces:
        vertices = surface.mesh.vertices
        near = ((points > vertices.min(0)) & (points < vertices.max(0))).all(1)
        if near.any() and surface.mesh.is_closed():
            result[near] |= signed_distance(surface, points[near]).distance < 0
    return result
