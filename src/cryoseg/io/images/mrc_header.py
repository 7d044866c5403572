"""Read the header of an MRC volume, correct what is certainly wrong in it, and warn of each correction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cryoseg.config import Mode0
from cryoseg.errors import InputError
from cryoseg.types import Geometry

HEADER_BYTES = 1024
IMOD_STAMP = 1146047817  # The letters IMOD. Source: IMOD's MRC format description, imodStamp
IMOD_SIGNED = 1  # Source: the same, imodFlags
IMOD_INVERTED_ORIGIN = 4
MRC2014_VERSION = 20140  # Source: Cheng et al. 2015, J. Struct. Biol. 192, 146; field NVERSION
_STANDARD_VERSIONS = range(MRC2014_VERSION, 21000)  # A year times ten, plus a counter.
LABEL_BYTES = 80
# Lengths in angstrom that a number in the place of another field may mean.
PLAUSIBLE_ORIGINS = (1e-3, 1e7)

ByteOrder = Literal["<", ">"]
ORDER_NAME = {"<": "little-endian", ">": "big-endian"}
STAMPS: dict[bytes, ByteOrder] = {b"\x44\x44": "<", b"\x44\x41": "<", b"\x11\x11": ">"}

PACKED_4BIT = 101
DTYPES = {1: "i2", 2: "f4", 6: "u2", 12: "f2"}  # Mode 0 depends on IMOD's flags.
_REFUSED = {3: "complex 16-bit integers", 4: "complex 32-bit floats", 16: "RGB colours"}
_KNOWN_MODES = {0, PACKED_4BIT, *DTYPES, *_REFUSED}

_FIELDS = {  # name: (format, byte offset)
    "size": ("3i4", 0),  # columns, rows, sections
    "mode": ("i4", 12),
    "start": ("3i4", 16),  # columns, rows, sections
    "grid": ("3i4", 28),  # x, y, z
    "cell": ("3f4", 40),
    "angles": ("3f4", 52),
    "axes": ("3i4", 64),  # axis (1 = x) of columns, rows, sections
    "density": ("3f4", 76),  # minimum, maximum, mean
    "space_group": ("i4", 88),
    "extended_bytes": ("i4", 92),
    "extended_kind": ("V4", 104),
    "version": ("i4", 108),
    "extended_counts": ("V4", 128),  # nint and nreal of IMOD's older files
    "imod_stamp": ("i4", 152),
    "imod_flags": ("i4", 156),
    "origin": ("3f4", 196),  # x, y, z
    "map": ("S4", 208),
    "stamp": ("V4", 212),
    "rms": ("f4", 216),
    "label_count": ("i4", 220),
    "labels": (f"10S{LABEL_BYTES}", 224),
}


def header_dtype(order: ByteOrder) -> np.dtype[Any]:
    """Return the structured type of the header in one byte order."""
    dtype = np.dtype(
        {
            "names": list(_FIELDS),
            "formats": [fmt for fmt, _ in _FIELDS.values()],
            "offsets": [offset for _, offset in _FIELDS.values()],
            "itemsize": HEADER_BYTES,
        }
    )
    return dtype.newbyteorder(order)


@dataclass(frozen=True, kw_only=True)
class MrcHeader:
    """Content of a header.

    Attributes
    ----------
    stored_shape
        Shape (sections, rows, columns) in the file.
    axes
        Positions of z, y and x in `stored_shape`.
    dtype
        Type of a voxel in the byte order of the file; uint8 for packed 4-bit data.
    packed
        Whether two 4-bit voxels share a byte (mode 101).
    extended_bytes
        Stated length of the extended header, which may be wrong.
    density
        Stated minimum, maximum and mean of the voxels.
    is_signedness_open
        Whether mode 0 has no stamp that says whether the bytes are signed.
    extended_kind, extended_counts
        EXTTYP, and the bytes of nint and nreal.
    is_extended_kept
        Whether outputs keep the extended header, because its byte order and axes are those of outputs.
    warnings
        Corrections, one sentence each.
    """

    stored_shape: tuple[int, int, int]
    axes: tuple[int, int, int]
    dtype: np.dtype[Any]
    packed: bool
    extended_bytes: int
    density: tuple[float, float, float]
    is_signedness_open: bool
    extended_kind: bytes
    extended_counts: bytes
    is_extended_kept: bool
    geometry: Geometry
    warnings: tuple[str, ...]

    @property
    def data_bytes(self) -> int:
        """Size of the voxels in the file, in bytes."""
        sections, rows, columns = self.stored_shape
        row_bytes = (columns + 1) // 2 if self.packed else columns * self.dtype.itemsize
        return sections * rows * row_bytes


def parse_header(block: bytes, *, path: Path, mode0: Mode0, file_bytes: int | None) -> MrcHeader:
    """Read a header.

    Parameters
    ----------
    block
        First 1024 bytes of the uncompressed file.
    path
        Name of the file for messages.
    mode0
        Interpretation of the bytes of mode 0.
    file_bytes
        Size of the uncompressed file, if it is known; it decides the byte order if the stamp is wrong.

    Raises
    ------
    InputError
        If the block is not the header of a volume of real numbers.
    """
    if len(block) < HEADER_BYTES:
        raise InputError(
            f"{path}: the file ends after {len(block)} bytes, inside the 1024-byte MRC header. "
            "Copy or download it again."
        )
    _refuse_text(block, path)
    warnings: list[str] = []
    order = _byte_order(block, file_bytes, warnings)
    fields = np.frombuffer(block, header_dtype(order))[0]
    columns, rows, sections = (int(n) for n in fields["size"])
    if min(columns, rows, sections) <= 0:
        raise InputError(
            f"{path}: the header gives {columns} x {rows} x {sections} voxels (x, y, z), "
            "so this is no MRC volume, or a damaged one. Copy or export it again."
        )
    if not bytes(fields["map"]).startswith(b"MAP"):
        warnings.append("The header lacks the letters MAP; the file is read as MRC2014.")
    dtype, packed = _voxel_type(fields, path, mode0)
    axes = _axes(fields, path, warnings)
    space_group = _space_group(fields, path, sections, warnings)
    extended_bytes = int(fields["extended_bytes"])
    if extended_bytes < 0:
        warnings.append(f"The header's nsymbt is {extended_bytes}; no extended header is assumed.")
        extended_bytes = 0
    stored_shape = (sections, rows, columns)
    old_origin = _old_origin(block, order, warnings)
    imod = int(fields["imod_stamp"]) == IMOD_STAMP
    inverted = imod and bool(int(fields["imod_flags"]) & IMOD_INVERTED_ORIGIN)
    stored_start = [int(n) for n in fields["start"][::-1]]
    start_z, start_y, start_x = (stored_start[axis] for axis in axes)
    low, high, mean = (float(value) for value in fields["density"])
    return MrcHeader(
        stored_shape=stored_shape,
        axes=axes,
        dtype=dtype.newbyteorder(order),
        packed=packed,
        extended_bytes=extended_bytes,
        density=(low, high, mean),
        is_signedness_open=int(fields["mode"]) == 0 and mode0 is Mode0.AUTO and not imod,
        extended_kind=bytes(fields["extended_kind"]),
        extended_counts=bytes(fields["extended_counts"]),
        is_extended_kept=axes == (0, 1, 2) and (order == "<" or bytes(fields["extended_kind"]) == b"CCP4"),
        geometry=Geometry(
            voxel_size=_voxel_size(fields, [stored_shape[axis] for axis in axes], warnings),
            origin=_origin(fields, warnings) if old_origin is None else old_origin,
            start=(start_z, start_y, start_x),
            space_group=space_group,
            imod_origin=not inverted and int(fields["version"]) not in _STANDARD_VERSIONS,
        ),
        warnings=tuple(warnings),
    )


def _refuse_text(block: bytes, path: Path) -> None:
    start = block.lstrip()[:64].lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise InputError(
            f"{path}: this is a web page, not an MRC file; the download failed. Download it again."
        )
    if all(byte in b"\t\n\r\f" or 32 <= byte < 127 for byte in block):
        raise InputError(f"{path}: this is a text file, not an MRC file. Give the volume itself.")


def _plausible(block: bytes, order: ByteOrder) -> bool:
    fields = np.frombuffer(block, header_dtype(order))[0]
    size, axes = fields["size"], fields["axes"]
    return bool(
        int(fields["mode"]) in _KNOWN_MODES
        and size.min() > 0
        and size.min() < 65536
        and axes.min() >= 0
        and axes.max() <= 3
    )


def _fits(block: bytes, order: ByteOrder, file_bytes: int | None) -> bool:
    fields = np.frombuffer(block, header_dtype(order))[0]
    mode = int(fields["mode"])
    itemsize = {0: 1, **{known: np.dtype(code).itemsize for known, code in DTYPES.items()}}.get(mode)
    if file_bytes is None or itemsize is None:
        return False
    columns, rows, sections = (int(n) for n in fields["size"])
    return HEADER_BYTES + columns * rows * sections * itemsize <= file_bytes


def _byte_order(block: bytes, file_bytes: int | None, warnings: list[str]) -> ByteOrder:
    stamped = STAMPS.get(block[212:214])
    orders: list[ByteOrder] = ["<", ">"]
    best = max(
        orders,
        key=lambda order: (
            _plausible(block, order),
            order == stamped,
            _fits(block, order, file_bytes),
            order == "<",
        ),
    )
    if stamped is None:
        warnings.append(
            f"The machine stamp is {block[212:216].hex(' ')}, which names no byte order; "
            f"the sizes make sense as {ORDER_NAME[best]}."
        )
    elif stamped != best:
        warnings.append(
            f"The machine stamp says {ORDER_NAME[stamped]}, "
            f"but the sizes make sense only as {ORDER_NAME[best]}."
        )
    return best


def _voxel_type(fields: np.void, path: Path, mode0: Mode0) -> tuple[np.dtype[Any], bool]:
    mode = int(fields["mode"])
    if mode == 0:
        unsigned = mode0 is Mode0.UNSIGNED
        if mode0 is Mode0.AUTO:
            stamped = int(fields["imod_stamp"]) == IMOD_STAMP
            unsigned = stamped and not int(fields["imod_flags"]) & IMOD_SIGNED
        return np.dtype("u1" if unsigned else "i1"), False
    if mode == PACKED_4BIT:
        return np.dtype("u1"), True
    if mode in _REFUSED:
        raise InputError(
            f"{path}: MRC mode {mode} ({_REFUSED[mode]}) is no volume of densities. "
            "Give a real-space volume of mode 0, 1, 2, 6, 12 or 101."
        )
    if mode not in DTYPES:
        raise InputError(
            f"{path}: MRC mode {mode} is unknown, so this is no MRC file, or a damaged one. "
            "Known are modes 0, 1, 2, 6, 12 and 101."
        )
    return np.dtype(DTYPES[mode]), False


def _axes(fields: np.void, path: Path, warnings: list[str]) -> tuple[int, int, int]:
    mapped = [int(n) for n in fields["axes"]]  # of columns, rows, sections
    if mapped == [0, 0, 0]:
        warnings.append("The header does not say which axis is which; columns are taken as x, rows as y.")
        mapped = [1, 2, 3]
    if sorted(mapped) != [1, 2, 3]:
        raise InputError(
            f"{path}: mapc, mapr and maps are {mapped[0]}, {mapped[1]}, {mapped[2]}, which is no order of "
            "three axes. Rewrite the file with 1, 2, 3."
        )
    if mapped != [1, 2, 3]:
        names = ", ".join("xyz"[axis - 1] for axis in mapped)
        warnings.append(
            f"The axes are stored in the order {names} and were turned to x, y, z; outputs keep x, y, z."
        )
    stored = mapped[::-1]  # of sections, rows, columns
    return stored.index(3), stored.index(2), stored.index(1)


def _space_group(fields: np.void, path: Path, sections: int, warnings: list[str]) -> int:
    space_group = int(fields["space_group"])
    per_volume = int(fields["grid"][2])
    if 401 <= space_group <= 630 and per_volume != sections:
        raise InputError(
            f"{path}: space group {space_group} means a stack of volumes ({sections} sections, "
            f"{per_volume} a volume). Give one volume a file."
        )
    if not 0 <= space_group <= 630:
        warnings.append(f"The space group is {space_group}; it is read and written as 1, a volume.")
        return 1
    return space_group


def _voxel_size(fields: np.void, shape: list[int], warnings: list[str]) -> tuple[float, float, float]:
    sizes = []
    for name, n, grid, cell in zip("zyx", shape, fields["grid"][::-1], fields["cell"][::-1], strict=True):
        intervals = int(grid)
        if intervals <= 0:
            warnings.append(f"m{name} is {intervals}; the {n} voxels of the volume are used instead.")
            intervals = n
        length = float(cell)
        if not np.isfinite(length) or length < 0:
            warnings.append(
                f"The cell is {length:g} angstrom along {name}; its voxel size counts as not set."
            )
            length = 0.0
        sizes.append(length / intervals)
    angles: NDArray[np.float32] = fields["angles"]
    if np.any(angles != 90) and np.any(angles != 0):
        warnings.append("The cell angles are not 90 degrees; they are ignored.")
    return sizes[0], sizes[1], sizes[2]


def _old_origin(block: bytes, order: ByteOrder, warnings: list[str]) -> tuple[float, float, float] | None:
    """Return the origin (z, y, x) of a header before MRC2000, which has z, x, y at the place of MAP.

    Source: IMOD's MRC format description, the note on the header before version 2.6.20.
    """
    if block[208:211] == b"MAP" or block[212:214] in STAMPS:
        return None
    x, y, z = np.frombuffer(block, f"{order}f4", 3, offset=196)
    old = np.frombuffer(block, f"{order}f4", 3, offset=208).astype(np.float64)
    low, high = PLAUSIBLE_ORIGINS
    if not np.any(old) or not np.all((old == 0) | ((low < np.abs(old)) & (np.abs(old) < high))):
        return None
    if any(abs(float(value)) > low for value in (x, y, z)):  # The origin is where MRC2014 has it.
        return None
    warnings.append("The header is older than MRC2000; its origin was read from the place of MAP in MRC2014.")
    return float(old[0]), float(old[2]), float(old[1])


def _origin(fields: np.void, warnings: list[str]) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in fields["origin"])
    if not np.all(np.isfinite((z, y, x))):
        warnings.append("The origin is not a number; it is read and written as 0.")
        return 0.0, 0.0, 0.0
    return z, y, x
