"""The .json beside every output: what made it, from what, with which settings and weights."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from cryoseg.errors import InputError
from cryoseg.io.outputs import atomic_output


def write_provenance(path: Path, record: Mapping[str, Any], *, overwrite: bool = False) -> None:
    """Write a record as JSON with sorted keys.

    Parameters
    ----------
    path
        The file; appears only when it is complete.
    record
        May hold dataclasses, enums, paths, numpy scalars and arrays, tuples and sets (written
        sorted). NaN and infinity become null, which JSON has instead.
    overwrite
        Replace an existing file.

    Raises
    ------
    OutputError
        If the file exists or cannot be written.
    TypeError
        If a value has no form in JSON.
    """
    text = json.dumps(_plain(record), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    with atomic_output(path, overwrite=overwrite) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_provenance(path: Path) -> dict[str, Any]:
    """Read what `write_provenance` wrote.

    Raises
    ------
    InputError
        If the file is missing or holds no JSON object.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). Check the name.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: holds no JSON ({error}). Give the .json that lies beside an output."
        ) from error
    if not isinstance(record, dict):
        raise InputError(f"{path}: holds no JSON object. Give the .json that lies beside an output.")
    return record


def hash_file(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal; read in pieces.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). Check the name.") from error


def _plain(value: Any) -> Any:
    match value:
        case Enum():
            return _plain(value.value)
        case None | bool() | str() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(_plain(key)): _plain(entry) for key, entry in value.items()}
        case set() | frozenset():
            return sorted(_plain(entry) for entry in value)
        case list() | tuple():
            return [_plain(entry) for entry in value]
        case Path():
            return str(value)
        case np.ndarray() | np.generic():
            return _plain(value.tolist())
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {entry.name: _plain(getattr(value, entry.name)) for entry in dataclasses.fields(value)}
    raise TypeError(f"{type(value).__name__} has no form in JSON")
