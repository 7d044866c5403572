"""The objects of a mask or label volume: their numbers, boxes, lumens and mid-lines."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes

from cryoseg.core.membranes.midsurface import Surface
from cryoseg.errors import InputError
from cryoseg.types import BoolArray, LabelArray

Box = tuple[slice, slice, slice]

# Triangles are sampled at this distance in voxels, so that the mid-line has no gaps.
_SAMPLE_STEP = 0.5


@dataclass(frozen=True, kw_only=True)
class Objects:
    """Numbered objects, the largest first.

    Attributes
    ----------
    labels
        (z, y, x) numbers from 1; 0 is background.
    voxels
        (n,) numbers of voxels.
    boxes
        Bounding box of each object.
    centroids
        (n, 3) centers of mass (z, y, x) in voxels; the center of the first voxel is 0.
    """

    labels: LabelArray
    voxels: NDArray[np.int64]
    boxes: Sequence[Box]
    centroids: NDArray[np.float64]

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.voxels)

    def masks(self) -> Iterator[tuple[int, Box, BoolArray]]:
        """Yield the number of each object, its box, and its (z, y, x) mask in the box."""
        for number, box in enumerate(self.boxes, start=1):
            yield number, box, np.asarray(self.labels[box] == number)

    def chosen(self, *, drop: Collection[int] = (), keep: Collection[int] = ()) -> Objects:
        """Return the objects that are left, with new numbers from 1.

        Parameters
        ----------
        drop, keep
            Numbers that are removed, and numbers that are kept; empty keeps all.

        Raises
        ------
        InputError
            If there is no object of a number. The caller prepends the name of the file to the message.
        """
        if missing := sorted(number for number in {*drop, *keep} if not 1 <= number <= len(self)):
            raise InputError(f"has {len(self)} components, and none with the number {missing[0]}.")
        left = [n for n in range(1, len(self) + 1) if n not in drop and (n in keep or not keep)]
        new = np.zeros(len(self) + 1, self.labels.dtype)
        new[left] = np.arange(1, len(left) + 1)
        index = np.asarray(left, int) - 1
        return Objects(
            labels=_renumbered(self.labels, new),
            voxels=self.voxels[index],
            boxes=[self.boxes[k] for k in index],
            centroids=self.centroids[index],
        )

    def touches_border(self, number: int) -> bool:
        """Whether an object has voxels in the first or last slice along an axis."""
        box, shape = self.boxes[number - 1], self.labels.shape
        return any(part.start == 0 or part.stop == size for part, size in zip(box, shape, strict=True))


def find_objects(volume: BoolArray | LabelArray, *, min_voxels: float = 0, min_slices: float = 0) -> Objects:
    """Number the 26-connected components of a mask, or the labels of a label volume, by decreasing size.

    Parameters
    ----------
    volume
        (z, y, x) mask, or labels, of which each positive value is one object.
    min_voxels, min_slices
        Objects of fewer voxels, or with a smaller extent along z in slices, are left out.
    """
    if volume.dtype.kind == "b":
        labels = cc3d.connected_components(np.ascontiguousarray(volume).view(np.uint8), connectivity=26)
    else:
        used = np.unique(volume[volume > 0])
        labels = np.zeros(volume.shape, np.min_scalar_type(len(used)))
        for z, image in enumerate(volume):
            place = np.searchsorted(used, image)
            labels[z] = np.where(image > 0, place + 1, 0)
    found = cc3d.statistics(labels, no_slice_conversion=True)
    voxels = found["voxel_counts"][1:].astype(np.int64)
    edges = found["bounding_boxes"][1:].astype(np.int64)
    slices = edges[:, 1] - edges[:, 0] + 1
    order = np.argsort(-voxels, kind="stable")
    order = order[(voxels[order] >= max(min_voxels, 1)) & (slices[order] >= min_slices)]
    new = np.zeros(len(voxels) + 1, np.min_scalar_type(len(order)))
    new[order + 1] = np.arange(1, len(order) + 1)
    return Objects(
        labels=_renumbered(labels, new),
        voxels=voxels[order],
        boxes=[_box(edge) for edge in edges[order]],
        centroids=found["centroids"][1:][order],
    )


def _renumbered(labels: LabelArray, new: NDArray[Any]) -> LabelArray:
    """Return (z, y, x) labels in which `new[k]` replaces k."""
    renumbered: LabelArray = np.empty_like(labels, dtype=new.dtype)
    for z, image in enumerate(labels):
        np.take(new, image, out=renumbered[z])
    return renumbered


def _box(edges: NDArray[np.int64]) -> Box:
    z, y, x = (slice(int(low), int(high) + 1) for low, high in edges.reshape(3, 2))
    return z, y, x


def fill_lumens(objects: Objects, closed: Sequence[int]) -> NDArray[np.int8]:
    """Return a (z, y, x) volume that is 1 on membranes and 2 in the regions that closed ones enclose.

    Parameters
    ----------
    objects
        Membranes.
    closed
        Numbers of the closed membranes.
    """
    result = np.zeros(objects.labels.shape, np.int8)
    for number, box, mask in objects.masks():
        if number in closed:
            result[box][binary_fill_holes(mask)] = 2
    result[objects.labels > 0] = 1
    return result


def mid_lines(surfaces: Sequence[Surface], shape: Sequence[int], voxel_size: float) -> BoolArray:
    """Return a (z, y, x) mask of the voxels that mid-surfaces pass.

    Parameters
    ----------
    surfaces
        Mid-surfaces.
    shape
        Shape of the mask.
    voxel_size
        Voxel size in angstrom.
    """
    result = np.zeros(tuple(shape), bool)
    for surface in surfaces:
        corners = surface.mesh.vertices[surface.mesh.faces] / voxel_size
        longest = float(np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max())
        count = int(np.ceil(longest / _SAMPLE_STEP)) + 1
        for a in range(count + 1):
            for b in range(count + 1 - a):
                share = np.array([a, b, count - a - b]) / count
                places = np.rint(np.einsum("k,nkd->nd", share, corners)).astype(int)
                places = places[((places >= 0) & (places < result.shape)).all(1)]
                result[tuple(places.T)] = True
    return result
