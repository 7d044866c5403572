from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from cryoseg.errors import InputError
from cryoseg.io.images import memory, omezarr
from cryoseg.io.images.volumes import read_mask, read_tomogram, write_mask
from cryoseg.io.inputs import resolve_inputs, stem

DATA = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)


def write(
    path: Path,
    data: np.ndarray = DATA,
    *,
    axes: str = "zyx",
    unit: str | None = "angstrom",
    scale: float = 10.0,
    version: int = 2,
) -> Path:
    group = zarr.open_group(path, mode="w", zarr_format=version)
    group.create_array("0", data=data)
    units = {} if unit is None else {"unit": unit}
    one: dict[str, Any] = {
        "axes": [{"name": name, "type": "space", **units} for name in axes],
        "datasets": [
            {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [scale] * len(axes)}]}
        ],
    }
    if version == 2:
        group.attrs["multiscales"] = [one]
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": [one]}
    return path


@pytest.mark.parametrize("version", [2, 3])
def test_both_zarr_formats_are_read(tmp_path: Path, version: int) -> None:
    volume = read_tomogram(write(tmp_path / "a.ome.zarr", version=version))
    np.testing.assert_array_equal(volume.data, DATA)
    assert volume.data.dtype == np.float32
    assert volume.geometry.voxel_size == (10.0, 10.0, 10.0)


def test_units_are_turned_into_angstrom(tmp_path: Path) -> None:
    nanometers = read_tomogram(write(tmp_path / "a.zarr", unit="nanometer", scale=1.5))
    assert nanometers.geometry.voxel_size == pytest.approx((15.0,) * 3)
    assert read_tomogram(write(tmp_path / "b.zarr", unit=None)).geometry.voxel_size == (0.0, 0.0, 0.0)


def test_one_channel_and_one_time_are_no_axes(tmp_path: Path) -> None:
    volume = read_tomogram(write(tmp_path / "a.zarr", DATA[None, None], axes="tczyx"))
    np.testing.assert_array_equal(volume.data, DATA)
    with pytest.raises(InputError, match="one volume of axes z, y, x is needed"):
        read_tomogram(write(tmp_path / "b.zarr", np.stack([DATA, DATA]), axes="czyx"))
    with pytest.raises(InputError, match="axes x, y, z"):
        read_tomogram(write(tmp_path / "c.zarr", axes="xyz"))


