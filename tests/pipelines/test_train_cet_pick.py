"""What few-shot training makes of the files that it is given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cryoseg.errors import InputError
from cryoseg.events import Warn
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


def test_labels_that_may_be_of_two_tomograms_are_refused(tmp_path: Path) -> None:
    given = TrainingFiles(
        tomograms=[tomogram(tmp_path / "a" / "ts.mrc"), tomogram(tmp_path / "b" / "ts.mrc")],
        picks=[labels(tmp_path / "ts.csv", 7, 5, 1)],
    )
    with pytest.raises(InputError, match=r"ts may mean .*a/ts\.mrc or .*b/ts\.mrc"):
        load_items(given)


def test_tomograms_of_one_name_have_the_labels_and_masks_of_their_folders(tmp_path: Path) -> None:
    tomograms = [tomogram(tmp_path / folder / "001.mrc") for folder in ("a", "b")]
    text = "tomogram,x,y,z\na/001.mrc,7,5,1\nb/001.mrc,8,6,2\n"
    (tmp_path / "all.csv").write_text(text)
    masks = tmp_path / "masks"
    masks.mkdir()
    for index, name in enumerate(("a_001", "b_001")):
        inside = np.zeros(SHAPE, bool)
        inside[index] = True
        write_mask(masks / f"{name}_membrane_mask.mrc", inside, GEOMETRY, label="test")
    own = [labels(tmp_path / "a" / "001.csv", 9, 7, 3), labels(tmp_path / "b" / "001.csv", 10, 8, 4)]
    given = TrainingFiles(tomograms=tomograms, picks=[tmp_path / "all.csv", *own], mask=masks)
    first, second = load_items(given)
    assert first.labels.tolist() == [[1, 5, 7], [3, 7, 9]]
    assert second.labels.tolist() == [[2, 6, 8], [4, 8, 10]]
    assert (int(first.mask.argmax(axis=0).max()), int(second.mask.argmax(axis=0).max())) == (0, 1)


def test_names_that_look_like_numbers_and_names_of_warp_find_their_tomograms(tmp_path: Path) -> None:
    tomograms = [tomogram(tmp_path / name) for name in ("007.mrc", "TS_01_10.00Apx.mrc")]
    rows = "007 1 2 3\nTS_01.tomostar 4 5 6\n"
    columns = "_rlnTomoName\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n"
    (tmp_path / "a.star").write_text(f"data_\n\nloop_\n{columns}{rows}")
    items = load_items(TrainingFiles(tomograms=tomograms, picks=[tmp_path / "a.star"]))
    assert [item.labels.tolist() for item in items] == [[[3, 2, 1]], [[6, 5, 4]]]


def test_names_of_both_sides_are_shown_where_none_fits(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("tomogram,x,y,z\nts_9,1,2,3\n")
    told: list[Warn] = []
    given = TrainingFiles(tomograms=[tomogram(tmp_path / "ts_1.mrc")], picks=[tmp_path / "a.csv"])
    load_items(given, on_event=lambda event: told.append(event) if isinstance(event, Warn) else None)
    assert "names ts_9, and the tomograms are ts_1" in told[0].text


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
    np.testing.assert_array_equal(item.mask, inside)


def test_tomograms_that_relion_lists_have_its_names_and_pixel_sizes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        tomogram(tmp_path / f"rec/{name}.mrc")
    columns = ("Name", "TiltSeriesPixelSize", "TomogramBinning", "ReconstructedTomogram")
    header = "".join(f"_rlnTomo{name} #{number}\n" for number, name in enumerate(columns, 1))
    rows = "TS_02 2.0 4 rec/a.mrc\nTS_01 3.0 4 rec/b.mrc\n"
    (tmp_path / "tomograms.star").write_text(f"data_global\n\nloop_\n{header}{rows}")
    files = TrainingFiles(
        tomograms=[tmp_path / "tomograms.star"],
        picks=[labels(tmp_path / "TS_01.csv", 10, 10, 4), labels(tmp_path / "TS_02.csv", 12, 12, 4)],
    )
    items = load_items(files)
    assert [item.tomogram.geometry.voxel_size[0] for item in items] == [8.0, 12.0]
    assert [item.labels.tolist() for item in items] == [[[4, 12, 12]], [[4, 10, 10]]]
