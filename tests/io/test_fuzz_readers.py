"""Whatever the bytes, a reader answers with what it read or with one of our own errors, soon and small.

Every case begins with a valid file. Damage is drawn by Hypothesis in the quick run; the long runs
draw it from seeds in a child process, whose memory is limited and whose crash is seen from outside.
The child is this file: `python test_fuzz_readers.py CASE,CASE SEED COUNT`.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import importlib.util
import io
import json
import random
import re
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cryoseg.config import EvaluateConfig
from cryoseg.config.pick import PickFormat
from cryoseg.core.metrics.masks import evaluate_mask
from cryoseg.errors import CryosegError
from cryoseg.io.images import memory, omezarr
from cryoseg.io.images.micrographs import is_single_image, read_micrograph
from cryoseg.io.images.mrc import write_mrc
from cryoseg.io.images.pictures import (
    read_picture_list,
    read_picture_mask,
    read_probabilities,
    read_rgb,
    read_size,
)
from cryoseg.io.images.volumes import improbable_voxel_size, read_mask, read_tomogram
from cryoseg.io.inputs import resolve_inputs
from cryoseg.io.picks.frame import PickFrame
from cryoseg.io.picks.picks import read_picks, write_picks
from cryoseg.io.picks.relion_frame import RelionFrame, read_tomograms_star
from cryoseg.io.picks.relion_star import join_stars
from cryoseg.io.picks.text import is_cetpick_list, is_coordinate_table, read_cetpick_list
from cryoseg.io.records import read_record, read_score, score_to_json, write_record
from cryoseg.io.web.archives import read_testset
from cryoseg.io.web.weight_files import check_structure, recorded_sha256
from cryoseg.types import Geometry, Picks

VOLUME = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
IMAGE = (np.arange(20 * 24) % 251).astype(np.uint8).reshape(20, 24)
GEOMETRY = Geometry(voxel_size=(10.0, 10.0, 10.0))
PICKS = Picks(
    centers=np.array([[1.0, 2.0, 3.0], [3.0, 4.5, 5.25], [0.5, 0.0, 7.0]]),
    scores=np.array([0.9, 0.5, 0.25], np.float32),
    shape=(4, 5, 9),
    pixel_size=10.0,
    diameter_px=4.0,
)
ORIENTED = replace(
    PICKS,
    rotations=np.array([[[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]] * 3),
    shifts=np.ones((3, 3)),
    classes=np.array([1, 2, 1]),
)
FLAT = Picks(centers=PICKS.centers[:, 1:], scores=PICKS.scores, diameter_px=4.0, pixel_size=2.0)
FRAME = PickFrame(
    voxel_size=10.0, shape=(4, 5, 9), relion={"": RelionFrame(pixel_size=2.5, size=(16, 20, 36))}
)

MEMORY = 48 * 2**20
SECONDS = 5.0
NUMBERS = (0, 1, 2, 3, -1, -2, 7, 16, 255, 401, 2**15, 2**16 - 1, 2**20, 2**31 - 1, -(2**31), 1146047817)
WORDS = (
    "",
    "nan",
    "inf",
    "-1",
    "0",
    "1e999",
    "99999999999999999999",
    "[]",
    "{}",
    "null",
    '"',
    "\x00",
    "é",
    "loop_",
)
WIDTHS = ("<i", ">i", "<h", ">h", "<q", ">q")
Damage = tuple[str, int, int]
KINDS = ("flip", "number", "cut", "insert", "delete", "word")


def damaged(content: bytes, damage: list[Damage]) -> bytes:
    """`content` after flips, numbers written over it, cuts, insertions, and exchanged words."""
    buffer = bytearray(content)
    for kind, where, what in damage:
        if not buffer:
            break
        # Headers lie in front: half of the damage is done there.
        at = where // 2 % min(len(buffer), 600) if where % 2 else where // 2 % len(buffer)
        if kind == "flip":
            buffer[at] ^= 1 + what % 255
        elif kind == "number":
            width = WIDTHS[what % len(WIDTHS)]
            size = struct.calcsize(width)
            number = NUMBERS[what // len(WIDTHS) % len(NUMBERS)]
            low = -(1 << (8 * size - 1))
            aligned = at - at % size if what % 5 else at
            if aligned + size <= len(buffer):
                struct.pack_into(width, buffer, aligned, min(max(number, low), -low - 1))
        elif kind == "cut":
            del buffer[at:]
        elif kind == "insert":
            buffer[at:at] = bytes([what % 256]) * (1 + what // 256 % 9)
        elif kind == "delete":
            del buffer[at : at + 1 + what % 7]
        else:
            words = list(re.finditer(rb"[^\s,:\[\]{}]+", bytes(buffer)))
            if words:
                start, end = words[where % len(words)].span()
                buffer[start:end] = WORDS[what % len(WORDS)].encode()
    return bytes(buffer)


def bounded(read: Callable[[], object], what: str) -> None:
    """Run a reader; only our own errors, in one line, within limits of time and memory."""
    begun = time.process_time()
    tracemalloc.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read()
    except CryosegError as error:
        text = str(error)
        assert "\n" not in text, (what, text)
        assert text, what
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < MEMORY, (what, peak)
    assert time.process_time() - begun < SECONDS, what


def volume_reader(path: Path) -> None:
    tomogram = read_tomogram(path)
    assert tomogram.data.ndim == 3
    assert tomogram.data.dtype.kind in "iuf"
    assert tomogram.data.dtype.isnative
    assert np.isfinite(tomogram.geometry.origin + tomogram.geometry.voxel_size).all()
    assert min(tomogram.geometry.voxel_size) >= 0
    improbable_voxel_size(tomogram.geometry)
    read_mask(path)
    # What was read can be written: nothing in a header may break the writer later.
    output = path.parent / "output.mrc"
    write_mrc(output, tomogram.data, tomogram.geometry, dtype="float32", label="x")


def picks_reader(path: Path) -> None:
    for picks in read_picks(path, FRAME).values():
        assert picks.centers.ndim == 2
        assert picks.centers.shape[1] in (2, 3)
        assert np.isfinite(picks.centers).all()
        assert picks.scores is None or picks.scores.shape == (len(picks),)
        assert picks.tracks is None or picks.tracks.shape == (len(picks),)
        assert picks.shifts is None
        if picks.rotations is not None:
            assert picks.rotations.shape == (len(picks), 3, 3)
            assert np.isfinite(picks.rotations).all()
        assert np.isfinite(picks.diameter_px)


def micrograph_reader(path: Path) -> None:
    is_single_image(path)
    image = read_micrograph(path)
    assert image.data.ndim == 2
    assert np.isfinite(image.data).all()
    assert np.isfinite(image.pixel_size)


def picture_reader(path: Path) -> None:
    for read in (read_size, read_rgb, read_probabilities):
        with contextlib.suppress(CryosegError):
            read(path)
    read_picture_mask(path)


def text_reader(path: Path) -> None:
    is_cetpick_list(path)
    is_coordinate_table(path)
    read_cetpick_list(path)


def list_reader(path: Path) -> None:
    for item in resolve_inputs([path]):
        assert "\n" not in (item.error or "")


def _picks(flavor: PickFormat, picks: Picks = PICKS) -> Callable[[Path], None]:
    return lambda path: write_picks(path, {"ts_01": picks}, FRAME, flavor=flavor)


def _text(content: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(content, encoding="utf-8")


def _mrc(pack: Callable[[bytes], bytes] = bytes, data: np.ndarray = VOLUME) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        write_mrc(path, data, GEOMETRY, dtype="int16", label="x")
        path.write_bytes(pack(path.read_bytes()))

    return write


def _tiff(**options: Any) -> Callable[[Path], None]:
    return lambda path: tifffile.imwrite(path, VOLUME, photometric="minisblack", **options)


def _em(path: Path) -> None:
    header = bytearray(512)
    header[0], header[3] = 6, 2
    struct.pack_into("<3i", header, 4, *VOLUME.shape[::-1])
    struct.pack_into("<i", header, 120, 10500)
    path.write_bytes(bytes(header) + VOLUME.astype("<i2").tobytes())


def _hdf5(**options: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        import h5py

        with h5py.File(path, "w") as file:
            image = file.create_dataset("MDF/images/0/image", data=VOLUME, **options)
            image.parent.attrs["EMAN.apix_x"] = 10.0
            image.attrs["element_size_um"] = (0.001, 0.001, 0.001)
            image.attrs["axistags"] = json.dumps({"axes": [{"key": key} for key in "zyx"]})

    return write


def _zarr(version: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        group = zarr.open_group(path, mode="w", zarr_format=version)
        group.create_array("0", data=VOLUME, chunks=(2, 5, 6))
        steps = [{"type": "scale", "scale": [1.0, 1.0, 1.0]}]
        axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"]
        one = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": steps}]}
        group.attrs.update({"multiscales": [one]} if version == 2 else {"ome": {"multiscales": [one]}})

    return write


def _picture(path: Path) -> None:
    Image.fromarray(IMAGE).save(path)


def _score(path: Path) -> None:
    truth = VOLUME > 60
    config = EvaluateConfig(metrics=tuple(EvaluateConfig.metrics))
    write_record(path, {"score": score_to_json(evaluate_mask(VOLUME > 50, truth, config))})


def _safetensors(path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))


def _torch_zip(path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("model/data.pkl", b"\x80\x02}q\x00.")
        archive.writestr("model/data/0", bytes(64))
    path.write_bytes(stream.getvalue())


def _sidecar(path: Path) -> None:
    path.write_text("x")
    path.with_name(path.name + ".sha256").write_text(f"{'0' * 64}  {path.name}\n")


def _list(path: Path) -> None:
    path.write_text("# volumes\na.mrc\n*.mrc  # more\nb.h5:/x\n")


OME = {"axes": "ZYX", "PhysicalSizeX": 1.0, "PhysicalSizeXUnit": "nm"}
TESTSET = "dataset_id,run_id,annotation_ids,split\n10000,247,1|2,test\n10001,3,none,train\n"
CETPICK = "image_name\tx_coord\ty_coord\tz_coord\nts_01\t3\t4\t5\nts_01\t6\t7\t8\n"
POINTS = (
    '{"type": "instancePoint", "location": {"x": 1.0, "y": 2.0, "z": 3.0}, "instance_id": 4, "score": 0.5}\n'
)
TOMOGRAMS_STAR = """data_global

