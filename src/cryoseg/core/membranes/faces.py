"""Oriented points half way between the two faces of a membrane, from which its mid-surface is built.

A membrane in a mask is a band with two faces. Its mid-surface has the same distance to both. The boundary of
the band is one mesh for each region of background that it touches: two for a vesicle, and one for an open
sheet, whose faces are joined by the rim. A ray from each vertex through the band finds the opposite face.
At the rim the ray runs along the sheet and is too long, which separates the two faces of a sheet. One face
of each pair is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree
from skimage.measure import marching_cubes, mesh_surface_area

from cryoseg.types import BoolArray

Array = NDArray[np.float64]

# Chords of opposite faces, in units of their median. Membranes that touch give twice the median.
SHORTEST_CHORD, LONGEST_CHORD = 0.5, 1.5
# Cosine of the angle between the normals of opposite faces.
OPPOSITE = -0.8
_LEVEL = 0.5
_SLOPE_STEP = 1.25  # voxels
# Twice the volume over the area is the thickness of a sheet, half of that of a rod, and a third of a ball's.
_THICKEST = 1.9
# Share of the vertices below which a patch of a face does not count.
_SMALL_PATCH = 0.002
_LEAST_POINTS = 8
_CHORD_STEP = 0.75  # voxels


@dataclass(frozen=True, kw_only=True)
class MidPoints:
    """Points on a mid-surface.

    Attributes
    ----------
    points
        (n, 3) positions in voxels.
    normals
        (n, 3) unit normals, which agree within each surface.
    thickness
        Typical thickness of the band in voxels.
    """

    points: Array
    normals: Array
    thickness: float


def mid_points(mask: BoolArray) -> MidPoints | None:
    """Find points on the mid-surface of a band.

    Parameters
    ----------
    mask
        (z, y, x) mask of one component, with a margin of at least 4 empty voxels.

    Returns
    -------
    MidPoints or None
        None if the component is no band, such as a ball or a few voxels.
    """
    rough = _rough_thickness(mask)
    # Thin bands vanish if they are smoothed as much as thick ones.
    sigma = float(np.clip(rough / 4, 0.5, 1.0))
    smooth = gaussian_filter(mask.astype(np.float32), sigma)
    if smooth.max() <= _LEVEL:
        return None
    step = 2 if rough >= 4 else 1
    vertices, faces, _, _ = marching_cubes(  # type: ignore[no-untyped-call]
        smooth, _LEVEL, step_size=step, allow_degenerate=False
    )
    vertices = vertices.astype(np.float64)
    normals = _outward(smooth, vertices, faces)
    chords = _chords(smooth, vertices, normals, longest=2.5 * rough + 3)
    finite = np.isfinite(chords)
    if not finite.any():
        return None
    exits = vertices - np.where(finite, chords, 0.0)[:, None] * normals
    distance, opposite = KDTree(vertices).query(exits)
    is_pair = finite & (distance < 2 * step) & ((normals * normals[opposite]).sum(1) < OPPOSITE)
    if not is_pair.any():
        return None
    typical = float(np.median(chords[is_pair]))
    area = float(mesh_surface_area(vertices, faces))  # type: ignore[no-untyped-call]
    if typical > _THICKEST * 2 * np.count_nonzero(mask) / area:
        return None
    is_pair &= (chords > SHORTEST_CHORD * typical) & (chords < LONGEST_CHORD * typical)
    patches = _patches(len(vertices), faces, is_pair)
    kept = _one_of_each_pair(patches, opposite, is_pair, normals)
    # Where membranes touch, the opposite face is missing and half the typical thickness is assumed.
    half = np.where(is_pair, chords, typical) / 2
    if np.count_nonzero(kept) < _LEAST_POINTS:
        return None
    return MidPoints(
        points=(vertices - half[:, None] * normals)[kept], normals=normals[kept], thickness=typical
    )


def _rough_thickness(mask: BoolArray) -> float:
    exposed = sum(int(np.count_nonzero(np.diff(mask, axis=axis))) for axis in range(3))
    # The exposed faces of voxels have on average 3/2 of the area of the smooth face.
    return 3 * float(np.count_nonzero(mask)) / max(exposed, 1)


def _outward(smooth: NDArray[np.float32], vertices: Array, faces: NDArray[Any]) -> Array:
    """Return the (n, 3) unit normals out of the band, averaged over adjacent vertices."""
    gradient = np.empty_like(vertices)
    for axis, step in enumerate(np.eye(3) * _SLOPE_STEP):
        ahead, behind = (map_coordinates(smooth, (vertices + s).T, order=1) for s in (step, -step))
        gradient[:, axis] = behind - ahead
    normals = _unit(gradient)
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    size = len(vertices)
    links = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(size, size)).tocsr()
    return _unit(normals + links @ normals + links.T @ normals)


def _unit(vectors: Array) -> Array:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1), 1e-9)[:, None])


def _chords(smooth: NDArray[Any], vertices: Array, normals: Array, *, longest: float) -> Array:
    """Return the (n,) lengths of the rays from a face through the band; infinite beyond `longest`."""
    lengths = np.arange(0.5, longest + 1, _CHORD_STEP)
    chords = np.full(len(vertices), np.inf)
    before = np.full(len(vertices), 1.0)
    running = np.ones(len(vertices), bool)
    for number, length in enumerate(lengths):
        index = np.flatnonzero(running)
        value = map_coordinates(smooth, (vertices[index] - length * normals[index]).T, order=1)
        below = value < _LEVEL
        if number:
            out = index[below]
            share = (before[out] - _LEVEL) / np.maximum(before[out] - value[below], 1e-6)
            chords[out] = lengths[number - 1] + _CHORD_STEP * share
        else:
            # The ray begins on a thin spur.
            chords[index[below]] = np.nan
        before[index] = value
        running[index[below]] = False
    return chords


def _patches(count: int, faces: NDArray[Any], is_pair: BoolArray) -> NDArray[np.int64]:
    """Return the (n,) number of the patch of each vertex; -1 on rims.

    Patches are connected sets of vertices that have an opposite face. They are thinned by one ring, since
    noise may join two faces across a rim. Gaps that border on one patch only belong to it.
    """
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    both = np.concatenate([edges, edges[:, ::-1]])
    outside = np.bincount(both[:, 0], weights=~is_pair[both[:, 1]], minlength=count)
    degree = np.maximum(np.bincount(both[:, 0], minlength=count), 1)
    core = is_pair & (outside / degree < 0.34)

    def components(chosen: BoolArray) -> NDArray[np.int64]:
        links = edges[chosen[edges[:, 0]] & chosen[edges[:, 1]]]
        graph = coo_array((np.ones(len(links), bool), (links[:, 0], links[:, 1])), shape=(count, count))
        _, numbers = connected_components(graph, directed=False)
        return np.where(chosen, numbers, -1).astype(np.int64)

    patches = components(core)
    sizes = np.bincount(patches[core], minlength=count)
    patches[core & (sizes[patches] < max(_SMALL_PATCH * core.sum(), 4))] = -1
    gaps = components(patches < 0)
    across = both[(gaps[both[:, 0]] >= 0) & (patches[both[:, 1]] >= 0)]
    neighbors = patches[across[:, 1]]
    gap = gaps[across[:, 0]]
    first, last = np.full(count, count), np.full(count, -1)
    np.minimum.at(first, gap, neighbors)
    np.maximum.at(last, gap, neighbors)
    is_inner = (gaps >= 0) & (first[gaps] == last[gaps])
    patches[is_inner] = first[gaps][is_inner]
    # Vertices with an opposite face at the border of a single patch join it.
    for _ in range(2):
        loose = both[(patches[both[:, 0]] < 0) & is_pair[both[:, 0]] & (patches[both[:, 1]] >= 0)]
        patches[loose[:, 0]] = patches[loose[:, 1]]
    return patches


def _one_of_each_pair(
    patches: NDArray[np.int64], opposite: NDArray[np.int64], is_pair: BoolArray, normals: Array
) -> BoolArray:
    """Choose one of each pair of opposite faces."""
    own, other = patches, np.where(is_pair, patches[opposite], -1)
    names = np.unique(patches[patches >= 0])
    if not len(names):
        return np.zeros(len(patches), bool)
    place = np.full(int(patches.max()) + 2, -1)
    place[names] = np.arange(len(names))
    sizes = np.bincount(place[own[own >= 0]], minlength=len(names))
    linked = (own >= 0) & (other >= 0)
    counts = np.zeros((len(names), len(names)))
    np.add.at(counts, (place[own[linked]], place[other[linked]]), 1)
    counts += counts.T
    color = _two_colors(counts, sizes)
    # A surface is kept once: the faces of color 0, and where a junction joins three faces, the larger one.
    rank = np.lexsort((-sizes, color)).argsort()
    kept = own >= 0
    mine, theirs = rank[place[own]], rank[place[np.maximum(other, 0)]]
    is_second = (other >= 0) & (theirs < mine)
    kept &= ~is_second
    single = (own >= 0) & (other < 0)
    kept[single] = color[place[own[single]]] == 0
    # If noise joins both faces of a sheet, the direction of their normals separates them.
    same = (own >= 0) & (own == other)
    if same.any():
        axis = np.linalg.eigh(normals[same].T @ normals[same])[1][:, -1]
        kept &= ~(same & (normals @ axis < 0))
    return np.asarray(kept)


def _two_colors(counts: NDArray[Any], sizes: NDArray[Any]) -> NDArray[np.int64]:
    """Give opposite patches different colors; color 0 has more patches of a group, or the larger ones."""
    color = np.full(len(sizes), -1)
    for start in np.argsort(-sizes):
        if color[start] >= 0:
            continue
        group = [start]
        color[start] = 0
        for patch in group:
            strong = np.flatnonzero((counts[patch] > 0.02 * sizes[patch]) & (color < 0))
            color[strong] = 1 - color[patch]
            group.extend(strong.tolist())
        members = np.asarray(group)
        tallies = [
            (np.count_nonzero(color[members] == c), sizes[members[color[members] == c]].sum()) for c in (0, 1)
        ]
        if tallies[1] > tallies[0]:
            color[members] = 1 - color[members]
    return color
