"""Random and evenly spaced points on a mid-surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from cryoseg.core.membranes.fit import frames
from cryoseg.core.membranes.mesh import subdivided
from cryoseg.core.membranes.midsurface import Surface
from cryoseg.types import Points

Array = NDArray[np.float64]

# Candidates per square of the spacing. More of them fill the gaps between points better.
_CANDIDATES = 40
# Two points lie on different sheets if the line between them is this steep against the sheets (the cosine of
# the angle to the mean normal). Between points of one sphere or cylinder it is 0.
STEEPEST = 0.5


@dataclass(frozen=True, kw_only=True)
class SurfacePoints:
    """Points on a mid-surface.

    Attributes
    ----------
    places
        (n, 3) positions (z, y, x) in angstrom.
    normals
        (n, 3) unit normals (z, y, x).
    component
        (n,) number of the component of each point.
    """

    places: Points
    normals: Array
    component: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.places)

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> SurfacePoints:
        """Return the chosen points, given as a mask or as indices."""
        return SurfacePoints(
            places=self.places[chosen], normals=self.normals[chosen], component=self.component[chosen]
        )


def random_points(surface: Surface, count: int, rng: np.random.Generator) -> SurfacePoints:
    """Draw points that are independent and uniform over the area.

    Parameters
    ----------
    surface
        Surface with at least one triangle.
    count
        Number of points.
    rng
        Random numbers.
    """
    fields = np.column_stack([surface.normals, surface.component])
    mesh, fields = subdivided(surface.mesh, surface.normals, fields)
    areas = mesh.face_areas()
    chosen = mesh.faces[rng.choice(len(areas), size=count, p=areas / areas.sum())]
    # Source: Osada et al. 2002, Shape distributions, section 3.2.
    root, share = np.sqrt(rng.random(count)), rng.random(count)
    weights = np.stack([1 - root, root * (1 - share), root * share], axis=1)
    places, values = (np.einsum("nk,nkd->nd", weights, table[chosen]) for table in (mesh.vertices, fields))
    normals = values[:, :3] / np.maximum(np.linalg.norm(values[:, :3], axis=1), 1e-12)[:, None]
    return SurfacePoints(places=places, normals=normals, component=np.rint(values[:, 3]).astype(np.int64))


def even_points(surface: Surface, spacing: float, rng: np.random.Generator) -> SurfacePoints:
    """Choose points such that no two are nearer than a spacing, and no gap has room for another one.

    Parameters
    ----------
    surface
        Mid-surface of one component.
    spacing
        Smallest distance along the surface in angstrom.
    rng
        Random numbers.

    Notes
    -----
    Poisson-disc sampling by dart throwing: random candidates are taken in turn unless they are too near to
    one that was taken. Source: Cook 1986, Stochastic sampling in computer graphics, section 4.2.
    """
    count = int(np.ceil(_CANDIDATES * surface.mesh.face_areas().sum() / spacing**2))
    candidates = random_points(surface, max(count, _CANDIDATES), rng)
    tree = KDTree(candidates.places)
    is_free = np.ones(len(candidates), bool)
    taken = []
    for index in range(len(candidates)):
        if not is_free[index]:
            continue
        taken.append(index)
        near = np.asarray(tree.query_ball_point(candidates.places[index], spacing))
        length = along_surface(
            candidates.places[near] - candidates.places[index],
            candidates.normals[near],
            candidates.normals[index],
        )
        is_free[near[length < spacing]] = False
        is_free[index] = False
    return candidates.take(np.asarray(taken))


def along_surface(offsets: Array, normals: Array, normal: Array) -> Array:
    """Return the (n,) distances along a surface between near points; infinite for points on another sheet.

    Parameters
    ----------
    offsets
        (n, 3) vectors between the two points.
    normals, normal
        (n, 3) unit normals of the ends, and (3,) or (n, 3) of the beginnings.

    Notes
    -----
    The distance is that on the circle through both points that has these normals.
    """
    chord = np.linalg.norm(offsets, axis=1)
    cosine = np.clip((normals * normal).sum(1), -1, 1)
    half = np.arccos(cosine) / 2
    length = chord * np.where(half > 1e-4, half / np.maximum(np.sin(half), 1e-9), 1.0)
    middle = normals + normal
    middle /= np.maximum(np.linalg.norm(middle, axis=1), 1e-9)[:, None]
    is_steep = np.abs((offsets * middle).sum(1)) > STEEPEST * chord
    return np.where((is_steep & (chord > 0)) | (cosine <= 0), np.inf, length)


def orientations(normals: Array, rng: np.random.Generator | None = None) -> Array:
    """Return the (n, 3, 3) rotations, as in `Picks`, that turn the z axis of a particle to normals.

    Parameters
    ----------
    normals
        (n, 3) unit normals (z, y, x).
    rng
        Random numbers for the angle about the normal, so that the missing wedge has another direction in
        every particle. Without them the angle is fixed.
    """
    ahead = normals[:, ::-1]
    first, second = frames(ahead)
    angle = np.zeros(len(ahead)) if rng is None else rng.uniform(0, 2 * np.pi, len(ahead))
    cosine, sine = np.cos(angle)[:, None], np.sin(angle)[:, None]
    return np.stack([cosine * first + sine * second, cosine * second - sine * first, ahead], axis=2)
