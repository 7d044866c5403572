"""Statistics of picks on membranes: a table of the picks, figures of every component, and Ripley's L."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoseg.core.grids.resample import rescale_points
from cryoseg.core.membranes.distance import signed_distance
from cryoseg.core.membranes.midsurface import Surface
from cryoseg.core.membranes.point_statistics import RipleyL, nearest_along, ripley
from cryoseg.core.membranes.sampling import SurfacePoints
from cryoseg.core.membranes.surfaces import join_surfaces
from cryoseg.errors import InputError
from cryoseg.io.inputs import stem
from cryoseg.io.outputs import write_rows
from cryoseg.io.picks.frame import PickFrame
from cryoseg.io.picks.names import ImageName, match_names
from cryoseg.io.picks.picks import read_picks
from cryoseg.pipelines.segment.saved import MembraneVolume, tomogram_stem
from cryoseg.types import Picks
from cryoseg.view import report as view

_CURVES = ("radii", "observed", "mean", "low", "high")
# With 99 random patterns the smallest p-value is 0.01.
_PATTERNS = 99
_SEED = 0


@dataclass(frozen=True, kw_only=True)
class PointStatistics:
    """Picks on the membranes of a tomogram; lengths in nanometers.

    Attributes
    ----------
    rows
        One row for every pick, in the order of the file.
    components
        Further columns of each component by its number.
    ripley
        Ripley's L in angstrom; None if no component has two picks.
    """

    rows: list[dict[str, Any]]
    components: dict[int, dict[str, Any]]
    ripley: RipleyL | None

    @property
    def on_membranes(self) -> int:
        """Number of picks on a membrane."""
        return sum(int(row["is_on_membrane"]) for row in self.rows)

    def added_to(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the rows of all components with the columns about picks; None for those without surface."""
        none: dict[str, Any] = dict.fromkeys(("points", "points_per_nm2", "nearest_point_nm"))
        return [{**row, **self.components.get(row["component"], none)} for row in rows]

    def summary(self) -> dict[str, Any]:
        """Return the figures of all picks together, for the record."""
        found: dict[str, Any] = {"picks": len(self.rows), "picks_on_membranes": self.on_membranes}
        if self.ripley is None:
            return found
        curves = {f"{name}_nm": (getattr(self.ripley, name) / 10).round(4).tolist() for name in _CURVES}
        return {**found, "ripley_l": {**curves, "p_value": self.ripley.p_value, "patterns": _PATTERNS}}


def picks_of(path: Path, mask: Path, volume: MembraneVolume) -> Picks:
    """Return the picks of the tomogram of a mask.

    Raises
    ------
    InputError
        If the file holds picks of other tomograms only, or they have no z.
    """
    frame = PickFrame(voxel_size=volume.voxel_size, shape=volume.source.data.shape)
    sets = read_picks(path, frame)
    names = [*sets]
    number: int | None = 0
    if len(sets) != 1 or (names[0] and len({stem(name) for name in names}) > 1):
        name = tomogram_stem(mask)
        (number,) = match_names([ImageName(name, Path(name))], [ImageName(one, Path(one)) for one in names])
    if number is None or not sets:
        known = ", ".join(names[:5])
        raise InputError(f"{path}: holds no picks of {tomogram_stem(mask)}, but of {known}. Rename them.")
    picks = sets[names[number]]
    if picks.centers.shape[1] != 3:
        raise InputError(f"{path}: the picks have no z. Give picks of the tomogram.")
    return picks


