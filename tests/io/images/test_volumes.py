from __future__ import annotations

import os
import sys

import mrcfile
import numpy as np
import pytest

from cryoseg import __version__
from cryoseg.config import Mode0
from cryoseg.config.common import OutputFormat
from cryoseg.errors import InputError, OutputError
from cryoseg.io.images.mrc import read_mrc
from cryoseg.io.images.volumes import (
    READERS,
    VOLUME_SUFFIXES,
    check_finite,
    improbable_voxel_size,
    known_suffix,
    made_by,
    read_mask,
    read_tomogram,
    write_logits,
    write_mask,
)
from cryoseg.types import Geometry, Tomogram

CUBIC = Geometry(voxel_size=(10.0, 10.0, 10.0))


MRC_SUFFIXES = [suffix for suffix in VOLUME_SUFFIXES if READERS[suffix] is read_mrc]


@pytest.mark.parametrize("suffix", [*MRC_SUFFIXES, ".MRC", ".Rec"])
def test_every_known_suffix_is_read(make_mrc, tmp_path, suffix):
    path = tmp_path / f"a.b{suffix}"
    path.write_bytes(make_mrc(np.zeros((2, 3, 4), "f4")))
    assert read_tomogram(str(path)).data.shape == (2, 3, 4)


def test_mode0_reaches_the_reader(make_mrc, tmp_path):
    path = tmp_path / "a.mrc"
    path.write_bytes(make_mrc(np.full((1, 2, 2), 200, "u1")))
    assert read_tomogram(path, mode0=Mode0.UNSIGNED).data[0, 0, 0] == 200
    assert read_tomogram(path).data[0, 0, 0] == -56


def test_unknown_suffix_names_the_known_ones(tmp_path):
    path = tmp_path / "a.xyz"
    path.write_bytes(b"0")
    with pytest.raises(InputError, match=r"unknown format.*\.mrc, \.mrcs, \.rec, \.map, \.st.*gz"):
        read_tomogram(path)


def test_what_is_no_file_is_refused(tmp_path):
    (tmp_path / "folder.mrc").mkdir()
    (tmp_path / "empty.mrc").touch()
    (tmp_path / "loop.mrc").symlink_to("loop.mrc")
    for name, words in (
        ("folder.mrc", "folder"),
        ("empty.mrc", "0 bytes"),
        ("none.mrc", "no such file"),
        ("loop.mrc", "cannot be read"),
        ("a\0b.mrc", "no file name"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            read_tomogram(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(sys.platform == "win32", reason="no named pipes")
def test_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.mrc")
    with pytest.raises(InputError):
        read_tomogram(tmp_path / "pipe.mrc")


def test_single_image_is_one_slice_with_a_warning(make_mrc, tmp_path):
    path = tmp_path / "a.mrc"
    path.write_bytes(make_mrc(np.zeros((1, 3, 4), "f4"), ispg=0, zlen=1.0))
    tomogram = read_tomogram(path)
    assert tomogram.data.shape == (1, 3, 4)
    assert len(tomogram.warnings) == 1
    assert "one slice" in tomogram.warnings[0]


@pytest.mark.parametrize(("zlen", "warned"), [(30.2, False), (30.4, True), (0.0, False), (60, True)])
def test_more_than_one_percent_of_anisotropy_is_named(make_mrc, tmp_path, zlen, warned):
    path = tmp_path / "a.mrc"
    path.write_bytes(make_mrc(np.zeros((3, 4, 5), "f4"), zlen=zlen))
    assert bool(read_tomogram(path).warnings) is warned


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.int32, np.int64])
def test_masks_of_any_integer_type_become_bytes(tmp_path, dtype):
    mask = (np.arange(24).reshape(2, 3, 4) % 3).astype(dtype)
    path = tmp_path / "m.mrc"
    write_mask(path, mask, CUBIC, label=made_by("segment"))
    with mrcfile.open(path) as mrc:
        assert mrc.header.mode == 0
        np.testing.assert_array_equal(mrc.data, mask)
        assert mrc.header.label[0].decode() == f"cryoseg {__version__} segment"
    np.testing.assert_array_equal(read_mask(path).data, mask)


def test_labels_keep_minus_one(make_mrc, tmp_path):
    labels = np.array([[[-1, 0, 1]]])
    write_mask(tmp_path / "m.mrc", labels, CUBIC, label="x")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.mrc").data, labels)
    (tmp_path / "f.mrc").write_bytes(make_mrc(labels.astype("f4")))
    loaded = read_mask(tmp_path / "f.mrc")
    assert loaded.data.dtype == np.int16
    np.testing.assert_array_equal(loaded.data, labels)


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf, 1e9])
def test_logits_are_no_labels(make_mrc, tmp_path, value):
    (tmp_path / "f.mrc").write_bytes(make_mrc(np.full((2, 2, 2), value, "f4")))
    with pytest.raises(InputError, match="no labels"):
        read_mask(tmp_path / "f.mrc")


