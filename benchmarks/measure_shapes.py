"""Measure shapes with known area, thickness and curvature with `cryoseg.core.membranes`, and print a table.

python benchmarks/measure_shapes.py [--shapes sphere torus] [--thickness 4 12] [--noise white]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from cryoseg.core.membranes.objects import find_objects
from cryoseg.core.membranes.surfaces import join_surfaces, surfaces_of

Array = NDArray[np.float64]
FACE_NOISE = 0.5  # Standard deviation of the position of each face in voxels.
# Distance of the samples of a surface in voxels; open surfaces need a finer one at their edges.
CLOSED_STEP, OPEN_STEP = 0.5, 0.25


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Dense samples of a mid-surface.

    Attributes
    ----------
    points, normals
        (n, 3) positions in voxels about the center of the grid, in axis order, and unit normals.
    areas, mean, gauss
        (n,) areas of the samples in square voxels, and the two curvatures there in 1/voxel and 1/voxel^2.
    """

    points: Array
    normals: Array
    areas: Array
    mean: Array
    gauss: Array

    def take(self, chosen: NDArray[np.bool_]) -> Samples:
        """Return the chosen samples."""
        return Samples(
            points=self.points[chosen],
            normals=self.normals[chosen],
            areas=self.areas[chosen],
            mean=self.mean[chosen],
            gauss=self.gauss[chosen],
        )


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A mid-surface with its answers.

    Attributes
    ----------
    samples
        Samples of the surface.
    is_closed
        Whether it encloses a volume.
    border
        Height of the border of the volume that cuts the shape, from the center of the grid in voxels.
    """

    samples: Samples
    is_closed: bool
    border: float | None = None


def parametric(
    position: Callable[[Array, Array], Array], u: tuple[float, float], v: tuple[float, float], step: float
) -> Samples:
    """Sample `position(u, v)` -> (..., 3) over two ranges, about every `step` voxels.

    Derivatives are central differences of the function, so that every smooth surface serves.
    """
    tall = np.linspace(*u, 400), np.linspace(*v, 400)
    coarse = position(*np.meshgrid(*tall, indexing="ij"))
    n_u = int(np.linalg.norm(np.diff(coarse, axis=0), axis=2).sum(0).max() / step) + 8
    n_v = int(np.linalg.norm(np.diff(coarse, axis=1), axis=2).sum(1).max() / step) + 8
    du, dv = (u[1] - u[0]) / n_u, (v[1] - v[0]) / n_v
    a, b = np.meshgrid(u[0] + (np.arange(n_u) + 0.5) * du, v[0] + (np.arange(n_v) + 0.5) * dv, indexing="ij")
    h = 1e-3
    p = position(a, b)
    pu = (position(a + h, b) - position(a - h, b)) / (2 * h)
    pv = (position(a, b + h) - position(a, b - h)) / (2 * h)
    puu = (position(a + h, b) - 2 * p + position(a - h, b)) / h**2
    pvv = (position(a, b + h) - 2 * p + position(a, b - h)) / h**2
    puv = (
        position(a + h, b + h) - position(a + h, b - h) - position(a - h, b + h) + position(a - h, b - h)
    ) / (4 * h * h)
    normal = np.cross(pu, pv)
    size = np.linalg.norm(normal, axis=-1)
    normal /= size[..., None]
    e, f, g = (pu * pu).sum(-1), (pu * pv).sum(-1), (pv * pv).sum(-1)
    el, em, en = (puu * normal).sum(-1), (puv * normal).sum(-1), (pvv * normal).sum(-1)
    det = e * g - f * f
    # Normals point away from the center, and the curvature of a sphere is positive.
    turn = np.sign((p * normal).sum(-1).sum()) or 1.0
    normal *= turn
    return Samples(
        points=p.reshape(-1, 3),
        normals=normal.reshape(-1, 3),
        areas=(size * du * dv).ravel(),
        mean=(-turn * (e * en - 2 * f * em + g * el) / (2 * det)).ravel(),
        gauss=((el * en - em * em) / det).ravel(),
    )


def revolved(
    profile: Callable[[Array], tuple[Array, Array]], ends: tuple[float, float], step: float = CLOSED_STEP
) -> Samples:
    """Sample the surface of a profile (distance from the axis, height) that turns about the axis z."""

    def position(s: Array, angle: Array) -> Array:
        radius, height = profile(s)
        return np.stack([height, radius * np.sin(angle), radius * np.cos(angle)], axis=-1)

    return parametric(position, ends, (0.0, 2 * np.pi), step)


def ellipsoid(axes: tuple[float, float, float]) -> Samples:
    """Sample an ellipsoid with these half axes (z, y, x)."""

    def position(s: Array, angle: Array) -> Array:
        return np.stack(
            [
                axes[0] * np.cos(s),
                axes[1] * np.sin(s) * np.sin(angle),
                axes[2] * np.sin(s) * np.cos(angle),
            ],
            axis=-1,
        )

    return parametric(position, (0.0, np.pi), (0.0, 2 * np.pi), CLOSED_STEP)


def capsule(s: Array, radius: float, half: float) -> tuple[Array, Array]:
    """Profile of a capsule by arc length from its tip."""
    quarter = radius * np.pi / 2
    top = np.clip(s, 0, quarter) / radius
    bottom = np.clip(s - quarter - 2 * half, 0, quarter) / radius
    along = np.clip(s - quarter, 0, 2 * half)
    return radius * np.sin(top) * np.cos(bottom), half + radius * np.cos(top) - along - radius * np.sin(
        bottom
    )


def cup(s: Array, outer: float, inner: float, angle: float) -> tuple[Array, Array]:
    """Profile of a double membrane that is closed by a rim, as that of an autophagosome, by arc length."""
    middle, rim = (outer + inner) / 2, (outer - inner) / 2
    ends = np.cumsum([outer * angle, np.pi * rim])
    first = np.clip(s, 0, ends[0]) / outer
    turn = np.clip(s - ends[0], 0, np.pi * rim) / rim
    last = np.clip(s - ends[1], 0, None) / inner
    on_inner = s > ends[1]
    # The rim is a half circle in the frame of the radial and the tangential direction at its angle.
    radial = middle + rim * np.cos(turn)
    tangential = rim * np.sin(turn)
    where = np.where(on_inner, angle - last, first)
    radial = np.where(on_inner, inner, np.where(s > ends[0], radial, outer))
    tangential = np.where(on_inner, 0, tangential)
    return (
        radial * np.sin(where) + tangential * np.cos(where),
        radial * np.cos(where) - tangential * np.sin(where),
    )


def joined(*parts: Samples) -> Samples:
    """Join surfaces."""
    return Samples(
        **{
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("points", "normals", "areas", "mean", "gauss")
        }
    )


def moved(samples: Samples, shift: tuple[float, float, float]) -> Samples:
    """Move a surface."""
    return Samples(**{**samples.__dict__, "points": samples.points + shift})


def turned(samples: Samples, turn: Rotation) -> Samples:
    """Rotate a surface."""
    return Samples(
        **{**samples.__dict__, "points": turn.apply(samples.points), "normals": turn.apply(samples.normals)}
    )


def make_shape(name: str, radius: float, thickness: float, turn: Rotation) -> Shape:
    """Return a shape by name; `radius` is its smallest radius of curvature or nearly so."""
    sphere = ellipsoid((radius, radius, radius))
    if name == "sphere":
        return Shape(samples=sphere, is_closed=True)
    if name == "cut sphere":
        return Shape(samples=turned(sphere, turn), is_closed=False, border=-0.5 * radius)
    if name == "double membrane":
        wide = radius + thickness + 4
        return Shape(samples=joined(sphere, ellipsoid((wide, wide, wide))), is_closed=True)
    if name in ("long ellipsoid", "flat ellipsoid"):
        # The smallest radius of curvature is at the tips of the one and at the rim of the other.
        short, long = 2.2 * radius, 2.2**2 * radius
        axes = (long, short, short) if name == "long ellipsoid" else (short, long, long)
        return Shape(samples=turned(ellipsoid(axes), turn), is_closed=True)
    if name == "ellipsoid":
        return Shape(
            samples=turned(ellipsoid((2 * radius, 1.4 * radius, 1.4 * radius)), turn), is_closed=True
        )
    if name == "torus":
        ring = revolved(lambda s: (2.5 * radius + radius * np.cos(s), -radius * np.sin(s)), (0.0, 2 * np.pi))
        return Shape(samples=turned(ring, turn), is_closed=True)
    if name == "cylinder":
        return Shape(
            samples=turned(
                revolved(lambda s: (radius + 0 * s, -s), (-1.5 * radius, 1.5 * radius), OPEN_STEP), turn
            ),
            is_closed=False,
        )
    if name == "plane":
        flat = parametric(
            lambda a, b: np.stack([0 * a, a, b], -1),
            (-1.5 * radius, 1.5 * radius),
            (-2 * radius, 2 * radius),
            OPEN_STEP,
        )
        return Shape(samples=turned(flat, turn), is_closed=False)
    if name == "two spheres":
        gap = (2 * radius + thickness) / 2
        pair = joined(moved(sphere, (0, 0, gap)), moved(sphere, (0, 0, -gap)))
        return Shape(samples=turned(pair, turn), is_closed=True)
    if name in ("capsule", "cut tube"):
        length = np.pi * radius + 3 * radius
        part = revolved(lambda s: capsule(s, radius, 1.5 * radius), (0.0, length))
        if name == "capsule":
            return Shape(samples=turned(part, turn), is_closed=True)
        tilt = Rotation.from_rotvec(0.5 * turn.as_rotvec() / turn.magnitude())
        return Shape(samples=turned(part, tilt), is_closed=False, border=-0.5 * radius)
    if name == "cup":
        outer, inner, angle = 3.4 * radius, 1.4 * radius, 2.0
        length = (outer + inner) * angle + np.pi * (outer - inner) / 2
        part = revolved(lambda s: cup(s, outer, inner, angle), (0.0, length))
        return Shape(samples=turned(part, turn), is_closed=True)
    if name == "catenoid":
        waist = 1.2 * radius
        part = revolved(lambda s: (waist * np.cosh(s / waist), -s), (-waist, waist), OPEN_STEP)
        return Shape(samples=turned(part, turn), is_closed=False)
    if name == "saddle":
        half = 1.5 * radius
        flat = parametric(
            lambda a, b: np.stack([(a * a - b * b) / (2 * half), a, b], -1),
            (-half, half),
            (-half, half),
            OPEN_STEP,
        )
        return Shape(samples=turned(flat, turn), is_closed=False)
    if name == "sheet with a hole":
        ring = revolved(lambda s: (s, 0 * s), (radius, 2.5 * radius), OPEN_STEP)
        return Shape(samples=turned(ring, turn), is_closed=False)
    if name == "wavy sheet":
        wave = 10 * radius
        height = wave**2 / (4 * np.pi**2 * radius)  # The crests have this radius of curvature.
        flat = parametric(
            lambda a, b: np.stack(
                [height * np.sin(2 * np.pi * a / wave) * np.cos(2 * np.pi * b / (2 * wave)), a, b], -1
            ),
            (-0.5 * wave, 0.5 * wave),
            (-0.5 * wave, 0.5 * wave),
            OPEN_STEP,
        )
        return Shape(samples=turned(flat, turn), is_closed=False)
    if name == "dumbbell":
        # The waist of a Cassini-like profile is a neck.
        def neck(s: Array) -> tuple[Array, Array]:
            height = 3.2 * radius * np.cos(s)
            return 1.6 * radius * np.sin(s) * (0.62 + 0.9 * np.cos(s) ** 2), height

        return Shape(samples=turned(revolved(neck, (0.0, np.pi)), turn), is_closed=True)
    if name == "hemisphere":
        half = revolved(lambda s: (radius * np.sin(s), radius * np.cos(s)), (0.0, np.pi / 2), OPEN_STEP)
        return Shape(samples=turned(half, turn), is_closed=False)
    raise ValueError(name)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A mask with its answers in voxels."""

    name: str
    mask: NDArray[np.bool_]
    truth: Samples
    thickness: float
    is_closed: bool
    volume: float
    enclosed: float
    center: Array


