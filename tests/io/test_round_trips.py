"""What is written comes back, and what reference libraries write is read, for drawn contents."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cryoseg.config.pick import FLAT_FORMATS, CenterRule, CoordsOrder, PickFormat, ThicknessAxis
from cryoseg.io.images.volumes import read_mask, read_tomogram, write_logits, write_mask
from cryoseg.io.picks.frame import PickFrame
from cryoseg.io.picks.picks import read_picks, write_picks
from cryoseg.io.picks.relion_frame import RelionFrame
from cryoseg.io.records import plain, read_record, write_record
from cryoseg.types import ExtendedHeader, Geometry, Picks

SHAPE = (200, 400, 500)
NAMES = ["ts_01", "ts_1.5A", "Position_10_2"]
# How far a coordinate may be off: decimals that the format writes, or whole numbers.
ERRORS = {
    PickFormat.STAR: 1e-4,
    PickFormat.STAR_RELION4: 1e-4,
    PickFormat.STAR_RELION5: 1e-4,
    PickFormat.CRYOSPARC: 1e-4,
    PickFormat.CSV: 1e-4,
    PickFormat.NDJSON: 1e-4,
    PickFormat.MOD: 1e-4,
    PickFormat.COORDS: 0.5,
    PickFormat.BOX: 1.0,  # the corner is rounded, and the side to an even number
    PickFormat.CBOX: 1e-4,
    PickFormat.CRYOPPP: 5e-3,
    PickFormat.DYNAMO: 1e-4,
    PickFormat.MOTL: 1e-4,
    PickFormat.STOPGAP: 1e-4,
    PickFormat.COPICK: 1e-4,
    PickFormat.CRYOSPARC_EXTERNAL: 1e-4,
}
UNSCORED = (PickFormat.MOD, PickFormat.BOX, PickFormat.CRYOPPP)


def drawn(examples: int) -> Any:
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


place = st.tuples(*[st.floats(0, n - 1, width=32) for n in SHAPE])


@pytest.mark.parametrize("flavor", list(ERRORS), ids=str)
@drawn(8)
@given(
    places=st.lists(place, min_size=1, max_size=5),
    scored=st.booleans(),
    name=st.sampled_from(NAMES),
    diameter=st.floats(2, 90, width=32),
    axis=st.sampled_from(ThicknessAxis),
    center=st.sampled_from(CenterRule),
)
def test_picks(
    tmp_path: Path,
    flavor: PickFormat,
    places: list[tuple[float, float, float]],
    scored: bool,
    name: str,
    diameter: float,
    axis: ThicknessAxis,
    center: CenterRule,
) -> None:
    centers = np.array(places)[:, 1:] if flavor in FLAT_FORMATS else np.array(places)
    scores = np.linspace(1, 0, len(places), dtype=np.float32) if scored else None
    picks = Picks(centers=centers, scores=scores, shape=SHAPE, pixel_size=10.0, diameter_px=diameter)
    relion = {"": RelionFrame(pixel_size=2.5, size=(800, 1600, 2000), center=center)}
    frame = PickFrame(
        voxel_size=10.0,
        shape=SHAPE,
        thickness_axis=axis,
        coords_order=CoordsOrder.XZY,
        relion=relion,
    )
    path = tmp_path / f"a{flavor.suffix}"
    write_picks(path, {name: picks}, frame, flavor=flavor, overwrite=True)
    sets = read_picks(path, replace(frame, unbinned=flavor is PickFormat.STAR_RELION4))
    ((found_name, found),) = sets.items()
    is_nameless = flavor.traits.is_numbered and not flavor.traits.beside
    assert found_name in (("1",) if is_nameless else (name, ""))
    np.testing.assert_allclose(found.centers, centers, rtol=0, atol=ERRORS[flavor] + 1e-6)
    if scores is not None and flavor not in UNSCORED:
        assert found.scores is not None
        np.testing.assert_allclose(found.scores, scores, rtol=0, atol=1e-5)
    if flavor in (PickFormat.BOX, PickFormat.CBOX, PickFormat.CRYOPPP):
        assert found.diameter_px == pytest.approx(diameter, abs=1.0)


numbers = st.one_of(st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False))
records = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(st.characters(exclude_categories=["Cs"]))),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text("aé\n"), inner, max_size=3)),
    max_leaves=8,
)


@drawn(20)
@given(record=st.dictionaries(st.text("ab_", min_size=1), records, max_size=4))
def test_records(tmp_path: Path, record: dict[str, Any]) -> None:
    write_record(tmp_path / "a.json", record, overwrite=True)
    assert read_record(tmp_path / "a.json") == plain(record)


shapes = st.tuples(st.integers(2, 4), st.integers(2, 5), st.integers(2, 6))
sizes = st.tuples(*[st.floats(0.5, 500, width=32)] * 3)
kinds = st.sampled_from(["i1", "u1", "i2", "u2", "f4"])


@drawn(20)
@given(
    shape=shapes,
    size=sizes,
    content=st.binary(max_size=99),
    kind=st.sampled_from([b"SERI", b"FEI1", bytes(4)]),
)
def test_masks_and_logits_with_all_of_the_geometry(
    tmp_path: Path, shape: tuple[int, int, int], size: tuple[float, ...], content: bytes, kind: bytes
) -> None:
    extended = ExtendedHeader(kind=kind, counts=b"\1\0\2\0", content=content) if content else None
    geometry = Geometry(voxel_size=size, origin=(1.5, -2, 3), start=(1, -2, 3), extended_header=extended)
    logits = np.random.default_rng(len(content)).normal(0, 5, shape).astype(np.float32)
    write_logits(tmp_path / "a.mrc", logits, geometry, label="x")
    write_mask(tmp_path / "m.mrc", logits > 0, geometry, label="x")
    for found in (read_tomogram(tmp_path / "a.mrc"), read_mask(tmp_path / "m.mrc")):
        assert found.geometry.voxel_size == pytest.approx(size, rel=1e-6)
        assert found.geometry.origin == (1.5, -2, 3)
        assert found.geometry.start == (1, -2, 3)
        assert found.geometry.extended_header == extended
    np.testing.assert_array_equal(read_tomogram(tmp_path / "a.mrc").data, logits)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.mrc").data, logits > 0)


def check(path: Path | str, data: np.ndarray, size: tuple[float, ...]) -> None:
    found = read_tomogram(path)
    np.testing.assert_array_equal(found.data, data)
    assert found.data.dtype.newbyteorder("=") == data.dtype.newbyteorder("=")
    assert found.geometry.voxel_size == pytest.approx(size, rel=1e-5)


@drawn(8)
@given(
    shape=shapes,
    size=sizes,
    kind=kinds,
    order=st.sampled_from("<>"),
    packed=st.booleans(),
    seed=st.integers(0, 9),
)
def test_files_of_reference_libraries(
    tmp_path: Path,
    shape: tuple[int, int, int],
    size: tuple[float, ...],
    kind: str,
    order: str,
    packed: bool,
    seed: int,
) -> None:
    h5py = pytest.importorskip("h5py", reason="needs the extra hdf5")
    z, y, x = size
    data = np.random.default_rng(seed).integers(0, 100, shape).astype(order + kind)
    if kind != "u1":  # mrcfile widens it
        opened = mrcfile.new(tmp_path / "a.mrc", data, compression="gzip" if packed else None, overwrite=True)
        opened.voxel_size = (x, y, z)
        opened.close()
        check(tmp_path / "a.mrc", data, size)
    about = {f"PhysicalSize{axis}": s for axis, s in zip("ZYX", size, strict=True)}
    about |= {f"PhysicalSize{axis}Unit": "Å" for axis in "ZYX"} | {"axes": "ZYX"}
    packing = {"compression": "zlib"} if packed else {}
    tifffile.imwrite(
        tmp_path / "a.ome.tif", data, byteorder=order, metadata=about, photometric="minisblack", **packing
    )
    check(tmp_path / "a.ome.tif", data, size)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        options = {"chunks": (1, 2, 2), "compression": "gzip"} if packed else {}
        file.create_dataset("g/v", data=data, **options).attrs["element_size_um"] = np.array(size) / 1e4
    check(f"{tmp_path / 'a.h5'}:g/v", data, size)
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3 if packed else 2)
    group.create_array("0", data=data, chunks=(1, 2, 3))
    scales = [{"type": "scale", "scale": [float(s) / 10 for s in size]}]
    axes = [{"name": axis, "type": "space", "unit": "nanometer"} for axis in "zyx"]
    one = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scales}]}
    group.attrs.update(
        {"ome": {"version": "0.5", "multiscales": [one]}} if packed else {"multiscales": [one]}
    )
    check(tmp_path / "a.zarr", data, size)
