"""HDF5 volumes as EMAN2, ilastik and scripts write them, written by h5py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from cryoseg.errors import InputError
from cryoseg.io.images.volumes import read_mask, read_tomogram
from cryoseg.io.inputs import output_stems, resolve_inputs, stem
from cryoseg.io.records import describe_input, hash_file, is_same_input

h5py = pytest.importorskip("h5py", reason="needs the extra hdf5")
DATA = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)


def write(path: Path, sets: dict[str, np.ndarray], **options: object) -> Path:
    with h5py.File(path, "w") as file:
        for name, data in sets.items():
            file.create_dataset(name, data=data, **options)
    return path


@pytest.mark.parametrize("suffix", [".h5", ".hdf5", ".hdf", ".H5"])
@pytest.mark.parametrize("kind", ["<f4", ">f4", "i1", "u2", "f8"])
@pytest.mark.parametrize("options", [{}, {"chunks": (2, 2, 2), "compression": "gzip"}])
def test_the_only_volume_of_a_file(tmp_path: Path, suffix: str, kind: str, options: dict) -> None:
    path = write(tmp_path / f"a{suffix}", {"volume": DATA.astype(kind)}, **options)
    found = read_tomogram(path)
    np.testing.assert_array_equal(found.data, DATA)
    assert found.data.dtype == np.dtype(kind).newbyteorder("=")
    assert found.data.dtype.isnative
    assert found.geometry.voxel_size == (0.0, 0.0, 0.0)


def test_a_plain_data_set_is_mapped_not_read(tmp_path: Path) -> None:
    base = read_tomogram(write(tmp_path / "a.h5", {"volume": DATA})).data
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)
    with h5py.File(tmp_path / "b.h5", "w", userblock_size=512) as file:
        file["volume"] = DATA
    np.testing.assert_array_equal(read_tomogram(tmp_path / "b.h5").data, DATA)


def test_size_and_place_of_eman2(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.hdf", "w") as file:
        image = file.create_dataset("MDF/images/0/image", data=DATA)
        for axis, size in zip("xyz", (10.0, 10.5, 11.0), strict=True):
            image.parent.attrs[f"EMAN.apix_{axis}"] = np.float32(size)
    assert read_tomogram(tmp_path / "a.hdf").geometry.voxel_size == (11.0, 10.5, 10.0)


def test_axes_and_size_of_ilastik_and_fiji(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("exported_data", data=DATA[..., None])
        data.attrs["axistags"] = json.dumps({"axes": [{"key": key, "typeFlags": 2} for key in "zyxc"]})
        data.attrs["element_size_um"] = (0.002, 0.001, 0.001)
        turned = file.create_dataset("turned", data=DATA.T)
        turned.attrs["axistags"] = json.dumps({"axes": [{"key": key} for key in "xyz"]})
    found = read_tomogram(tmp_path / "a.h5:/exported_data")
    np.testing.assert_array_equal(found.data, DATA)
    assert found.geometry.voxel_size == pytest.approx((20.0, 10.0, 10.0))
    with pytest.raises(InputError, match="axes z, y, x is needed"):
        read_tomogram(tmp_path / "a.h5:/turned")


def test_a_data_set_is_named_after_a_colon(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.h5", {"one/raw": DATA, "two": DATA + 1, "flat": DATA[0], "names": np.array([b"a"])}
    )
    with pytest.raises(InputError, match=r"holds the volumes /one/raw, /two\. Name one as a\.h5:/one/raw"):
        read_tomogram(path)
    for name in ("/two", "two"):
        np.testing.assert_array_equal(read_tomogram(f"{path}:{name}").data, DATA + 1)
    for name, words in (
        ("/three", "there is nothing"),
        ("/one", "there is a group"),
        ("/flat", "one volume of axes"),
        ("/names", "not densities"),
    ):
        with pytest.raises(InputError, match=words):
            read_tomogram(f"{path}:{name}")


def test_a_data_set_is_an_input_with_the_name_of_its_file(tmp_path: Path) -> None:
    path = write(tmp_path / "ts_1.5A.h5", {"raw": DATA, "den": DATA})
    raw, den = (Path(f"{path}:/{name}") for name in ("raw", "den"))
    for typed in (str(raw), f"{tmp_path}/ts*.h5:/raw"):
        assert [(item.path, item.error) for item in resolve_inputs([typed])] == [(raw, None)]
    assert [item.path for item in resolve_inputs([tmp_path])] == [path]
    assert [item.error is None for item in resolve_inputs([f"{tmp_path}/none.h5:/raw"])] == [False]
    assert stem(raw) == "ts_1.5A"
    assert output_stems([raw]) == {raw: "ts_1.5A"}
    assert output_stems([raw, den]) == {raw: "ts_1_5A_h5_raw", den: "ts_1_5A_h5_den"}
    about = describe_input(raw)
    assert about["name"] == "ts_1.5A.h5:/raw"
    assert about["sha256"] == hash_file(path)
    assert is_same_input(raw, about)


def test_masks_of_true_and_false_are_whole_numbers(tmp_path: Path) -> None:
    mask = read_mask(write(tmp_path / "m.h5", {"mask": DATA > 50}))
    assert mask.data.dtype == np.uint8
    np.testing.assert_array_equal(mask.data, DATA > 50)


def test_empty_chunks_are_background_within_reason(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("mask", (50, 400, 400), "i1", chunks=(10, 100, 100))
    assert not read_mask(tmp_path / "a.h5").data.any()
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("mask", (10_000, 10_000, 10_000), "i1", chunks=(64, 64, 64))
    with pytest.raises(InputError, match=r"claims 931\.3 GiB of voxels"):
        read_mask(tmp_path / "b.h5")


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"no hdf5 at all")
    with pytest.raises(InputError, match="cannot be read as HDF5"):
        read_tomogram(tmp_path / "a.h5")
    with pytest.raises(InputError, match="holds no data set of three axes"):
        read_tomogram(write(tmp_path / "b.h5", {"flat": DATA[0]}))
    with pytest.raises(InputError, match="no such file"):
        read_tomogram(tmp_path / "c.h5:/raw")


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.h5", {"volume": DATA})
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match=r"cryoseg\[hdf5\]"):
        read_tomogram(path)