def make_case(name: str, radius: float, thickness: float, *, noise: str, wedge: bool, seed: int) -> Case:
    """Rasterize a shape as a band with noise on both faces, and cut out the missing wedge of 60 degrees."""
    rng = np.random.default_rng(seed)
    shape = make_shape(name, radius, thickness, Rotation.random(rng=rng))
    samples = shape.samples
    shift = rng.uniform(-0.5, 0.5, 3)
    low, high = samples.points.min(0), samples.points.max(0)
    pad = thickness / 2 + 4
    center = np.ceil(-low + pad) + shift
    size = np.ceil(high + center + pad).astype(int) + 1
    if shape.border is not None:
        # The border of the volume lies half a voxel outside of voxel 0.
        center[0] = -shape.border - 0.5
        size[0] = int(np.ceil(high[0] + center[0] + pad)) + 1
        samples = samples.take(samples.points[:, 0] + center[0] > -0.5)
    full = shape.samples
    # Only voxels near the surface can be in the band.
    close = np.ones(size, bool)
    places = np.rint(full.points + center).astype(int)
    close[tuple(places[((places >= 0) & (places < size)).all(1)].T)] = False
    close = distance_transform_edt(close) < thickness / 2 + 5
    grid = np.argwhere(close) - center
    distance, nearest = KDTree(full.points).query(grid)
    offset = grid - full.points[nearest]
    field = np.where(distance < thickness / 2 + 3, (offset * full.normals[nearest]).sum(-1), np.inf)
    if not shape.is_closed and shape.border is None:
        # Beyond an edge the offset from the nearest one is not normal.
        lateral = np.sqrt(np.clip(distance**2 - np.square(np.where(np.isfinite(field), field, 0)), 0, None))
        bend = np.abs(full.mean) + np.sqrt(np.clip(full.mean**2 - full.gauss, 0, None))
        field[lateral > 0.18 * (1 + bend[nearest] * distance)] = np.inf
    faces = np.zeros((2, *size))
    if noise != "none":
        faces = rng.normal(0, 1, faces.shape)
        if noise == "smooth":
            faces = np.stack([gaussian_filter(one, 1.5) for one in faces])
        faces *= FACE_NOISE / faces.std()
    upper, lower = thickness / 2 + faces[0][close], -thickness / 2 + faces[1][close]
    marked = (field < upper) & (field > lower)
    if wedge:
        marked &= ~in_wedge(full.normals[nearest])
        samples = samples.take(~in_wedge(samples.normals))
    mask = np.zeros(size, bool)
    mask[close] = marked
    # Steiner's formula: the volume of a layer at the height h over the area A is A (1 + 2 H h + K h^2).
    heights = (np.arange(24) + 0.5) / 24 * thickness - thickness / 2
    volume = 0.0
    for height in heights:
        layer = full.areas * (1 + 2 * full.mean * height + full.gauss * height**2) * thickness / 24
        is_inside = (full.points + height * full.normals)[:, 0] + center[0] > -0.5
        volume += layer[is_inside & ~(wedge & in_wedge(full.normals))].sum()
    enclosed = float((full.points * full.normals).sum(-1) @ full.areas / 3)
    return Case(
        name=name + (", wedge" if wedge else ""),
        mask=mask,
        truth=samples,
        thickness=thickness,
        is_closed=shape.is_closed and not wedge,
        volume=float(volume),
        enclosed=abs(enclosed),
        center=center,
    )


