"""Large volumes of chunked and compressed formats are read without holding them in memory."""

from __future__ import annotations

import errno
import gzip
import io
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cryoseg.config.common import OutputFormat
from cryoseg.errors import InputError
from cryoseg.io.images import scratch
from cryoseg.io.images.volumes import planned_shape, read_tomogram, write_logits
from cryoseg.types import Geometry

h5py = pytest.importorskip("h5py", reason="needs the extra hdf5")
SHAPE = (40, 200, 150)


def write_zarr(path: Path, data: np.ndarray) -> Path:
    path = path.with_suffix(".ome.zarr")
    write_logits(path, data, Geometry(), label="x", output_format=OutputFormat.ZARR)
    return path


def write_hdf5(path: Path, data: np.ndarray) -> Path:
    path = path.with_suffix(".h5")
    with h5py.File(path, "w") as file:
        file.create_dataset("volume", data=data, chunks=(16, 64, 64), compression="gzip", compression_opts=1)
    return path


def write_tiles(path: Path, data: np.ndarray) -> Path:
    path = path.with_suffix(".tif")
    tifffile.imwrite(path, data, photometric="minisblack", tile=(64, 64), compression="zlib")
    return path


def write_packed(path: Path, data: np.ndarray) -> Path:
    write_logits(path.with_suffix(".mrc"), data, Geometry(), label="x")
    path = path.with_suffix(".mrc.gz")
    path.write_bytes(gzip.compress(path.with_suffix("").read_bytes(), 1))
    return path


@pytest.mark.parametrize("write", [write_zarr, write_hdf5, write_tiles, write_packed])
def test_blocks_give_the_same_voxels_as_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, np.ndarray], Path]
) -> None:
    data = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    path = write(tmp_path / "v", data)
    assert planned_shape(path) == SHAPE
    whole = read_tomogram(path).data
    monkeypatch.setattr(scratch, "IN_MEMORY_BYTES", 1000)
    monkeypatch.setattr(scratch, "BLOCK_BYTES", 100_000)
    mapped = read_tomogram(path).data
    owner = mapped
    while owner is not None and not isinstance(owner, np.memmap):
        owner = owner.base
    assert isinstance(owner, np.memmap)
    assert mapped.dtype == whole.dtype
    assert mapped.tobytes() == whole.tobytes() == data.tobytes()


def test_blocks_are_whole_chunks_and_cover_the_array(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "BLOCK_BYTES", 4 * 5 * 60 * 4)
    covered = np.zeros((9, 50, 60), int)
    corners = []
    for block in scratch.blocks(covered.shape, (4, 5, 16), 4):
        covered[block] += 1
        corners.append(tuple(one.start for one in block))
    assert (covered == 1).all()
    # A block takes the whole of x (48 of 60, since the next chunk would exceed the size, and the rest).
    assert sorted({corner[2] for corner in corners}) == [0, 48]
    assert sorted({corner[0] for corner in corners}) == [0, 4, 8]


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_hdf5(tmp_path / "v", np.zeros(SHAPE, np.float32))
    monkeypatch.setattr(scratch, "IN_MEMORY_BYTES", 1000)
    monkeypatch.setattr(scratch.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 10}))
    with pytest.raises(InputError, match="Set TMPDIR to a folder with more"):
        read_tomogram(path)


def test_a_disk_that_fills_up_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_packed(tmp_path / "v", np.zeros(SHAPE, np.float32))
    monkeypatch.setattr(scratch, "IN_MEMORY_BYTES", 1000)

    class Full(io.BytesIO):
        def write(self, content: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(scratch.tempfile, "TemporaryFile", lambda **options: Full())
    with pytest.raises(InputError, match="Set TMPDIR to a folder with more"):
        read_tomogram(path)


@pytest.mark.parametrize("write", [write_zarr, write_hdf5, write_tiles, write_packed])
def test_memory_does_not_grow_with_the_volume(
    tmp_path: Path, write: Callable[[Path, np.ndarray], Path]
) -> None:
    """A volume of 128 MiB is read where 100 MiB may be taken."""
    path = write(tmp_path / "v", np.zeros((128, 512, 512), np.float32))
    script = f"""
        import resource
        import numpy
        from pathlib import Path
        from cryoseg.io.images.volumes import read_tomogram
        import h5py, tifffile, zarr

        status = Path("/proc/self/status").read_text()
        used = int(status.split("VmData:")[1].split()[0]) * 1024
        limit = used + 100 * 2**20
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        try:
            numpy.ones(128 * 2**20, numpy.uint8)
        except MemoryError:
            print("limited", end=" ")
        data = read_tomogram(Path({str(path)!r})).data
        print(data.shape, float(data[-1].sum()))
    """
    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "limited (128, 512, 512) 0.0", done.stderr
