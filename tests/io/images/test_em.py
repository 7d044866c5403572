"""EM files made byte by byte by the published table of the format."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from cryoseg.config import Mode0
from cryoseg.errors import InputError
from cryoseg.io.images.volumes import improbable_voxel_size, read_tomogram

DATA = np.arange(2 * 3 * 4).reshape(2, 3, 4)
TYPES = {"i1": 1, "u1": 1, "i2": 2, "i4": 4, "f4": 5, "f8": 9}


def em(data: np.ndarray = DATA, kind: str = "f4", *, machine: int = 6, pixel: int = 10500) -> bytes:
    order = ">" if machine in (0, 3, 5) else "<"
    header = bytearray(512)
    header[0], header[3] = machine, TYPES[kind]
    struct.pack_into(order + "3i", header, 4, *data.shape[::-1])
    struct.pack_into(order + "i", header, 96 + 6 * 4, pixel)
    return bytes(header) + data.astype(order + kind).tobytes()


def save(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", ["i1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("machine", [0, 3, 5, 6])
def test_every_type_of_every_machine(tmp_path: Path, kind: str, machine: int) -> None:
    found = read_tomogram(save(tmp_path / "a.em", em(kind=kind, machine=machine)))
    np.testing.assert_array_equal(found.data, DATA)
    assert found.data.dtype == np.dtype(kind)
    assert found.data.dtype.isnative
    assert found.geometry.voxel_size == (10.5, 10.5, 10.5)
    assert not found.warnings


def test_bytes_can_be_unsigned(tmp_path: Path) -> None:
    path = save(tmp_path / "a.em", em(np.full((2, 2, 2), 200), "u1"))
    assert read_tomogram(path).data[0, 0, 0] == -56
    assert read_tomogram(path, mode0=Mode0.UNSIGNED).data[0, 0, 0] == 200


def test_no_pixel_size_is_named(tmp_path: Path) -> None:
    geometry = read_tomogram(save(tmp_path / "a.em", em(pixel=0))).geometry
    assert geometry.voxel_size == (0.0, 0.0, 0.0)
    assert "--pixel-size" in str(improbable_voxel_size(geometry))
    assert read_tomogram(save(tmp_path / "b.em", em(pixel=-7))).geometry.voxel_size == (0.0, 0.0, 0.0)


def test_a_wrong_machine_code_is_found_out(tmp_path: Path) -> None:
    content = bytearray(em())
    content[0] = 5
    found = read_tomogram(save(tmp_path / "a.em", bytes(content)))
    np.testing.assert_array_equal(found.data, DATA)
    assert found.geometry.voxel_size == (10.5,) * 3
    assert "little-endian" in found.warnings[0]


def test_longer_files_are_read_with_a_warning(tmp_path: Path) -> None:
    found = read_tomogram(save(tmp_path / "a.em", em() + b"rest"))
    np.testing.assert_array_equal(found.data, DATA)
    assert "4 bytes longer" in found.warnings[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (em()[:100], "512-byte EM header"),
        (em()[:-1], "cut short"),
        (b"\x09" + em()[1:], "no EM file"),
        (em()[:3] + b"\x08" + em()[4:], "complex"),
        (b"\x01" + em()[1:], "VAX"),
        (em()[:4] + bytes(12) + em()[16:], "0 x 0 x 0 voxels"),
        (em()[:4] + b"\x10\x27\0\0" * 3 + em()[16:], "10000 x 10000 x 10000"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        read_tomogram(save(tmp_path / "a.em", content))
    assert "\n" not in str(caught.value)
