"""Local fits on a surface: positions, normals, thickness and curvature from noisy samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

Array = NDArray[np.float64]

# Number of vertices that are fitted at once; their arrays fit the cache of a processor.
_CHUNK = 256
_RIDGE = 1e-9
# A fit is uncertain where its points lie to one side or fill little of the disc.
_MOST_LEAN = 0.25
_LEAST_SUPPORT = 0.5
# Number of vertices from which a surface is continued.
_SOURCES = 16


@dataclass(frozen=True, kw_only=True)
class Neighbors:
    """The vertices within a distance of each vertex, on the same sheet.

    Attributes
    ----------
    index
        (n, k) indices of neighbors; those beyond the distance have the weight 0.
    weight
        (n, k) weights, which fall to 0 at the distance.
    """

    index: NDArray[np.int64]
    weight: NDArray[np.float32]
    radius: float


def neighbors_of(vertices: Array, normals: Array, areas: Array, radius: float) -> Neighbors:
    """Find the neighbors of every vertex within a radius, weighted by their areas.

    Parameters
    ----------
    vertices, normals
        (n, 3) positions and unit normals. Vertices of opposite normals are on another sheet.
    areas
        (n,) areas.
    radius
        Largest distance, in the unit of the vertices, as voxels.
    """
    most = int(1.35 * np.pi * radius**2 / max(float(np.median(areas)), 1e-9)) + 8
    tree = KDTree(vertices)
    distance, index = tree.query(vertices, k=min(most, len(vertices)), distance_upper_bound=radius)
    index = np.minimum(index, len(vertices) - 1)
    weight = np.clip(1 - np.square(np.minimum(distance, radius) / radius), 0, None)
    weight *= areas[index]
    for start in range(0, len(vertices), _CHUNK):
        part = slice(start, start + _CHUNK)
        agree = np.einsum("nkd,nd->nk", normals[index[part]], normals[part])
        weight[part] *= agree > 0.3
    return Neighbors(index=index, weight=weight.astype(np.float32), radius=radius)


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Vertices of a surface.

    Attributes
    ----------
    vertices, normals
        (n, 3) positions and unit normals.
    tensors
        (n, 3, 3) shape operators; 0 where they are not known yet.
    """

    vertices: Array
    normals: Array
    tensors: Array


def frames(normals: Array) -> tuple[Array, Array]:
    """Return two (n, 3) unit vectors that complete each normal to a right-handed frame."""
    helper = np.zeros_like(normals)
    helper[np.arange(len(normals)), np.abs(normals).argmin(1)] = 1
    first = np.cross(helper, normals)
    first /= np.linalg.norm(first, axis=1)[:, None]
    return first, np.cross(normals, first)


def fit_heights(
    surface: Sheet, neighbors: Neighbors, points: Array, usable: NDArray[np.bool_]
) -> tuple[Sheet, NDArray[np.bool_]]:
    """Fit a quadric to the points at the neighbors of each vertex.

    Parameters
    ----------
    surface
        Vertices, the normals that span the frames of the fits, and shape operators. What a sphere or cylinder
        of this curvature has beyond a quadric is subtracted, so that wide neighborhoods do not bias the fit.
    neighbors
        Neighbors of the vertices.
    points
        (n, 3) noisy positions of the surface.
    usable
        (n,) points that take part.

    Returns
    -------
    surface : Sheet
        Vertices moved along their normals onto the fitted quadrics, with the normals of these.
    is_fitted : (n,) array
        Whether the points surround the vertex; other vertices stay as they are.
    """
    vertices, normals = surface.vertices, surface.normals
    axes = np.stack([*frames(normals), normals], axis=1)
    position, direction = vertices.copy(), normals.copy()
    is_fitted = np.zeros(len(vertices), bool)
    for start in range(0, len(vertices), _CHUNK):
        part = slice(start, start + _CHUNK)
        index = neighbors.index[part]
        weight = neighbors.weight[part] * usable[index]
        u, v, height = _local(points[index] - vertices[part][:, None], axes[part])
        tensors = axes[part] @ surface.tensors[part] @ axes[part].transpose(0, 2, 1)
        kuu, kuv, kvv = (tensors[:, i, j, None].astype(np.float32) for i, j in ((0, 0), (0, 1), (1, 1)))
        bend = (kuu * u + 2 * kuv * v) * u / 2 + kvv * v * v / 2
        height += bend**3 / np.maximum(u * u + v * v, 1)
        scale = np.sqrt((weight > 0).sum(1), dtype=np.float32).clip(1)
        u /= scale[:, None]
        v /= scale[:, None]
        total = np.maximum(weight.sum(1), 1e-9)
        lean = np.hypot((weight * u).sum(1), (weight * v).sum(1)) * scale / total
        # The weights of a full disc add up to half of its area.
        is_full = (lean < _MOST_LEAN * neighbors.radius) & (
            total > _LEAST_SUPPORT * np.pi / 2 * neighbors.radius**2
        )
        good = is_full & ((weight > 0).sum(1) >= 10)
        answer = _least_squares([np.ones_like(u), u, v, u * u, u * v, v * v], weight, height)
        good &= np.isfinite(answer).all(1) & (np.abs(answer[:, 0]) < 0.5 * scale + 2)
        rows = np.flatnonzero(good)
        normal = normals[part][rows] - (
            axes[part][rows, 0] * (answer[rows, 1] / scale[rows])[:, None]
            + axes[part][rows, 1] * (answer[rows, 2] / scale[rows])[:, None]
        )
        direction[start + rows] = normal / np.linalg.norm(normal, axis=1)[:, None]
        position[start + rows] += normals[part][rows] * answer[rows, :1]
        is_fitted[start + rows] = True
    return Sheet(vertices=position, normals=direction, tensors=surface.tensors), is_fitted