def test_logits_are_float32(tmp_path):
    logits = np.linspace(-9, 9, 24).reshape(2, 3, 4)
    write_logits(tmp_path / "l.mrc", logits, CUBIC, label="x")
    loaded = read_tomogram(tmp_path / "l.mrc")
    assert loaded.data.dtype == np.float32
    np.testing.assert_array_equal(loaded.data, logits.astype(np.float32))


def test_an_existing_output_is_replaced(tmp_path):
    path = tmp_path / "m.mrc"
    ones = np.ones((1, 2, 2), bool)
    write_mask(path, ~ones, CUBIC, label="x")
    write_mask(path, ones, CUBIC, label="x")
    assert read_mask(path).data.sum() == 4


@pytest.mark.parametrize(
    ("name", "output_format", "wanted"),
    [
        ("m.tif", OutputFormat.MRC, ".mrc"),
        ("m.mrc.gz", OutputFormat.MRC, ".mrc"),
        ("m", OutputFormat.MRC, ".mrc"),
        ("m.mrc", OutputFormat.ZARR, ".zarr"),
        ("m.mrc", OutputFormat.TIFF, ".tif"),
    ],
)
def test_name_of_an_output_fits_its_format(tmp_path, name, output_format, wanted):
    with pytest.raises(OutputError, match=f"no name of a volume in the format .* ends in {wanted}"):
        write_mask(tmp_path / name, np.ones((1, 2, 2), bool), CUBIC, label="x", output_format=output_format)


def test_output_may_replace_the_input_it_is_made_from(tmp_path):
    path = tmp_path / "m.mrc"
    write_mask(path, np.arange(24).reshape(2, 3, 4), CUBIC, label="x")
    tomogram = read_tomogram(path)
    write_mask(path, tomogram.data, tomogram.geometry, label="y")
    np.testing.assert_array_equal(read_tomogram(path).data.ravel(), np.arange(24))


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.mrc", ".mrc"),
        ("a.mrc.gz", ".mrc.gz"),
        ("a.b.REC", ".REC"),
        ("a.gz", None),
        (".mrc", None),
        ("amrc", None),
        ("a.preali.bz2", ".preali.bz2"),
    ],
)
def test_known_suffix_is_the_longest(tmp_path, name, suffix):
    assert known_suffix(tmp_path / name) == suffix


def test_finite_volumes_pass():
    check_finite(Tomogram(data=np.zeros((2, 2, 2), np.int8)))
    check_finite(Tomogram(data=np.zeros((2, 2, 2), np.float32)))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_nan_and_infinity_are_counted_and_placed(dtype):
    data = np.zeros((4, 3, 5), dtype)
    data[1, 2, 3] = np.nan
    data[1, 2, 4] = np.inf
    data[3, 0, 0] = -np.inf
    with pytest.raises(InputError, match=r"^t\.mrc: 3 of 60 voxels.*z, y, x = 1, 2, 3"):
        check_finite(Tomogram(data=data, source="t.mrc"))


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((0.0, 0.0, 0.0), "no voxel size"),
        ((0.0, 10.0, 10.0), "no voxel size"),
        ((1.0, 1.0, 1.0), "exactly 1.0"),
        ((0.00135, 0.00135, 0.00135), "improbable"),
        ((5000.0, 10.0, 10.0), "improbable"),
    ],
)
def test_improbable_voxel_sizes_are_named_with_their_mend(size, words):
    sentence = improbable_voxel_size(Geometry(voxel_size=size))
    assert sentence is not None
    assert words in sentence
    assert "--pixel-size" in sentence


@pytest.mark.parametrize("size", [(10.0, 10.0, 10.0), (1.0, 1.0, 1.1), (0.5, 0.5, 0.5)])
def test_probable_voxel_sizes_pass(size):
    assert improbable_voxel_size(Geometry(voxel_size=size)) is None