def in_wedge(normals: Array) -> NDArray[np.bool_]:
    """Whether normals (n, 3) are in the missing wedge of tilts from -60 to 60 degrees about y."""
    return np.abs(normals[:, 0]) > np.tan(np.deg2rad(60)) * np.abs(normals[:, 2])


SHAPES = (
    "sphere",
    "ellipsoid",
    "torus",
    "cylinder",
    "plane",
    "two spheres",
    "cut sphere",
    "capsule",
    "dumbbell",
    "hemisphere",
    "wavy sheet",
    "double membrane",
    "cup",
    "cut tube",
    "long ellipsoid",
    "flat ellipsoid",
    "catenoid",
    "saddle",
    "sheet with a hole",
)


def errors(case: Case) -> dict[str, float]:
    """Return errors in percent, of thickness in voxels, of normals in degrees; NaN where the truth is 0."""
    found = list(surfaces_of(find_objects(case.mask), 1.0))
    if not found:
        return {}
    surface = join_surfaces(found)
    truth, weights = case.truth, surface.mesh.vertex_areas()
    fine = surface.smooth_mesh()
    nearest = KDTree(truth.points).query(surface.mesh.vertices - case.center)[1]
    cosine = np.abs((surface.normals * truth.normals[nearest]).sum(1)).clip(0, 1)
    true_mean = np.average(truth.mean, weights=truth.areas)
    true_gauss = np.average(truth.gauss, weights=truth.areas)
    mean = np.average(surface.mean_curvature, weights=weights)
    gauss = np.average(surface.gaussian_curvature, weights=weights)
    return {
        "area": 100 * (fine.face_areas().sum() / truth.areas.sum() - 1),
        "mean curvature": 100 * (mean / true_mean - 1) if abs(true_mean) > 1e-4 else np.nan,
        "Gaussian": 100 * (gauss / true_gauss - 1) if abs(true_gauss) > 1e-4 else np.nan,
        "thickness": np.average(surface.thickness, weights=weights) - case.thickness,
        "volume": 100 * (np.count_nonzero(case.mask) / case.volume - 1),
        "enclosed": 100 * (fine.enclosed_volume() / case.enclosed - 1) if case.is_closed else np.nan,
        "normals": float(np.average(np.degrees(np.arccos(cosine)), weights=weights)),
    }


