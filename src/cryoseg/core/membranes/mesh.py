"""Triangle meshes: an implicit surface through oriented points, areas, normals, and clipping."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree
from skimage.measure import marching_cubes

Array = NDArray[np.float64]
Faces = NDArray[np.int64]

# Number of tangent planes that are averaged, and the standard deviation of their weights in voxels.
_PLANES = 8
_PLANE_SIGMA = 1.5
# Length of the mean of the normals of these planes, which is 0 where they are opposite.
_LEAST_AGREEMENT = 0.6


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """A triangle mesh.

    Attributes
    ----------
    vertices
        (n, 3) positions.
    faces
        (m, 3) indices of vertices, counter-clockwise about the normal.
    """

    vertices: Array
    faces: Faces

    def face_areas(self) -> Array:
        """Return the (m,) areas."""
        return np.asarray(np.linalg.norm(self._crosses(), axis=1) / 2)

    def vertex_areas(self) -> Array:
        """Return the (n,) thirds of the areas of the triangles at each vertex."""
        areas = np.repeat(self.face_areas() / 3, 3)
        return np.asarray(
            np.bincount(self.faces.ravel(), weights=areas, minlength=len(self.vertices)), np.float64
        )

    def vertex_normals(self) -> Array:
        """Return the (n, 3) unit normals, averaged over triangles by area."""
        crosses = np.repeat(self._crosses(), 3, axis=0)
        flat = self.faces.ravel()
        total = np.stack(
            [np.bincount(flat, weights=crosses[:, axis], minlength=len(self.vertices)) for axis in range(3)],
            1,
        )
        return np.asarray(total / np.maximum(np.linalg.norm(total, axis=1), 1e-12)[:, None])

    def enclosed_volume(self) -> float:
        """Return the enclosed volume, which is positive if the normals point outward."""
        corners = self.vertices - self.vertices.mean(0)
        a, b, c = (corners[self.faces[:, k]] for k in range(3))
        return float((np.cross(a, b) * c).sum() / 6)

    def is_closed(self) -> bool:
        """Whether every edge belongs to two triangles."""
        counts = self._edges()[1]
        return bool(len(counts)) and bool((counts == 2).all())

    def edge_vertices(self) -> NDArray[np.int64]:
        """Return the vertices on edges that belong to one triangle only."""
        edges, counts = self._edges()
        return np.unique(edges[counts == 1])

    def pieces(self) -> NDArray[np.int64]:
        """Return the (n,) number of the connected piece of each vertex."""
        first = np.concatenate([self.faces[:, 0], self.faces[:, 1]])
        second = np.concatenate([self.faces[:, 1], self.faces[:, 2]])
        size = len(self.vertices)
        graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(size, size))
        return np.asarray(connected_components(graph, directed=False)[1], np.int64)

    def kept(self, chosen: NDArray[np.bool_]) -> tuple[Mesh, NDArray[np.int64]]:
        """Keep the triangles with three chosen vertices.

        Returns
        -------
        mesh : Mesh
        index : (n',) array
            Vertices of this mesh that the new one has.
        """
        faces = self.faces[chosen[self.faces].all(1)]
        index, flat = np.unique(faces, return_inverse=True)
        return Mesh(vertices=self.vertices[index], faces=flat.reshape(-1, 3).astype(np.int64)), index

    def flipped(self, chosen: NDArray[np.bool_]) -> Mesh:
        """Turn the triangles of the chosen vertices over."""
        turned = chosen[self.faces[:, 0]]
        return Mesh(vertices=self.vertices, faces=np.where(turned[:, None], self.faces[:, ::-1], self.faces))

    def _crosses(self) -> Array:
        a, b, c = (self.vertices[self.faces[:, k]] for k in range(3))
        return np.cross(b - a, c - a)

    def _edges(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        edges = np.sort(
            np.concatenate([self.faces[:, [0, 1]], self.faces[:, [1, 2]], self.faces[:, [2, 0]]]), 1
        )
        keys = edges[:, 0] * len(self.vertices) + edges[:, 1]
        unique, counts = np.unique(keys, return_counts=True)
        return np.stack(np.divmod(unique, max(len(self.vertices), 1)), 1), counts


def surface_through(points: Array, normals: Array, *, spacing: int, reach: float) -> Mesh:
    """Return the mesh of a surface through oriented points, which continues beyond its edges.

    The surface is the zero level of the mean distance to the tangent planes of the nearest points, with
    Gaussian weights (implicit moving least squares).

    Parameters
    ----------
    points, normals
        (n, 3) positions in voxels, and unit normals.
    spacing
        Distance of the grid on which the surface is sampled in voxels.
    reach
        Largest distance from the points.

    Notes
    -----
    Source: Kolluri 2008, Provably good moving least squares, section 3.
    """
    low = np.floor(points.min(0) / spacing) * spacing - np.ceil(reach / spacing + 1) * spacing
    shape = tuple(int(n) for n in np.ceil((points.max(0) + reach - low) / spacing) + 2)
    is_near = np.ones(shape, bool)
    is_near[tuple(np.rint((points - low) / spacing).astype(int).T)] = False
    is_near = distance_transform_edt(is_near, sampling=spacing) <= reach
    nodes = np.argwhere(is_near) * spacing + low
    tree = KDTree(points)
    distance, index = tree.query(nodes, k=min(_PLANES, len(points)))
    distance, index = distance.reshape(len(nodes), -1), index.reshape(len(nodes), -1)
    weight = np.exp((distance[:, :1] ** 2 - distance**2) / (2 * _PLANE_SIGMA**2))
    offset = nodes[:, None] - points[index]
    signed = np.einsum("nkd,nkd->nk", offset, normals[index])
    values = np.full(shape, 1e3, np.float32)
    values[is_near] = (weight * signed).sum(1) / weight.sum(1)
    if values[is_near].min() >= 0 or values[is_near].max() <= 0:
        return Mesh(vertices=np.empty((0, 3)), faces=np.empty((0, 3), np.int64))
    vertices, faces, _, _ = marching_cubes(  # type: ignore[no-untyped-call]
        values, 0.0, mask=is_near, allow_degenerate=False, gradient_direction="ascent"
    )
    corner = np.floor(vertices).astype(int)
    good = np.ones(len(corner), bool)
    for step in np.ndindex(2, 2, 2):
        good &= is_near[tuple(np.minimum(corner + step, np.asarray(shape) - 1).T)]
    vertices = vertices.astype(np.float64) * spacing + low
    # Between two sheets with equal normals the distance jumps from one to the other.
    nearest = tree.query(vertices, k=min(_PLANES, len(points)))[1].reshape(len(vertices), -1)
    first = nearest[:, 0]
    good &= np.abs(((vertices - points[first]) * normals[first]).sum(1)) < 1
    # Where sheets of opposite normals meet, the surface ends, and both parts are turned later.
    good &= np.linalg.norm(normals[nearest].mean(1), axis=1) > _LEAST_AGREEMENT
    return Mesh(vertices=vertices, faces=faces.astype(np.int64)).kept(good)[0]


def subdivided(mesh: Mesh, normals: Array, fields: Array) -> tuple[Mesh, Array]:
    """Cut every triangle in four, with the new vertices on the curved surface that the normals imply.

    Parameters
    ----------
    mesh
        Mesh of n vertices.
    normals
        (n, 3) unit normals.
    fields
        (n, k) further values of the vertices, which are averaged.

    Returns
    -------
    mesh : Mesh
    fields : (n', k) array
        Values at the vertices of the new mesh.

    Notes
    -----
    Source: Vlachos et al. 2001, Curved PN triangles, section 3; a new vertex is the middle of the cubic edge.
    """
    corners = mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    edges, inverse = np.unique(np.sort(corners, axis=1), axis=0, return_inverse=True)
    a, b = edges.T
    along = mesh.vertices[b] - mesh.vertices[a]
    bulge_a = (along * normals[a]).sum(1)[:, None] * normals[a]
    bulge_b = (along * normals[b]).sum(1)[:, None] * normals[b]
    middle = (mesh.vertices[a] + mesh.vertices[b]) / 2 - (bulge_a - bulge_b) / 8
    ab, bc, ca = (inverse.reshape(-1, 3) + len(mesh.vertices)).T
    p, q, r = mesh.faces.T
    faces = np.concatenate(
        [np.stack(corner, 1) for corner in ((p, ab, ca), (ab, q, bc), (ca, bc, r), (ab, bc, ca))]
    )
    vertices = np.concatenate([mesh.vertices, middle])
    return Mesh(vertices=vertices, faces=faces), np.concatenate([fields, (fields[a] + fields[b]) / 2])


def clip(mesh: Mesh, values: Array, level: float, fields: Array) -> tuple[Mesh, Array]:
    """Cut a mesh along the line at which the values of its vertices pass a level.

    Parameters
    ----------
    mesh
        Mesh of n vertices.
    values
        (n,) values, interpolated linearly along edges; the part above the level is kept.
    level
        Level.
    fields
        (n, k) further values of the vertices.

    Returns
    -------
    mesh : Mesh
    fields : (n', k) array
        Values at the vertices of the new mesh.
    """
    above = values > level
    count = above[mesh.faces].sum(1)
    whole, crossed = mesh.faces[count == 3], mesh.faces[(count == 1) | (count == 2)]
    # The corner that stands alone comes first.
    alone = np.where(count[(count == 1) | (count == 2)] == 1, True, False)
    odd = np.argmax(above[crossed] == alone[:, None], axis=1)
    rows = np.arange(len(crossed))
    a, b, c = (crossed[rows, (odd + k) % 3] for k in range(3))
    keys = np.sort(np.concatenate([np.stack([a, b], 1), np.stack([a, c], 1)]), axis=1)
    cut, inverse = np.unique(keys, axis=0, return_inverse=True)
    share = ((level - values[cut[:, 0]]) / (values[cut[:, 1]] - values[cut[:, 0]]))[:, None]
    every = np.concatenate([mesh.vertices, fields], axis=1)
    every = np.concatenate([every, every[cut[:, 0]] * (1 - share) + every[cut[:, 1]] * share])
    ab, ac = np.split(inverse.ravel() + len(mesh.vertices), 2)
    tips = np.stack([a, ab, ac], 1)[alone]
    rest = ~alone
    quads = np.concatenate([np.stack([ab, b, c], 1)[rest], np.stack([ab, c, ac], 1)[rest]])
    faces = np.concatenate([whole, tips, quads])
    index, flat = np.unique(faces, return_inverse=True)
    every = every[index]
    return Mesh(vertices=every[:, :3], faces=flat.reshape(-1, 3).astype(np.int64)), every[:, 3:]