loop_
_rlnTomoName #1
_rlnTomoTiltSeriesPixelSize #2
_rlnTomoSizeX #3
_rlnTomoSizeY #4
_rlnTomoSizeZ #5
_rlnTomoReconstructedTomogram #6
ts_01 2.5 400 400 200 rec_ts_01.mrc
ts_02 2.5 400 400 200 rec_ts_02.mrc
"""

Case = tuple[str, Callable[[Path], None], Callable[[Path], object]]
CASES: dict[str, Case] = {
    "mrc": ("f.mrc", _mrc(), volume_reader),
    "mrc.gz": ("f.mrc.gz", _mrc(gzip.compress), volume_reader),
    "mrc.bz2": ("f.rec.bz2", _mrc(bz2.compress), volume_reader),
    "tiff": ("f.tif", _tiff(metadata=None), volume_reader),
    "tiff zlib": ("f.tif", _tiff(metadata=None, compression="zlib", byteorder=">"), volume_reader),
    "tiff tiles": ("f.tif", _tiff(tile=(16, 16), compression="zlib", bigtiff=True), volume_reader),
    "tiff shaped": ("f.tif", _tiff(), volume_reader),
    "ome-tiff": ("f.ome.tif", _tiff(metadata=OME), volume_reader),
    "imagej": (
        "f.tif",
        _tiff(imagej=True, resolution=(1, 1), metadata={"unit": "nm", "spacing": 2}),
        volume_reader,
    ),
    "em": ("f.em", _em, volume_reader),
    "hdf5": ("f.h5", _hdf5(), volume_reader),
    "hdf5 gzip": ("f.h5", _hdf5(chunks=(2, 5, 6), compression="gzip"), volume_reader),
    "zarr 2": ("f.zarr", _zarr(2), volume_reader),
    "zarr 3": ("f.zarr", _zarr(3), volume_reader),
    "micrograph mrc": ("f.mrc", _mrc(data=IMAGE[None].astype(np.int16)), micrograph_reader),
    "micrograph tiff": (
        "f.tif",
        lambda path: tifffile.imwrite(path, IMAGE, compression="zlib"),
        micrograph_reader,
    ),
    "micrograph png": ("f.png", _picture, micrograph_reader),
    "micrograph jpeg": ("f.jpg", _picture, micrograph_reader),
    **{f"picture {name}": (f"f.{name}", _picture, picture_reader) for name in ("png", "jpg", "bmp", "tif")},
    "picture list": (
        "f.csv",
        _text("image_name,train_type,mask_name\na/f.png,train,b/f.png\n"),
        read_picture_list,
    ),
    "star": ("f.star", _picks(PickFormat.STAR), picks_reader),
    "star of oriented particles": ("f.star", _picks(PickFormat.STAR, ORIENTED), picks_reader),
    "dynamo": ("f.tbl", _picks(PickFormat.DYNAMO, ORIENTED), picks_reader),
    "motive list": ("f.em", _picks(PickFormat.MOTL, ORIENTED), picks_reader),
    "stopgap": ("f.star", _picks(PickFormat.STOPGAP, ORIENTED), picks_reader),
    "peet": ("f.csv", _picks(PickFormat.PEET, ORIENTED), picks_reader),
    "copick": ("f.json", _picks(PickFormat.COPICK, ORIENTED), picks_reader),
    "cryosparc data set": ("f.cs", _picks(PickFormat.CRYOSPARC_EXTERNAL, FLAT), picks_reader),
    "star relion 4": (
        "f.star",
        _picks(PickFormat.STAR_RELION4),
        lambda path: read_picks(path, replace(FRAME, unbinned=True)),
    ),
    "star relion 5": ("f.star", _picks(PickFormat.STAR_RELION5), picks_reader),
    "star joined": (
        "f.star",
        _picks(PickFormat.STAR),
        lambda path: join_stars({path: "a"}, path.parent / "output.star"),
    ),
    "tomograms.star": ("tomograms.star", _text(TOMOGRAMS_STAR), read_tomograms_star),
    "csv": ("f.csv", _picks(PickFormat.CSV), picks_reader),
    "tsv of cet-pick": ("f.tsv", _text(CETPICK), picks_reader),
    "model2point": ("f.point", _text("1 1 10.5 20.5 3\n1 1 11.5 2.5 30\n"), picks_reader),
    "topaz": ("f.txt", _text("image_name\tx_coord\ty_coord\tscore\na\t1\t2\t0.5\n"), picks_reader),
    "image list": ("f.txt", _text("image_name\trec_path\nts_01\tts_01.mrc\n"), text_reader),
    "coords": ("f.coords", _picks(PickFormat.COORDS), picks_reader),
    "imod": ("f.mod", _picks(PickFormat.MOD), picks_reader),
    "ndjson": ("f.ndjson", _text(POINTS + POINTS), picks_reader),
    "oriented ndjson": ("f.ndjson", _picks(PickFormat.NDJSON, ORIENTED), picks_reader),
    "box": ("f.box", _picks(PickFormat.BOX, FLAT), picks_reader),
    "cbox": ("f.cbox", _picks(PickFormat.CBOX, FLAT), picks_reader),
    "cryoppp": ("f.csv", _picks(PickFormat.CRYOPPP, FLAT), picks_reader),
    "record": (
        "f.json",
        lambda path: write_record(path, {"a": [1, 2.5], "b": {"c": None}}),
        read_record,
    ),
    "score": ("f.json", _score, read_score),
    "testset": ("f.csv", _text(TESTSET), read_testset),
    "safetensors": ("f.safetensors", _safetensors, check_structure),
    "torch zip": ("f.pt", _torch_zip, check_structure),
    "sidecar": ("f.pt", _sidecar, recorded_sha256),
    "list of inputs": ("f.txt", _list, list_reader),
}
NEEDS_H5PY = pytest.mark.skipif(importlib.util.find_spec("h5py") is None, reason="needs the extra hdf5")
each_case = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=NEEDS_H5PY) if "hdf5" in name else name for name in CASES]
)


class Sample:
    """A valid file, and the same with damage."""

    def __init__(self, name: str, folder: Path) -> None:
        file_name, write, self.read = CASES[name]
        self.name, self.path = name, folder / file_name
        write(self.path)
        files = [self.path] if self.path.is_file() else [one for one in self.path.rglob("*") if one.is_file()]
        side = self.path.with_name(self.path.name + ".sha256")
        self.files = [side] if side.exists() else sorted(files)
        self.contents = [file.read_bytes() for file in self.files]

    def check(self, damage: list[Damage], which: int = 0) -> None:
        """Damage one file, read, and mend it."""
        which %= len(self.files)
        file, content = self.files[which], self.contents[which]
        file.write_bytes(damaged(content, damage))
        try:
            bounded(lambda: self.read(self.path), f"{self.name}, file {which}, {damage}")
        finally:
            file.write_bytes(content)


@pytest.fixture(autouse=True)
def _small_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    """What chunked formats may leave out is 4 GiB for users, and too much for a test."""
    monkeypatch.setattr(memory, "BACKGROUND_BYTES", 2**20)
    monkeypatch.setattr(omezarr, "MOST_CHUNKS", 1000)


@cache
def _sample(name: str, folder: Path) -> Sample:
    return Sample(name, folder)


DAMAGE = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, 2**16), st.integers(0, 2**16)), min_size=1, max_size=4
)


@each_case
def test_valid_files_are_read(name: str, tmp_path: Path) -> None:
    if name == "picture list":
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir()
            Image.fromarray(IMAGE).save(tmp_path / folder / "f.png")
    sample = Sample(name, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sample.read(sample.path)


@each_case
@settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(damage=DAMAGE, which=st.integers(0, 9))
def test_damaged_files_end_in_our_own_errors(
    name: str, tmp_path: Path, damage: list[Damage], which: int
) -> None:
    _sample(name, tmp_path).check(damage, which)


@pytest.mark.slow
def test_many_damaged_files_in_a_child() -> None:
    # The HDF5 library itself can loop over damaged attributes, where nothing of ours can end it, and the
    # codecs of OME-Zarr 0.4 believe the size that a damaged chunk claims, up to 4 GiB.
    names = [name for name in CASES if "hdf5" not in name and name != "zarr 2"]
    command = [sys.executable, __file__, ",".join(names), "1", "200"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr[-2000:]}"


def _main(names: list[str], seed: int, count: int) -> int:
    memory.BACKGROUND_BYTES = 2**20
    omezarr.MOST_CHUNKS = 1000
    faults: dict[str, str] = {}
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            sample = Sample(name, Path(folder))
            sample.check([("flip", 2, 0)])  # what is imported and started on the way is no part of the limit
            _limit_memory(6 * 2**30)  # less makes allocators spin that reserve addresses ahead
            for damage, which in _draw(random.Random(seed), count):
                sys.stderr.write(f"\r{name} {which} {damage}")
                sys.stderr.flush()
                # A hang ends the process, and the last line tells where; time of others is not counted.
                signal.setitimer(signal.ITIMER_PROF, 30.0)
                try:
                    sample.check(damage, which)
                except Exception as error:
                    place = traceback.extract_tb(error.__traceback__)[-1]
                    key = f"{name}: {type(error).__name__} at {place.filename}:{place.lineno}"
                    faults.setdefault(key, f"{str(error)[:300]} after {which}, {damage}")
                signal.setitimer(signal.ITIMER_PROF, 0.0)
    for key, text in faults.items():
        sys.stdout.write(f"{key}: {text}\n")
    return 1 if faults else 0


def _draw(rng: random.Random, count: int) -> Iterator[tuple[list[Damage], int]]:
    for _ in range(count):
        several = rng.choice((1, 1, 2, 4))
        damage = [(rng.choice(KINDS), rng.randrange(2**16), rng.randrange(2**16)) for _ in range(several)]
        yield damage, rng.randrange(9)


def _limit_memory(more: int) -> None:
    """Let this process take `more` bytes of address space than it has."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, hard))


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1].split(","), int(sys.argv[2]), int(sys.argv[3])))
