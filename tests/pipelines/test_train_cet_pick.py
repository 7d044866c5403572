"""What few-shot training makes of the files that it is given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cryoseg.errors import InputError
from cryoseg.io.images.volumes import write_logits, write_mask
from cryoseg.pipelines.train_cet_pick import TrainingFiles, load_items
from cryoseg.types import Geometry

GEOMETRY = Geometry(voxel_size=(10.0, 10.0, 10.0))
SHAPE = (8, 24, 32)


def tomogram(path: Path) -> Path:
    values = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_logits(path, values, GEOMETRY, label="test")
    return path


def labels(path: Path, x: float, y: float, z: float) -> Path:
    path.write_text(f"x,y,z\n{x},{y},{z}\n")
    return path


def test_labels_of_another_binning_keep_their_place(tmp_path: Path) -> None:
    """The middle of a volume of 4 x 12 x 16 is the middle of one of 8 x 24 x 32: 7.5, 5.5, 1.5."""
    given = TrainingFiles(
        tomograms=[tomogram(tmp_path / "ts.mrc")],
        picks=[labels(tmp_path / "ts.csv", 7.5, 5.5, 1.5)],
        picks_pixel_size=20.0,
    )
    (item,) = load_items(given)
    np.testing.assert_allclose(item.labels, [[3.5, 11.5, 15.5]])


def test_two_tomograms_of_one_name_are_refused(tmp_path: Path) -> None:
    given = TrainingFiles(
        tomograms=[tomogram(tmp_path / "a" / "ts.mrc"), tomogram(tmp_path / "b" / "ts.mrc")],
        picks=[labels(tmp_path / "ts.csv", 7, 5, 1)],
    )
    with pytest.raises(InputError, match="could not be told apart"):
        load_items(given)


def test_a_folder_of_masks_is_searched_as_segment_names_them(tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    inside = np.zeros(SHAPE, bool)
    inside[2:5] = True
    write_mask(masks / "ts_membrane_mask.mrc", inside, GEOMETRY, label="test")
    given = TrainingFiles(
        tomograms=[tomogram(tmp_path / "ts.mrc")],
        picks=[labels(tmp_path / "ts.csv", 7, 5, 3)],
        mask=masks,
    )
    (item,) = load_items(given)
    np.testing.assert_array_equal(item.look, inside)