def measure_points(
    surfaces: Sequence[Surface], picks: Picks, *, voxel_size: float, within: float
) -> PointStatistics:
    """Measure how picks are distributed over the mid-surfaces of membranes.

    The voxel size of the mask is in angstrom. A pick is on a membrane if its distance from the mid-surface is
    at most `within` angstrom.
    """
    scale = picks.pixel_size / voxel_size if picks.pixel_size > 0 else 1.0
    places = rescale_points(picks.centers, scale) * voxel_size
    count = len(picks)
    number, distance = np.zeros(count, np.int64), np.full(count, np.nan)
    nearest = np.full(count, np.nan)
    is_on = np.zeros(count, bool)
    own: list[SurfacePoints] = []
    components: dict[int, dict[str, Any]] = {}
    if surfaces and count:
        found = signed_distance(join_surfaces(surfaces), places)
        number, distance = found.component, found.distance
        is_on = np.abs(distance) <= within
    for surface in surfaces:
        chosen = is_on & (number == surface.component[0])
        points = SurfacePoints(
            places=found.nearest[chosen] if count else np.empty((0, 3)),
            normals=found.normal[chosen] if count else np.empty((0, 3)),
            component=number[chosen],
        )
        own.append(points)
        if len(points) > 1:
            nearest[chosen] = nearest_along(surface, points)
        area = float(surface.smooth_mesh().face_areas().sum()) / 100
        components[int(surface.component[0])] = {
            "points": len(points),
            "points_per_nm2": len(points) / area,
            "nearest_point_nm": _mean(nearest[chosen] / 10),
        }
    rows = [
        {
            "pick": index + 1,
            "component": int(number[index]),
            "is_on_membrane": bool(is_on[index]),
            "distance_nm": float(distance[index]) / 10,
            "nearest_point_nm": float(nearest[index]) / 10,
        }
        for index in range(count)
    ]
    rng = np.random.default_rng(_SEED)
    return PointStatistics(
        rows=rows, components=components, ripley=ripley(surfaces, own, patterns=_PATTERNS, rng=rng)
    )


def write_points(path: Path, statistics: PointStatistics) -> None:
    """Write the row of every pick as CSV; undefined values are empty."""
    names = ["pick", "component", "is_on_membrane", "distance_nm", "nearest_point_nm"]
    rows: list[list[Any]] = [names]
    for row in statistics.rows:
        lengths = [row["distance_nm"], row["nearest_point_nm"]]
        rows.append(
            [
                row["pick"],
                row["component"] or "",
                "yes" if row["is_on_membrane"] else "no",
                *(f"{value:.4g}" if np.isfinite(value) else "" for value in lengths),
            ]
        )
    write_rows(path, rows, overwrite=True)


def write_ripley(path: Path, found: RipleyL | None) -> None:
    """Write Ripley's L with its envelope as CSV, in nanometers; without two picks on a membrane, no rows."""
    rows: list[list[str]] = [["radius_nm", "picks_nm", "random_mean_nm", "random_low_nm", "random_high_nm"]]
    if found is not None:
        curves = np.column_stack([getattr(found, name) for name in _CURVES]) / 10
        rows += [[f"{value:.4g}" for value in row] for row in curves]
    write_rows(path, rows, overwrite=True)


def points_blocks(statistics: PointStatistics) -> list[str]:
    """Return the part of the page about the picks."""
    blocks = [
        view.heading("Picks on the membranes"),
        view.paragraph(f"{statistics.on_membranes} of {len(statistics.rows)} picks are on a membrane."),
    ]
    found = statistics.ripley
    if found is None:
        return blocks
    largest = float(max(found.radii[-1], found.observed.max(), found.high.max()))
    series = {
        "picks": found.observed,
        "random, mean": found.mean,
        "random, 2.5 %": found.low,
        "random, 97.5 %": found.high,
    }
    lines = {name: (found.radii / found.radii[-1], values / largest) for name, values in series.items()}
    caption = (
        f"Ripley's L of the picks and of {_PATTERNS} random patterns on the same membranes. The axes end at "
        f"{found.radii[-1] / 10:.3g} and {largest / 10:.3g} nm. Above the envelope the picks are clustered, "
        f"below it they keep apart. Random picks deviate as much with a probability of {found.p_value:.2g}."
    )
    labels = {"x_label": "distance along the membrane", "y_label": "L"}
    return [*blocks, view.figure(view.curves(lines, **labels), caption)]


def _mean(values: NDArray[np.float64]) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None