def test_older_versions_without_axes_have_five(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zarr", DATA[None, None], axes="tczyx")
    group = zarr.open_group(path, mode="a")
    group.attrs["multiscales"] = [{"version": "0.1", "datasets": [{"path": "0"}]}]
    volume = read_tomogram(path)
    np.testing.assert_array_equal(volume.data, DATA)
    assert volume.geometry.voxel_size == (0.0, 0.0, 0.0)


def test_other_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    zarr.open_group(tmp_path / "b.zarr", mode="w")
    for name in ("a", "b"):
        with pytest.raises(InputError, match=r"cannot be read as OME-Zarr|without the multiscales"):
            read_tomogram(tmp_path / f"{name}.zarr")
    with pytest.raises(InputError, match="no such file"):
        read_tomogram(tmp_path / "c.zarr")


def test_a_volume_folder_is_one_input(tmp_path: Path) -> None:
    path = write(tmp_path / "ts_1.5A.ome.zarr")
    assert stem(path) == "ts_1.5A"
    for typed in (path, tmp_path, str(tmp_path / "*.zarr")):
        assert [(item.path, item.error) for item in resolve_inputs([typed])] == [(path, None)]


def test_labels_in_zarr_keep_minus_one(tmp_path: Path) -> None:
    labels = np.where(DATA > 5, 1, -1).astype(np.int8)
    np.testing.assert_array_equal(read_mask(write(tmp_path / "a.zarr", labels)).data, labels)


def test_damaged_metadata_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = write(tmp_path / "scale.zarr", scale=-1.0)
    with pytest.raises(InputError, match="the scale is"):
        read_tomogram(nowhere)
    waves = write(tmp_path / "waves.zarr", DATA.astype(np.complex64))
    with pytest.raises(InputError, match="complex64, not densities"):
        read_tomogram(waves)
    group = zarr.open_group(write(tmp_path / "group.zarr"), mode="r+")
    del group["0"]
    group.create_group("0")
    with pytest.raises(InputError, match="0 is no array"):
        read_tomogram(tmp_path / "group.zarr")
    monkeypatch.setattr(omezarr, "MOST_CHUNKS", 0)
    with pytest.raises(InputError, match="is cut into 1 chunks"):
        read_tomogram(write(tmp_path / "a.zarr"))


def test_what_no_machine_holds_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.create_array("0", shape=(10_000, 10_000, 10_000), chunks=(500, 500, 500), dtype="i1")
    group.attrs["multiscales"] = [{"datasets": [{"path": "0"}]}]
    with pytest.raises(InputError, match=r"claims 931\.3 GiB of voxels"):
        read_tomogram(tmp_path / "a.zarr")
    monkeypatch.setattr(memory, "available_memory", lambda: 10)
    with pytest.raises(InputError, match=r"needs 0\.0 GiB of memory to be read, and 0\.0 GiB are free"):
        read_tomogram(write(tmp_path / "b.zarr"))


@pytest.mark.parametrize("version", [2, 3])
def test_translation_becomes_the_origin(tmp_path: Path, version: int) -> None:
    path = write(tmp_path / "a.zarr", unit="nanometer", scale=1.5, version=version)
    group = zarr.open_group(path, mode="r+")
    content: dict[str, Any] = dict(group.attrs)
    one = (content["ome"] if version == 3 else content)["multiscales"][0]
    one["datasets"][0]["coordinateTransformations"].append({"type": "translation", "translation": [1, 2, -3]})
    one["coordinateTransformations"] = [
        {"type": "scale", "scale": [2, 2, 2]},
        {"type": "translation", "translation": [0, 0, 10]},
    ]
    group.attrs.update(content)
    volume = read_tomogram(path)
    assert volume.geometry.voxel_size == pytest.approx((30.0,) * 3)
    # 2 nm scale factor on the translation of the data set, then 10 nm along x.
    assert volume.geometry.origin == pytest.approx((20.0, 40.0, 40.0))
    write_mask(tmp_path / "m.mrc", volume.data > 3, volume.geometry, label="x")
    assert read_tomogram(tmp_path / "m.mrc").geometry.origin == pytest.approx((20.0, 40.0, 40.0))


def test_translation_without_unit_and_unknown_transformations_are_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zarr", unit=None)
    group = zarr.open_group(path, mode="r+")
    content: dict[str, Any] = dict(group.attrs)
    content["multiscales"][0]["datasets"][0]["coordinateTransformations"] += [
        {"type": "translation", "translation": [1, 2, 3]},
        {"type": "affine", "affine": []},
    ]
    group.attrs.update(content)
    volume = read_tomogram(path)
    assert volume.geometry.origin == (0.0, 0.0, 0.0)
    assert any("translation is lost" in warning for warning in volume.warnings)
    assert any("affine are ignored" in warning for warning in volume.warnings)


def test_plain_arrays_groups_and_parts_get_the_advice_that_helps(tmp_path: Path) -> None:
    zarr.open_array(tmp_path / "plain.zarr", mode="w", shape=(2, 3, 4), dtype="f4", zarr_format=2)
    with pytest.raises(InputError, match="plain Zarr array without axes"):
        read_tomogram(tmp_path / "plain.zarr")
    zarr.open_group(tmp_path / "group.zarr", mode="w").create_array("density", data=DATA)
    with pytest.raises(InputError, match=r"without the multiscales .*holds density"):
        read_tomogram(tmp_path / "group.zarr")
    for version in (2, 3):
        path = write(tmp_path / f"v{version}.zarr", version=version)
        for part in ("0", "zarr.json" if version == 3 else ".zattrs"):
            (item,) = resolve_inputs([path / part])
            assert item.error is not None
            assert f"is a part of {path}" in item.error
