"""The figures of one membrane, in nanometers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoseg.core.membranes.midsurface import Surface
from cryoseg.core.membranes.objects import Objects

Array = NDArray[np.float64]

_QUARTILES = (0.25, 0.5, 0.75)
_NAN = float("nan")


@dataclass(frozen=True, kw_only=True)
class Quartiles:
    """Mean and quartiles of a value over the area of a surface."""

    mean: float = _NAN
    q25: float = _NAN
    median: float = _NAN
    q75: float = _NAN


@dataclass(frozen=True, kw_only=True)
class Measures:
    """The figures of one component; those of a surface are NaN for a component that is no sheet.

    Attributes
    ----------
    component
        Number of the component.
    voxels, volume
        Number of voxels, and volume of the mask in nm^3.
    centroid, extent
        (z, y, x) center of mass from the center of the first voxel, and size of the bounding box in nm.
    touches_border
        Whether the border of the tomogram may cut the component.
    is_sheet
        Whether a mid-surface was found.
    area
        Area of the mid-surface in nm^2.
    thickness, thickness_sd
        Mean thickness of the mask in nm, and the standard deviation over the surface.
    mean_curvature, gaussian_curvature
        Curvatures in 1/nm and 1/nm^2.
    bending_energy
        Integral of (2 H)^2 / 2 over the area, where H is the mean curvature, in units of the bending modulus:
        8 pi for a sphere.
    is_closed
        Whether the surface encloses a volume.
    enclosed_volume, diameter, sphericity
        Volume inside of a closed mid-surface in nm^3, diameter of the sphere of this volume in nm, and the
        area of this sphere over that of the surface; NaN for open surfaces.
    curvature_diameter
        Diameter of the sphere of the same mean curvature in nm, also for parts of vesicles.
    wedge_share
        Share of the area whose normals lie in the missing wedge.
    """

    component: int
    voxels: int
    volume: float
    centroid: tuple[float, float, float]
    extent: tuple[float, float, float]
    touches_border: bool
    is_sheet: bool = False
    area: float = _NAN
    thickness: float = _NAN
    thickness_sd: float = _NAN
    mean_curvature: Quartiles = Quartiles()
    gaussian_curvature: Quartiles = Quartiles()
    bending_energy: float = _NAN
    is_closed: bool = False
    enclosed_volume: float = _NAN
    diameter: float = _NAN
    sphericity: float = _NAN
    curvature_diameter: float = _NAN
    wedge_share: float = _NAN


def measure(
    objects: Objects,
    number: int,
    surface: Surface | None,
    *,
    voxel_size: float,
    tilt_range: tuple[float, float],
) -> Measures:
    """Return the figures of one component.

    Parameters
    ----------
    objects, number
        Components, and the number of one of them.
    surface
        Mid-surface of the component; None if it is no sheet.
    voxel_size
        Voxel size in angstrom.
    tilt_range
        Smallest and largest tilt in degrees; the tilt axis is y.
    """
    nm = voxel_size / 10
    box = objects.boxes[number - 1]
    voxels = int(objects.voxels[number - 1])
    z, y, x = (float(value) * nm for value in objects.centroids[number - 1])
    depth, height, width = ((part.stop - part.start) * nm for part in box)
    plain = Measures(
        component=number,
        voxels=voxels,
        volume=voxels * nm**3,
        centroid=(z, y, x),
        extent=(depth, height, width),
        touches_border=objects.touches_border(number),
    )
    if surface is None:
        return plain
    fine = surface.smooth_mesh()
    area = float(fine.face_areas().sum()) / 100
    weights = surface.mesh.vertex_areas()
    thickness = float(np.average(surface.thickness, weights=weights)) / 10
    spread = float(np.average((surface.thickness / 10 - thickness) ** 2, weights=weights))
    mean = surface.mean_curvature * 10
    is_closed = fine.is_closed()
    volume = fine.enclosed_volume() / 1000 if is_closed else _NAN
    diameter = float(np.cbrt(6 * volume / np.pi))
    wedge = in_missing_wedge(surface.normals, tilt_range)
    return Measures(
        **{
            **plain.__dict__,
            "is_sheet": True,
            "area": area,
            "thickness": thickness,
            "thickness_sd": float(np.sqrt(spread)),
            "mean_curvature": quartiles(mean, weights),
            "gaussian_curvature": quartiles(surface.gaussian_curvature * 100, weights),
            "bending_energy": float(2 * np.average(mean**2, weights=weights) * area),
            "is_closed": is_closed,
            "enclosed_volume": volume,
            "diameter": diameter,
            "sphericity": np.pi * diameter**2 / area,
            "curvature_diameter": 2 / bend
            if (bend := abs(np.average(mean, weights=weights))) > 1e-6
            else _NAN,
            "wedge_share": float(np.average(wedge, weights=weights)),
        }
    )


def quartiles(values: Array, weights: Array) -> Quartiles:
    """Return the weighted mean and quartiles of (n,) values with (n,) weights."""
    order = np.argsort(values)
    share = np.cumsum(weights[order]) / weights.sum()
    places = np.minimum(np.searchsorted(share, _QUARTILES), len(order) - 1)
    low, middle, high = values[order][places].tolist()
    return Quartiles(mean=float(np.average(values, weights=weights)), q25=low, median=middle, q75=high)


def in_missing_wedge(normals: Array, tilt_range: tuple[float, float]) -> NDArray[np.bool_]:
    """Return the (n,) normals that the tilts do not sample; the membrane is weak there.

    Parameters
    ----------
    normals
        (n, 3) unit normals (z, y, x).
    tilt_range
        Smallest and largest tilt in degrees. The tilt axis is y, and the beam is along z at tilt 0; a
        positive tilt samples the direction from x towards z.
    """
    angle = np.degrees(np.arctan2(normals[:, 0], normals[:, 2]))
    # A normal and its opposite are the same direction.
    angle = (angle + 90) % 180 - 90
    along_axis = np.hypot(normals[:, 0], normals[:, 2]) < 1e-6
    return np.asarray(((angle < tilt_range[0]) | (angle > tilt_range[1])) & ~along_axis)
