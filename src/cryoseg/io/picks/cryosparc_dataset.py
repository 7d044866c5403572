"""Particle locations of cryoSPARC: a structured array of NumPy in a .cs file.

Positions are fractions of the width and height of the micrograph, the height counted from the first row of
the file, which cryoSPARC draws at the bottom. Sources: the fields that `cryosparc-tools` gives the slots
location and pick_stats; flip-particle-y.py in cryoem-uoft/cryosparc-examples@0cf5785, which draws
`center_y_frac * height` over the rows of the MRC file.
"""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import replace
from pathlib import Path, PurePosixPath
from tokenize import TokenError

import numpy as np
from numpy.typing import NDArray

from cryoseg.errors import InputError, OutputError, reading
from cryoseg.io.outputs import atomic_output
from cryoseg.io.picks.frame import PickFrame
from cryoseg.io.picks.sets import PickSets
from cryoseg.io.picks.text import as_scores
from cryoseg.types import Picks

HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
LOCATION, SCORES = "location/", ("pick_stats/ncc_score", "pick_stats/power")
NEEDED = tuple(
    f"{LOCATION}{name}" for name in ("micrograph_path", "micrograph_shape", "center_x_frac", "center_y_frac")
)
PIXEL_SIZE = f"{LOCATION}micrograph_psize_A"
MICROGRAPH_UID = f"{LOCATION}micrograph_uid"
CRYOSPARC_EXTERNAL_COLUMNS = ("uid", MICROGRAPH_UID, f"{LOCATION}exp_group_id")  # Numbers that are kept.
UID_DIGITS = 21  # Digits in front of the names of cryoSPARC's own micrographs.


def read_cryosparc_external(path: Path, frame: PickFrame) -> PickSets:
    """Read locations by the path of the micrograph."""
    with reading(path):
        content = path.read_bytes()
    try:
        table = _array(content)
    except (ValueError, TypeError, SyntaxError, TokenError, OverflowError, RecursionError) as error:
        raise InputError(
            f"{path}: is no structured array of NumPy, as `Dataset.save` of cryosparc-tools writes it."
        ) from error
    names = table.dtype.names or ()
    missing = [name for name in NEEDED if name not in names]
    if missing:
        raise InputError(f"{path}: the field {missing[0]} is missing. Give particles with locations.")
    try:
        shapes = table[NEEDED[1]].astype(np.float64).reshape(-1, 2)
        fractions = np.stack([table[NEEDED[3]], table[NEEDED[2]]], axis=1).astype(np.float64)
        paths = [_text(value) for value in table[NEEDED[0]]]
        sizes = table[PIXEL_SIZE].astype(np.float64) if PIXEL_SIZE in names else np.zeros(len(table))
        scores = as_scores(table[SCORES[0]].astype(np.float64)) if SCORES[0] in names else None
        centers = fractions * shapes
        if not (np.isfinite(centers).all() and len(centers) == len(table) == len(sizes)):
            raise ValueError
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: a field of the locations holds no numbers. Save it again.") from error
    further = {
        name: np.array([_text(value) for value in table[name]], dtype=object)
        for name in names
        if table[name].ndim == 1 and name not in {*NEEDED, PIXEL_SIZE, *SCORES}
    }
    lost = [name for name in names if table[name].ndim > 1 and name not in NEEDED]
    said = f"{path.name}: fields of several numbers are not read: {', '.join(lost[:3])}."
    picks = Picks(
        centers=centers, scores=scores, columns=further, source=path, warnings=(said,) if lost else ()
    )
    rows: dict[str, list[int]] = {}
    for number, name in enumerate(paths):
        rows.setdefault(name, []).append(number)
    sets: PickSets = {}
    for name, chosen in rows.items():
        size, (height, width) = float(sizes[chosen[0]]), shapes[chosen[0]].astype(int).tolist()
        own = picks.take(np.array(chosen))
        sets[name] = replace(own, shape=(height, width), pixel_size=size if size > 0 else 0.0)
    return sets or {"": picks}


def _array(content: bytes) -> NDArray[np.void]:
    """Return the array of an .npy file, without memory for more than there is."""
    stream = io.BytesIO(content)
    reader = HEADERS.get(np.lib.format.read_magic(stream))
    if reader is None:
        raise ValueError
    shape, _, dtype = reader(stream, max_header_size=len(content))
    if len(shape) != 1:
        raise ValueError
    return np.frombuffer(content, dtype, count=shape[0], offset=stream.tell())


def write_cryosparc_external(path: Path, sets: PickSets, frame: PickFrame) -> None:
    """Write locations and scores, which an external job gives to cryoSPARC.

    The number of a micrograph is the one in front of its name, or 0, which the external job replaces.
    """
    names = {name: PurePosixPath(name).as_posix().encode() for name in sets}
    longest = max((len(name) for name in names.values()), default=1)
    dtype = [
        ("uid", "<u8"),
        (MICROGRAPH_UID, "<u8"),
        (f"{LOCATION}exp_group_id", "<u4"),
        (NEEDED[0], f"S{longest}"),
        (NEEDED[1], "<u4", (2,)),
        (NEEDED[2], "<f4"),
        (NEEDED[3], "<f4"),
        (PIXEL_SIZE, "<f4"),
        *((name, "<f4") for name in SCORES),
    ]
    table = np.zeros(sum(len(picks) for picks in sets.values()), dtype=dtype)
    at = 0
    for name, picks in sets.items():
        shape, size = picks.shape or frame.shape, picks.pixel_size or frame.voxel_size
        if shape is None or size <= 0:
            raise OutputError(
                f"{path}: cryoSPARC needs the size and the pixel size of {name}. Pass --image, or --size and "
                "--pixel-size."
            )
        rows = table[at : at + len(picks)]
        at += len(picks)
        rows["uid"] = [_uid(name, number) for number in range(len(picks))]
        prefix = re.match(rf"\d{{{UID_DIGITS}}}(?=_)", PurePosixPath(name).name)
        rows[MICROGRAPH_UID] = int(prefix[0]) if prefix else 0
        rows[NEEDED[0]], rows[NEEDED[1]], rows[PIXEL_SIZE] = names[name], shape[-2:], size
        y, x = (picks.centers / shape[-2:]).T
        rows[NEEDED[2]], rows[NEEDED[3]] = x, y
        for field in SCORES:
            rows[field] = 1.0 if picks.scores is None else picks.scores
        for field in CRYOSPARC_EXTERNAL_COLUMNS:
            texts = picks.columns.get(field, ())
            if len(texts) and all(text.isdecimal() and int(text) < 2**64 for text in texts):
                rows[field] = [int(text) for text in texts]
    with atomic_output(path, overwrite=True) as temporary, temporary.open("wb") as file:
        np.save(file, table, allow_pickle=False)


def _uid(name: str, number: int) -> int:
    """Return the same number of 64 bits for the same particle in every run."""
    digest = hashlib.sha256(f"{name}\n{number}".encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:8], "little")


def _text(value: object) -> str:
    return value.decode(errors="surrogateescape") if isinstance(value, bytes) else str(value)
