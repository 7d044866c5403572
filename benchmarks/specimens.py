"""The real micrographs with known particles that the benchmarks of pickers share.

DATA is a folder with `empiar10017`, `empiar10028` and `apoferritin`, as their authors publish images and
positions. A micrograph is for training, for validation (it chooses weights and thresholds) or for testing,
and the same in every training.

    python benchmarks/specimens.py DATA PACKED

writes the micrographs for training and validation, shrunk to the scale of the network, as a folder of 3 MB
with the same layout, on which trainings elsewhere can run.
"""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from cryoseg.core.grids.resample import rescale_points
from cryoseg.core.grids.robust import CLIP, particle_view
from cryoseg.core.picking.micrograph_picks import mask_centers
from cryoseg.io.images.micrographs import read_micrograph

TRAIN, VALID, TEST = "train", "valid", "test"
PACKED_PX = 24.0  # diameter of a particle in packed images, which is that of particle-tiny
SCALE = "scale.txt"  # file with the factor by which the images of a packed specimen are smaller
GREY = 127 / CLIP  # grey values per standard deviation in packed images
# One step for all frequencies: white noise of 0.05 standard deviations is added to a packed image.
STEP = 6


@dataclass(frozen=True, kw_only=True)
class Specimen:
    """What the micrographs of a specimen have in common.

    `diameter_px` is that of the annotated discs, `visible_px` that of the particle in the images. Picks in
    the margin do not count, since nobody picked there; a pick within `match_px` of a truth is right. The
    `pixel_size` in angstrom is approximate.
    """

    name: str
    diameter_px: float
    visible_px: float
    margin_px: int
    match_px: float
    valid: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    pixel_size: float = 1.0

    def scaled(self, factor: float) -> Specimen:
        """Return the specimen in images that are resized by a factor."""
        return replace(
            self,
            diameter_px=self.diameter_px * factor,
            visible_px=self.visible_px * factor,
            margin_px=round(self.margin_px * factor),
            match_px=self.match_px * factor,
            pixel_size=self.pixel_size / factor,
        )


SPECIMENS = (
    Specimen(
        name="empiar10017",
        diameter_px=109.0,
        visible_px=109.0,
        margin_px=131,
        match_px=27.0,
        valid=("15_43_48_0", "16_51_03_0"),
        test=("14_33_35_0", "14_57_34_0"),
        pixel_size=1.77,
    ),
    Specimen(
        name="empiar10028",
        diameter_px=55.0,
        visible_px=55.0,
        margin_px=28,
        match_px=13.75,
        valid=("064_10028",),
        test=("065_10028",),
        pixel_size=5.36,
    ),
    Specimen(
        name="apoferritin",
        diameter_px=64.0,
        visible_px=70.0,
        margin_px=0,
        match_px=16.0,
        valid=("05.31.00",),
        test=("04.36.57",),
        pixel_size=1.86,
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
    if (folder / SCALE).exists():
        specimen = specimen.scaled(float((folder / SCALE).read_text()))
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


def pack(data: Path, output: Path) -> None:
    """Write the micrographs that are not for testing, shrunk and compressed."""
    for one in SPECIMENS:
        images = output / one.name / "images"
        images.mkdir(parents=True, exist_ok=True)
        rows = ["image,y,x"]
        for field in fields_of(data, one):
            if field.role == TEST:
                continue
            full = read_micrograph(field.image).data
            view = particle_view(full, diameter_px=one.visible_px, particle_pixels=PACKED_PX)
            grey = Image.fromarray(np.rint(np.clip(view * GREY + 128, 0, 255)).astype(np.uint8))
            grey.save(images / f"{field.name}.jpg", qtables=[[STEP] * 64], optimize=True)
            centers = rescale_points(field.centers, np.array(view.shape) / full.shape)
            rows += [f"{field.name}.jpg,{y:.2f},{x:.2f}" for y, x in centers]
        (images.parent / "particles.csv").write_text("\n".join(rows) + "\n")
        (images.parent / SCALE).write_text(f"{PACKED_PX / one.visible_px}\n")


if __name__ == "__main__":
    pack(Path(sys.argv[1]), Path(sys.argv[2]))
