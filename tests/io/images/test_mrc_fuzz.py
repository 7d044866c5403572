"""Whatever the bytes, a reader answers with a volume or with one of our own errors, at once and small."""

from __future__ import annotations

import bz2
import gzip
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cryoseg.errors import CryosegError
from cryoseg.io.images.mrc import write_mrc
from cryoseg.io.images.volumes import read_tomogram
from cryoseg.types import Geometry, Tomogram

FUZZ = settings(max_examples=200, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
INTERESTING = (0, 1, 2, 3, -1, -2, 5, 101, 401, 2**15, 2**16, 2**31 - 1, -(2**31), 1146047817)


def bounded(path) -> Tomogram | None:
    """The volume, or None after one of our own errors; fails where 8 MB are not enough."""
    tracemalloc.start()
    try:
        return read_tomogram(path)
    except CryosegError as error:
        text = str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        # The chunk that a decompressor is asked for, twice, is the greatest legitimate piece.
        assert peak < 9e6
    assert "\n" not in text
    assert text.startswith(str(path))
    return None


@FUZZ
@given(
    words=st.dictionaries(st.integers(0, 255), st.sampled_from(INTERESTING), max_size=6),
    flips=st.dictionaries(st.integers(0, 1023), st.integers(0, 255), max_size=6),
    keep=st.one_of(st.none(), st.integers(0, 1300)),
    packing=st.sampled_from(["", ".gz", ".bz2"]),
    order=st.sampled_from("<>"),
)
def test_damaged_headers(make_mrc, tmp_path, words, flips, keep, packing, order):
    content = bytearray(make_mrc(np.arange(60, dtype="i2").reshape(3, 4, 5), order=order))
    for word, value in words.items():
        struct.pack_into(order + "i", content, 4 * word, value)
    for at, value in flips.items():
        content[at] = value
    content = content[:keep]
    compress = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress}[packing]
    path = tmp_path / f"f.mrc{packing}"
    path.write_bytes(compress(bytes(content)))
    tomogram = bounded(path)
    if tomogram is not None:
        assert tomogram.data.ndim == 3
        assert tomogram.data.nbytes <= 2 * len(content)
        assert np.isfinite(tomogram.geometry.origin + tomogram.geometry.voxel_size).all()
        # What was read can be written: no header value may break the writer later.
        write_mrc(tmp_path / "o.mrc", tomogram.data, tomogram.geometry, dtype="float32", label="x")


@FUZZ
@given(content=st.binary(max_size=2000), name=st.sampled_from(["f.mrc", "f.rec.gz", "f.st.bz2"]))
@pytest.mark.filterwarnings("ignore:.*subnormal:UserWarning")
def test_random_bytes(tmp_path, content, name):
    path = tmp_path / name
    for magic in (b"", b"\x1f\x8b\x08", b"BZh9"):
        path.write_bytes(magic + content)
        bounded(path)


@settings(max_examples=60, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 7)),
    dtype=st.sampled_from(["int8", "int16", "uint16", "float32", "float16"]),
    voxel=st.tuples(*[st.floats(0.125, 500, width=32)] * 3),
    origin=st.tuples(*[st.floats(-1e6, 1e6, width=32)] * 3),
    start=st.tuples(*[st.integers(-10000, 10000)] * 3),
    space_group=st.integers(0, 400),
    seed=st.integers(0, 99),
)
def test_round_trip(tmp_path, shape, dtype, voxel, origin, start, space_group, seed):
    data = np.random.default_rng(seed).integers(0, 100, shape).astype(dtype)
    geometry = Geometry(voxel_size=voxel, origin=origin, start=start, space_group=space_group)
    path = tmp_path / "r.mrc"
    write_mrc(path, data, geometry, dtype=dtype, label="x")
    tomogram = bounded(path)
    assert tomogram is not None
    np.testing.assert_array_equal(tomogram.data, data)
    assert tomogram.geometry.origin == origin
    assert tomogram.geometry.start == start
    assert tomogram.geometry.space_group == space_group
    np.testing.assert_allclose(tomogram.geometry.voxel_size, voxel, rtol=2e-7)
