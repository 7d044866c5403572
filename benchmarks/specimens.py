"""The real micrographs with known particles that the benchmarks of pickers share.

DATA is a folder with `empiar10017`, `empiar10028` and `apoferritin`, as their authors publish images and
positions. A micrograph is for training, for validation (it chooses weights and thresholds) or for testing,
and the same in every training.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cryoseg.core.picking.micrograph_picks import mask_centers
from cryoseg.io.images.micrographs import read_micrograph

TRAIN, VALID, TEST = "train", "valid", "test"


@dataclass(frozen=True, kw_only=True)
class Specimen:
    """What the micrographs of a specimen have in common.

    `diameter_px` is that of the annotated discs, `visible_px` that of the particle in the images. Picks in
    the margin do not count, since nobody picked there; a pick within `match_px` of a truth is right.
    """

    name: str
    diameter_px: float
    visible_px: float
    margin_px: int
    match_px: float
    valid: tuple[str, ...] = ()
    test: tuple[str, ...] = ()


SPECIMENS = (
    Specimen(
        name="empiar10017",
        diameter_px=109.0,
        visible_px=109.0,
        margin_px=131,
        match_px=27.0,
        valid=("15_43_48_0", "16_51_03_0"),
        test=("14_33_35_0", "14_57_34_0"),
    ),
    Specimen(
        name="empiar10028",
        diameter_px=55.0,
        visible_px=55.0,
        margin_px=28,
        match_px=13.75,
        valid=("064_10028",),
        test=("065_10028",),
    ),
    Specimen(
        name="apoferritin",
        diameter_px=64.0,
        visible_px=70.0,
        margin_px=0,
        match_px=16.0,
        valid=("05.31.00",),
        test=("04.36.57",),
    ),
)


@dataclass(frozen=True, kw_only=True)
class Field:
    """A micrograph with its particles."""

    specimen: Specimen
    image: Path
    centers: np.ndarray
    role: str

    @property
    def name(self) -> str:
        """Name of the image."""
        return self.image.stem


def centers_in_table(path: Path) -> dict[str, np.ndarray]:
    """Centers (n, 2) y, x by the stem of the image."""
    found: dict[str, list] = {}
    with path.open() as stream:
        for row in csv.DictReader(stream):
            found.setdefault(Path(row["image"]).stem, []).append((float(row["y"]), float(row["x"])))
    return {name: np.array(rows) for name, rows in found.items()}


def fields_of(data: Path, specimen: Specimen) -> list[Field]:
    """The micrographs of a specimen."""
    folder = data / specimen.name
    table = folder / "particles.csv"
    known = centers_in_table(table) if table.exists() else {}
    fields = []
    for image in sorted(path for path in folder.rglob("images/*") if path.is_file()):
        if image.stem in known:
            centers = known[image.stem]
        else:
            mask = read_micrograph(image.parent.with_name("labels") / image.name).data > 0
            centers = mask_centers(mask, diameter_px=specimen.diameter_px)
        role = next(
            (
                kind
                for kind, endings in ((VALID, specimen.valid), (TEST, specimen.test))
                if image.stem.endswith(endings)
            ),
            TRAIN,
        )
        fields.append(Field(specimen=specimen, image=image, centers=centers, role=role))
    return fields
