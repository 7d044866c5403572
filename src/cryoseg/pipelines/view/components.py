"""The components of a mask with their measures, for the page of `cryoseg view`."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoseg.core.grids.binning import Factors, bin_mask, binned_shape
from cryoseg.core.membranes.objects import Objects, find_objects
from cryoseg.errors import InputError
from cryoseg.pipelines.segment.saved import marked_of
from cryoseg.types import LabelArray, Tomogram
from cryoseg.view.report import COLORS

# Fraction of a block that is marked; membranes are thinner than half a block.
MARKED_SHARE = 0.25
# The list holds the largest components only.
_MOST_ROWS = 1000
# Columns of the list; all columns are shown for the chosen component.
_LISTED = ("area_nm2", "thickness_nm", "diameter_nm")


@dataclass(frozen=True, kw_only=True)
class Components:
    """Components of a mask.

    Attributes
    ----------
    objects
        Components, with the numbers that `cryoseg measure` gives them.
    is_mask
        Whether the file holds a mask, and not labels.
    columns, rows
        Names, and values as texts, of the table of `cryoseg measure`, for the first components.
    """

    objects: Objects
    is_mask: bool
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def entry(self) -> dict[str, Any]:
        """Return what the script of the page needs."""
        places = [_place(self.objects, number) for number in range(1, len(self.rows) + 1)]
        listed = [column for column in _LISTED if column in self.columns] or ["voxels"]
        return {
            "count": len(self.objects),
            "colors": COLORS,
            "columns": self.columns,
            "listed": [self.columns.index(column) for column in listed],
            "rows": self.rows,
            "places": places,
        }


def find_components(mask: Tomogram, measures: Path | None) -> Components:
    """Find the components of a mask or of labels, and read their measures.

    `measures` is the table that `cryoseg measure` wrote for the mask; without it, the rows hold numbers of
    voxels only.

    Raises
    ------
    InputError
        If the table is not one of this mask.
    """
    marked = marked_of(mask.data)
    objects = find_objects(marked)
    voxels = [str(count) for count in objects.voxels[:_MOST_ROWS]]
    columns, rows = ["voxels"], [[count] for count in voxels]
    if measures is not None:
        table = _read_table(measures)
        if [row["voxels"] for row in table[:_MOST_ROWS]] != voxels[: len(table)]:
            raise InputError(
                f"{measures}: is not the table of {mask.source.name}, since components have other numbers of "
                "voxels. Give the CSV file of `cryoseg measure` for this file, or its --labels as --mask."
            )
        # Smaller components, which --min-volume left out, have no row.
        columns = [name for name in table[0] if name != "component"] if table else columns
        rows = [
            [table[k][name] for name in columns]
            if k < len(table)
            else [count if name == "voxels" else "" for name in columns]
            for k, count in enumerate(voxels)
        ]
    return Components(objects=objects, is_mask=marked.dtype.kind == "b", columns=columns, rows=rows)


def _read_table(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            table = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}). Give the CSV file of `cryoseg measure`."
        ) from error
    if any("voxels" not in row for row in table):
        raise InputError(f"{path}: has no column voxels. Give the CSV file that `cryoseg measure` wrote.")
    return table


def _place(objects: Objects, number: int) -> list[int]:
    """Return a voxel (z, y, x) of a component in its middle slice."""
    box = objects.boxes[number - 1]
    middle = (box[0].stop - box[0].start) // 2
    inside = objects.labels[box] == number
    slices = np.flatnonzero(inside.any((1, 2)))
    z = int(slices[np.abs(slices - middle).argmin()])
    y, x = np.argwhere(inside[z])[0]
    return [z + box[0].start, int(y) + box[1].start, int(x) + box[2].start]


def bin_labels(labels: LabelArray, factors: Factors) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return the (z, y, x) numbers of the components on the grid of the page.

    A block is marked if a quarter of its voxels is, and has the largest number of its voxels. Numbers above
    65535 become 65535.
    """
    kind = np.uint8 if labels.max(initial=0) < 256 else np.uint16
    result = np.zeros(binned_shape(labels.shape, factors), kind)
    firsts = [np.arange(0, n, factor) for n, factor in zip(labels.shape, factors, strict=True)]
    for k, z in enumerate(firsts[0].tolist()):
        image = labels[z : z + factors[0]].max(0)
        image = np.maximum.reduceat(np.maximum.reduceat(image, firsts[1], axis=0), firsts[2], axis=1)
        result[k] = np.minimum(image, np.iinfo(kind).max)
    result[~bin_mask(Marked(labels), factors, share=MARKED_SHARE)] = 0
    return result


class Marked:
    """A label volume whose slices are read as 0 and 1."""

    def __init__(self, labels: NDArray[Any]) -> None:
        self._labels = labels
        self.shape = labels.shape

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, z: int) -> Any:
        return self._labels[z] > 0
