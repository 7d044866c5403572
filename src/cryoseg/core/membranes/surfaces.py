"""The mid-surfaces of all membranes of a mask as one surface."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from cryoseg.core.membranes.mesh import Mesh
from cryoseg.core.membranes.midsurface import Surface, mid_surface
from cryoseg.core.membranes.objects import Objects

# Column of coordinate files with the number of the membrane of each pick.
COMPONENT_COLUMN = "membrane_component"


def surfaces_of(objects: Objects, voxel_size: float) -> Iterator[Surface]:
    """Yield the mid-surface of every object that is a sheet.

    Parameters
    ----------
    objects
        Membranes of a tomogram.
    voxel_size
        Voxel size in angstrom.
    """
    for number, box, mask in objects.masks():
        corner = [part.start for part in box]
        surface = mid_surface(mask, voxel_size, corner=corner, shape=objects.labels.shape, component=number)
        if surface is not None:
            yield surface


def join_surfaces(surfaces: Sequence[Surface]) -> Surface:
    """Join one or more surfaces in one."""
    counts = [len(one.mesh.vertices) for one in surfaces]
    starts = np.cumsum([0, *counts[:-1]])
    faces = [one.mesh.faces + start for one, start in zip(surfaces, starts, strict=True)]
    return Surface(
        mesh=Mesh(
            vertices=np.concatenate([one.mesh.vertices for one in surfaces]), faces=np.concatenate(faces)
        ),
        normals=np.concatenate([one.normals for one in surfaces]),
        thickness=np.concatenate([one.thickness for one in surfaces]),
        mean_curvature=np.concatenate([one.mean_curvature for one in surfaces]),
        gaussian_curvature=np.concatenate([one.gaussian_curvature for one in surfaces]),
        component=np.concatenate([one.component for one in surfaces]),
    )
