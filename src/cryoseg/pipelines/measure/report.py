"""Write the measures of an input as a table and as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoseg.core.membranes.density import DensityThickness
from cryoseg.core.membranes.midsurface import Surface
from cryoseg.core.membranes.objects import Objects
from cryoseg.core.membranes.summary import Measures
from cryoseg.io.outputs import atomic_text, write_rows
from cryoseg.pipelines.measure.points import PointStatistics, points_blocks
from cryoseg.types import Tomogram
from cryoseg.view import report as view
from cryoseg.view.sections import Section, central_sections, grey_range, histogram, to_grey

# Units of the columns whose name in `Measures` does not contain it.
_UNITS = {
    "volume": "nm3",
    "area": "nm2",
    "thickness": "nm",
    "thickness_sd": "nm",
    "mean_curvature": "per_nm",
    "gaussian_curvature": "per_nm2",
    "enclosed_volume": "nm3",
    "diameter": "nm",
    "curvature_diameter": "nm",
    "centroid": "nm",
    "extent": "nm",
}
_SHOWN = (
    "component",
    "area_nm2",
    "thickness_nm",
    "density_thickness_nm",
    "mean_curvature_per_nm",
    "is_closed",
    "diameter_nm",
    "sphericity",
    "curvature_diameter_nm",
    "touches_border",
    "wedge_share",
    "points",
    "points_per_nm2",
    "nearest_point_nm",
)
# The histograms of these columns count components; those of thickness and curvature count vertices.
_HISTOGRAMS = ("area_nm2", "diameter_nm", "sphericity", "density_thickness_nm")
_BAR_RGB = (0, 114, 178)
_MOST_ROWS = 500

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The result for one input.

    Attributes
    ----------
    objects
        Components of the mask.
    surfaces
        Mid-surface of each component; None for one that is no sheet.
    densities
        Leaflet distances of each component; None without a tomogram or surface.
    measures
        Figures of each component.
    """

    objects: Objects
    surfaces: list[Surface | None]
    densities: list[DensityThickness | None]
    measures: list[Measures]


