"""Micrographs find their coordinates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cryoseg.errors import InputError
from cryoseg.io.images.mrc import write_mrc
from cryoseg.methods.particles.data import MicrographPair, ReadOptions, find_micrographs
from cryoseg.methods.particles.train import load_all
from cryoseg.methods.training.run import Runtime
from cryoseg.types import Geometry

HEAD = "data_\n\nloop_\n_rlnMicrographName #1\n_rlnCoordinateX #2\n_rlnCoordinateY #3\n"


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    """Two micrographs of one name; their content is not read here."""
    found = []
    for folder in ("Dataset1", "Dataset2"):
        path = tmp_path / folder / "images" / "001.mrc"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"image")
        found.append(str(path))
    return found


def test_data_sets_with_equal_names_keep_their_own_labels(tmp_path: Path, images: list[str]) -> None:
    picks = []
    for number, folder in enumerate(("Dataset1", "Dataset2")):
        path = tmp_path / folder / "picks" / "001.star"
        path.parent.mkdir()
        path.write_text(f"{HEAD}001.mrc {number} 5\n")
        picks.append(path)
    pairs, _ = find_micrographs(images, picks)
    assert [pair.name for pair in pairs] == ["Dataset1/images/001", "Dataset2/images/001"]
    assert [pair.centers.tolist() for pair in pairs] == [[[5, 0]], [[5, 1]]]


def test_one_table_tells_data_sets_apart_by_their_folders(tmp_path: Path, images: list[str]) -> None:
    path = tmp_path / "all.star"
    path.write_text(f"{HEAD}Dataset2/images/001.mrc 2 5\nDataset1/images/001.mrc 1 5\n")
    pairs, _ = find_micrographs(images, [path])
    assert [pair.centers.tolist() for pair in pairs] == [[[5, 1]], [[5, 2]]]


def test_a_table_that_does_not_tell_them_apart_is_refused(tmp_path: Path, images: list[str]) -> None:
    path = tmp_path / "all.star"
    path.write_text(f"{HEAD}001.mrc 2 5\n")
    with pytest.raises(InputError, match=r"all\.star: 001\.mrc may mean .*Dataset1.* or .*Dataset2"):
        find_micrographs(images, [path])


def test_a_pair_has_a_diameter_and_a_border_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "a.mrc"
    noise = np.random.default_rng(0).standard_normal((1, 80, 80)).astype(np.float32)
    write_mrc(path, noise, Geometry(voxel_size=(1.0,) * 3, space_group=0), dtype="float32", label="test")
    pair = MicrographPair(name="a", image=path, centers=np.array([[40.0, 40.0]]), diameter_px=20, border_px=8)
    options = ReadOptions(particle_pixels=10, diameter_px=40, border_px=0)
    loaded, diameter = load_all([pair, pair], options, "reading", Runtime())
    assert diameter == 20
    assert loaded[0] is loaded[1]
    assert loaded[0].grey.shape == (40, 40)
    assert (loaded[0].labels[:4] == -1).all()
    assert (loaded[0].labels[4:36, 4:36] >= 0).all()
