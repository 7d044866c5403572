"""Read EM volumes (.em) of the TOM toolbox, PyTom, Dynamo and similar programs.

Source: the table of the format in TOM, Nickell et al. 2005, J. Struct. Biol. 149, 227 (`tom_emread`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cryoseg.config import Mode0
from cryoseg.errors import InputError, reading
from cryoseg.io.images.mrc_header import ORDER_NAME, ByteOrder
from cryoseg.types import Geometry, Tomogram

HEADER_BYTES = 512
_BIG_ENDIAN = {0: "OS-9", 3: "SGI", 5: "Mac"}
_LITTLE_ENDIAN = {6: "PC"}
_OLD_FLOATS = {1: "VAX", 2: "Convex"}  # Their floats are not those of IEEE 754.
_TYPES = {1: "i1", 2: "i2", 4: "i4", 5: "f4", 9: "f8"}
_COMPLEX = (8, 10)
_SIZE = slice(4, 16)  # columns, rows, sections
_PIXEL_SIZE = slice(120, 124)  # The seventh parameter, in thousandths of an angstrom.


def read_em(path: Path, *, mode0: Mode0 = Mode0.AUTO) -> Tomogram:
    """Read an EM volume, memory-mapped if its byte order is that of this machine.

    Parameters
    ----------
    path
        File to read.
    mode0
        Interpretation of bytes; `auto` reads them as signed.

    Returns
    -------
    Tomogram
        (z, y, x) in the type of the file. The voxel size is the pixel size in the header, or 0.

    Raises
    ------
    InputError
        If the file cannot be read, is not an EM file, is too short, or holds complex numbers.
    """
    with reading(path):
        size = path.stat().st_size
        with path.open("rb") as file:
            block = file.read(HEADER_BYTES)
            if len(block) < HEADER_BYTES:
                raise InputError(
                    f"{path}: the file ends after {len(block)} bytes, inside the {HEADER_BYTES}-byte EM "
                    "header. Copy or download it again."
                )
            kind = _voxel_type(block, path, mode0)
            warnings: list[str] = []
            order = _byte_order(block, size, kind, path, warnings)
            shape = _shape(block, order)
            dtype = kind.newbyteorder(order)
            surplus = size - HEADER_BYTES - _data_bytes(shape, dtype)
            if surplus < 0:
                columns, rows, sections = shape[::-1]
                raise InputError(
                    f"{path}: the file is cut short or its header is damaged: {columns} x {rows} x "
                    f"{sections} voxels (x, y, z) need {-surplus} bytes more than there are. Copy or "
                    "export it again."
                )
            if surplus > 0:
                warnings.append(
                    f"The file is {surplus} bytes longer than its header says; the rest is ignored."
                )
            data: Any = np.memmap(file, dtype, mode="r", offset=HEADER_BYTES, shape=shape)
    if not dtype.isnative:
        data = data.astype(dtype.newbyteorder("="))
    angstrom = max(0, int(np.frombuffer(block[_PIXEL_SIZE], f"{order}i4")[0])) / 1000
    return Tomogram(
        data=np.asarray(data),
        geometry=Geometry(voxel_size=(angstrom, angstrom, angstrom)),
        source=path,
        warnings=tuple(warnings),
    )


def _voxel_type(block: bytes, path: Path, mode0: Mode0) -> np.dtype[Any]:
    machine, code = block[0], block[3]
    known = machine in (*_BIG_ENDIAN, *_LITTLE_ENDIAN, *_OLD_FLOATS)
    if not known or code not in (*_TYPES, *_COMPLEX):
        raise InputError(
            f"{path}: begins with the machine code {machine} and the data type {code}, so this is no EM "
            "file, or a damaged one. Copy or export it again."
        )
    if code in _COMPLEX:
        raise InputError(f"{path}: holds complex numbers, not densities. Give a real-space volume.")
    kind = np.dtype(_TYPES[code])
    if machine in _OLD_FLOATS and kind.kind == "f":
        raise InputError(
            f"{path}: holds floats of a {_OLD_FLOATS[machine]}, which nothing else reads. Convert it to MRC."
        )
    return np.dtype("u1") if kind.itemsize == 1 and mode0 is Mode0.UNSIGNED else kind


def _shape(block: bytes, order: ByteOrder) -> tuple[int, int, int]:
    columns, rows, sections = (int(n) for n in np.frombuffer(block[_SIZE], f"{order}i4"))
    return sections, rows, columns


def _data_bytes(shape: tuple[int, int, int], dtype: np.dtype[Any]) -> int:
    return shape[0] * shape[1] * shape[2] * dtype.itemsize


def _byte_order(
    block: bytes, file_bytes: int, kind: np.dtype[Any], path: Path, warnings: list[str]
) -> ByteOrder:
    stated: ByteOrder = ">" if block[0] in _BIG_ENDIAN else "<"
    orders: list[ByteOrder] = [stated, "<" if stated == ">" else ">"]
    possible = [order for order in orders if min(_shape(block, order)) > 0]
    if not possible:
        columns, rows, sections = _shape(block, stated)[::-1]
        raise InputError(
            f"{path}: the header gives {columns} x {rows} x {sections} voxels (x, y, z), so this is no EM "
            "volume, or a damaged one. Copy or export it again."
        )
    fitting = [
        order for order in possible if HEADER_BYTES + _data_bytes(_shape(block, order), kind) <= file_bytes
    ]
    best = (fitting or possible)[0]
    if best != stated:
        warnings.append(
            f"The machine code {block[0]} says {ORDER_NAME[stated]}, but the sizes make sense only as "
            f"{ORDER_NAME[best]}."
        )
    return best