def record_rows(measures: Sequence[Measures], densities: Sequence[DensityThickness | None]) -> list[Row]:
    """Return one flat row per component, whose keys end in their units; undefined values are None."""
    rows = []
    for one, leaflets in zip(measures, densities, strict=True):
        row: Row = {}
        for name, value in asdict(one).items():
            unit = f"_{_UNITS[name]}" if name in _UNITS else ""
            if isinstance(value, dict):
                row |= {f"{name}{'' if key == 'mean' else '_' + key}{unit}": v for key, v in value.items()}
            elif isinstance(value, tuple):
                row |= {f"{name}_{axis}{unit}": v for axis, v in zip("zyx", value, strict=True)}
            else:
                row[f"{name}{unit}"] = value
        if leaflets is not None:
            good = leaflets.distances[np.isfinite(leaflets.distances)] / 10
            row |= {
                "density_thickness_nm": float(good.mean()) if len(good) else None,
                "density_thickness_sd_nm": float(good.std()) if len(good) else None,
                "density_patches": len(leaflets.distances),
                "density_patches_measured": leaflets.measured,
            }
        rows.append({key: _plain(value) for key, value in row.items()})
    names = list(dict.fromkeys(key for row in rows for key in row))
    return [{name: row.get(name) for name in names} for row in rows]


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows as CSV; undefined values are empty."""
    header = rows[0] if rows else record_rows([_EMPTY], [None])[0]
    cells = ([_cell(value) for value in row.values()] for row in rows)
    write_rows(path, [header, *cells], overwrite=True)


_EMPTY = Measures(
    component=0,
    voxels=0,
    volume=0.0,
    centroid=(0.0, 0.0, 0.0),
    extent=(0.0, 0.0, 0.0),
    touches_border=False,
)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def write_page(
    path: Path,
    name: str,
    rows: Sequence[Row],
    measured: Measured,
    density: Tomogram | None,
    points: PointStatistics | None,
) -> None:
    """Write a page with sections in the colors of the components, histograms, and the table.

    `rows` are those of `record_rows`. The components are drawn on the tomogram `density`, or on white without
    it, and `points` adds the statistics of picks.
    """
    blocks = [
        view.paragraph(
            f"{len(rows)} components; {sum(bool(row['is_closed']) for row in rows)} are closed. Lengths are "
            "in nanometers. Colors tell components apart; the sections pass the center of the largest one."
        )
    ]
    labels = measured.objects.labels
    blocks += [
        view.figure(view.image(_colored(section.of(labels), back)), section.label)
        for section in _sections(measured)
        for back in [None if density is None else section.of(density.data)]
    ]
    blocks.append(view.heading("Distributions"))
    surfaces = [one for one in measured.surfaces if one is not None]
    if surfaces:
        thickness = np.concatenate([one.thickness for one in surfaces]) / 10
        bend = np.concatenate([one.mean_curvature for one in surfaces]) * 10
        blocks.append(_histogram("thickness in nm", thickness, "over the surfaces"))
        blocks.append(_histogram("mean curvature in 1/nm", bend, "over the surfaces"))
    for column in _HISTOGRAMS:
        values = np.array([row[column] for row in rows if row.get(column) is not None], np.float64)
        if len(values) > 1:
            blocks.append(_histogram(column, values, f"of {len(values)} components"))
    profiles = [one for one in measured.densities if one is not None]
    if profiles:
        blocks.append(view.heading("Density across the membrane"))
        patches = sum(len(one.distances) for one in profiles)
        found = sum(one.measured for one in profiles)
        blocks.append(
            view.paragraph(f"Two leaflets are resolved in {found} of {patches} patches of the mid-surfaces.")
        )
        blocks.append(view.figure(_profile(profiles), "Mean density along the normal, from -8 to 8 nm."))
    if points is not None:
        blocks += points_blocks(points)
    blocks.append(view.heading("Components"))
    columns = [column for column in _SHOWN if rows and column in rows[0]]
    cells = [[_short(row[column]) for column in columns] for row in rows[:_MOST_ROWS]]
    blocks.append(view.table(columns, cells))
    if len(rows) > _MOST_ROWS:
        blocks.append(view.paragraph(f"The table of all {len(rows)} components is in the CSV file."))
    with atomic_text(path, overwrite=True) as stream:
        stream.write(view.page(f"Membranes of {name}", blocks))


def _histogram(title: str, values: NDArray[np.float64], over: str) -> str:
    panel = histogram(values, title=title, threshold=None, above_rgb=_BAR_RGB)
    return view.figure(view.image(np.asarray(panel)), f"{title}, {over}; the counts are logarithmic")


def _sections(measured: Measured) -> list[Section]:
    """Return the sections through the center of the largest component."""
    objects = measured.objects
    sections = central_sections(objects.labels.shape)
    if not len(objects):
        return sections
    center = np.rint(objects.centroids[0]).astype(int)
    return [Section(axis=one.axis, index=int(center[one.axis])) for one in sections]


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else _cell(value) or "-"


def _profile(profiles: Sequence[DensityThickness]) -> str:
    weights = [len(one.distances) for one in profiles]
    mean = np.average([one.profile for one in profiles], axis=0, weights=weights)
    low, high = float(mean.min()), float(mean.max())
    offsets = profiles[0].offsets
    lines: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {
        "mean": ((offsets - offsets[0]) / np.ptp(offsets), (mean - low) / max(high - low, 1e-9))
    }
    return view.curves(lines, x_label="distance from the mid-surface", y_label="density, scaled")


def _colored(labels: NDArray[Any], back: NDArray[Any] | None) -> NDArray[np.uint8]:
    """Return a (y, x, 3) picture of (y, x) labels in colors, on a (y, x) image or on white."""
    if back is None:
        picture = np.full((*labels.shape, 3), 255, np.float64)
        share = 1.0
    else:
        values = np.asarray(back, np.float32)
        picture = np.repeat(to_grey(values, grey_range([values]))[..., None], 3, axis=2).astype(np.float64)
        share = 0.5
    palette = np.array([[int(color[k : k + 2], 16) for k in (1, 3, 5)] for color in view.COLORS])
    marked = labels > 0
    colors = palette[(labels[marked].astype(np.int64) - 1) % len(palette)]
    picture[marked] = (1 - share) * picture[marked] + share * colors
    return picture.astype(np.uint8)