def _local(vectors: Array, axes: Array) -> NDArray[np.float32]:
    """Return (3, n, k) components of (n, k, 3) vectors along the rows of (n, 3, 3) axes."""
    turned = axes.astype(np.float32) @ vectors.astype(np.float32).transpose(0, 2, 1)
    return np.ascontiguousarray(turned.transpose(1, 0, 2))


def smooth_values(neighbors: Neighbors, values: Array, usable: NDArray[np.bool_]) -> Array:
    """Return the (n,) weighted means of the usable values of the neighbors; NaN without any."""
    weight = neighbors.weight * usable[neighbors.index]
    total = weight.sum(1)
    some = total > 0
    result = np.full(len(total), np.nan)
    result[some] = (weight * values[neighbors.index]).sum(1)[some] / total[some]
    return result


def shape_operators(
    vertices: Array, normals: Array, neighbors: Neighbors, usable: NDArray[np.bool_]
) -> Array:
    """Return the (n, 3, 3) shape operators, from the change of the normals over neighbors.

    The tangential part of the normals is a linear function of the tangential position on spheres,
    cylinders and planes, so that wide neighborhoods do not bias their curvature. Spheres with outward
    normals have a positive mean curvature.
    """
    axes = np.stack([*frames(normals), normals], axis=1)
    result = np.full((len(vertices), 3, 3), np.nan)
    for start in range(0, len(vertices), _CHUNK):
        part = slice(start, start + _CHUNK)
        index = neighbors.index[part]
        weight = neighbors.weight[part] * usable[index]
        u, v, _ = _local(vertices[index] - vertices[part][:, None], axes[part])
        p, q, _ = _local(normals[index], axes[part])
        basis = [np.ones_like(u), u, v]
        a, b = _least_squares(basis, weight, p), _least_squares(basis, weight, q)
        cross = (a[:, 2] + b[:, 1]) / 2
        local = np.stack([np.stack([a[:, 1], cross], 1), np.stack([cross, b[:, 2]], 1)], 1)
        flat = axes[part, :2]
        tensors = flat.transpose(0, 2, 1) @ local @ flat
        tensors[((weight > 0).sum(1) < 6) | ~usable[part]] = np.nan
        result[part] = tensors
    return result


def curvatures(tensors: Array) -> tuple[Array, Array]:
    """Return the (n,) mean and Gaussian curvatures of (n, 3, 3) shape operators."""
    trace = np.trace(tensors, axis1=1, axis2=2)
    return trace / 2, (trace**2 - np.einsum("nab,nab->n", tensors, tensors)) / 2


def extrapolate(surface: Sheet, known: NDArray[np.bool_]) -> Sheet:
    """Continue a surface from its known vertices, with the curvature that it has there.

    Parameters
    ----------
    surface
        Vertices of the surface.
    known
        (n,) vertices whose values are kept. The others move to the mean paraboloid of the nearest ones.
    """
    vertices, normals, tensors = (one.copy() for one in (surface.vertices, surface.normals, surface.tensors))
    source, target = np.flatnonzero(known), np.flatnonzero(~known)
    if not len(source) or not len(target):
        return surface
    tree = KDTree(vertices[source])
    distance, near = tree.query(vertices[target], k=min(_SOURCES, len(source)))
    distance, near = distance.reshape(len(target), -1), source[near.reshape(len(target), -1)]
    weight = 1 / (distance**2 + 1)
    weight *= np.einsum("nkd,nd->nk", normals[near], normals[target]) > 0
    weight /= np.maximum(weight.sum(1), 1e-9)[:, None]
    offset = vertices[target][:, None] - vertices[near]
    height = np.einsum("nkd,nkd->nk", offset, normals[near])
    flat = offset - height[..., None] * normals[near]
    turn = np.einsum("nkab,nkb->nka", tensors[near], flat)
    gap = height + np.einsum("nka,nka->nk", turn, flat) / 2
    direction = np.einsum("nk,nka->na", weight, normals[near] + turn)
    size = np.linalg.norm(direction, axis=1)
    good = size > 0.1
    direction = direction[good] / size[good, None]
    moved = target[good]
    vertices[moved] -= (weight * gap).sum(1)[good, None] * direction
    normals[moved] = direction
    tensors[moved] = np.einsum("nk,nkab->nab", weight, tensors[near])[good]
    return Sheet(vertices=vertices, normals=normals, tensors=tensors)


def _least_squares(
    basis: Sequence[NDArray[np.float32]], weight: NDArray[np.float32], values: NDArray[np.float32]
) -> Array:
    """Return the (n, p) coefficients of p (n, k) basis functions that fit (n, k) weighted values best."""
    rows = np.stack(basis, axis=1)
    weighted = rows * weight[:, None]
    normal = (weighted @ rows.transpose(0, 2, 1)).astype(np.float64)
    right = (weighted @ values[:, :, None]).astype(np.float64)
    size = normal.shape[1]
    trace = np.trace(normal, axis1=1, axis2=2) / size
    normal += (_RIDGE * trace + 1e-12)[:, None, None] * np.eye(size)
    return np.asarray(np.linalg.solve(normal, right)[:, :, 0])