def main() -> None:
    """Print the largest error of every shape over radii, thicknesses and seeds as a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", nargs="+", default=SHAPES, choices=SHAPES)
    parser.add_argument("--radii", nargs="+", type=float, default=[12.0, 20.0])
    parser.add_argument("--thickness", nargs="+", type=float, default=[4.0, 8.0, 12.0])
    parser.add_argument("--noise", choices=["none", "white", "smooth"], default="white")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--wedge", choices=["no", "yes", "both"], default="both")
    options = parser.parse_args()
    columns = ("area", "mean curvature", "Gaussian", "thickness", "volume", "enclosed", "normals")
    print("| shape | cases | " + " | ".join(columns) + " | seconds |\n" + "|---" * (len(columns) + 3) + "|")
    for name in options.shapes:
        for wedge in {"no": (False,), "yes": (True,), "both": (False, True)}[options.wedge]:
            found, start = [], time.perf_counter()
            for radius in options.radii:
                for thickness in options.thickness:
                    for seed in options.seeds:
                        case = make_case(name, radius, thickness, noise=options.noise, wedge=wedge, seed=seed)
                        found.append(errors(case))
            seconds = time.perf_counter() - start
            measured = [one for one in found if one]
            cells = []
            for column in columns:
                values = [one[column] for one in measured if np.isfinite(one[column])]
                cells.append(f"{max(values, key=abs):.2f}" if values else "-")
            label = f"{len(measured)} of {len(found)}"
            title = name + (", wedge" if wedge else "")
            print(f"| {title} | {label} | " + " | ".join(cells) + f" | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
