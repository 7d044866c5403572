"""MRC files made byte by byte, independently of the code under test."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import pytest

# name: (struct code, byte offset), from the table of the MRC2014 paper and IMOD's description.
OFFSETS = {
    "nx": ("i", 0),
    "ny": ("i", 4),
    "nz": ("i", 8),
    "mode": ("i", 12),
    "nxstart": ("i", 16),
    "nystart": ("i", 20),
    "nzstart": ("i", 24),
    "mx": ("i", 28),
    "my": ("i", 32),
    "mz": ("i", 36),
    "xlen": ("f", 40),
    "ylen": ("f", 44),
    "zlen": ("f", 48),
    "alpha": ("f", 52),
    "beta": ("f", 56),
    "gamma": ("f", 60),
    "mapc": ("i", 64),
    "mapr": ("i", 68),
    "maps": ("i", 72),
    "dmin": ("f", 76),
    "dmax": ("f", 80),
    "dmean": ("f", 84),
    "ispg": ("i", 88),
    "nsymbt": ("i", 92),
    "nversion": ("i", 108),
    "imodStamp": ("i", 152),
    "imodFlags": ("i", 156),
    "xorg": ("f", 196),
    "yorg": ("f", 200),
    "zorg": ("f", 204),
    "map": ("4s", 208),
    "stamp": ("4s", 212),
}
STAMPS = {"<": b"DD\x00\x00", ">": b"\x11\x11\x00\x00"}
MODES = {"i1": 0, "u1": 0, "i2": 1, "f4": 2, "u2": 6, "f2": 12}

MakeMrc = Callable[..., bytes]


def _make(data: np.ndarray | bytes, *, order: str = "<", extended: bytes = b"", **fields: object) -> bytes:
    values: dict[str, object] = {"ispg": 1, "map": b"MAP ", "stamp": STAMPS[order], "nversion": 20140}
    values |= {"alpha": 90, "beta": 90, "gamma": 90, "mapc": 1, "mapr": 2, "maps": 3, "nsymbt": len(extended)}
    if isinstance(data, np.ndarray):
        nz, ny, nx = data.shape
        values |= {"nx": nx, "ny": ny, "nz": nz, "mx": nx, "my": ny, "mz": nz}
        values |= {"xlen": 10 * nx, "ylen": 10 * ny, "zlen": 10 * nz, "mode": MODES[data.dtype.str[1:]]}
        data = data.astype(data.dtype.newbyteorder(order)).tobytes()
    header = bytearray(1024)
    for name, value in (values | fields).items():
        code, offset = OFFSETS[name]
        struct.pack_into(order + code, header, offset, value)
    return bytes(header) + extended + data


@pytest.fixture(scope="session")
def make_mrc() -> MakeMrc:
    """Bytes of an MRC file of an array (z, y, x), or of raw bytes; keywords override header fields."""
    return _make
