"""Distances of points to a mid-surface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from cryoseg.core.membranes.midsurface import Surface
from cryoseg.types import BoolArray, Points

Array = NDArray[np.float64]


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
    The nearest place is on the tangent plane of the nearest vertex, not farther from it than the next
    vertices. The error is a small part of the size of a triangle.
    """
    index = KDTree(surface.mesh.vertices).query(points)[1]
    normal = surface.normals[index]
    offset = points - surface.mesh.vertices[index]
    height = (offset * normal).sum(1)
    lateral = offset - height[:, None] * normal
    # The plane stands for the surface only as far as the next vertices.
    edge = float(np.sqrt(2 * np.median(surface.mesh.face_areas())))
    length = np.linalg.norm(lateral, axis=1)
    lateral *= np.minimum(1, edge / np.maximum(length, 1e-9))[:, None]
    nearest = surface.mesh.vertices[index] + lateral
    return SurfaceDistances(
        distance=np.where(height < 0, -1.0, 1.0) * np.linalg.norm(points - nearest, axis=1),
        nearest=nearest,
        normal=normal,
        component=surface.component[index],
    )


def inside_closed(surfaces: Sequence[Surface], points: Points) -> BoolArray:
    """Return which of (n, 3) points (z, y, x) in angstrom are inside of a closed surface."""
    result = np.zeros(len(points), bool)
    for surface in surfaces:
        vertices = surface.mesh.vertices
        near = ((points > vertices.min(0)) & (points < vertices.max(0))).all(1)
        if near.any() and surface.mesh.is_closed():
            result[near] |= signed_distance(surface, points[near]).distance < 0
    return result
