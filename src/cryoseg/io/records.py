"""Records: the .json file beside every output with its command, input, settings and weights."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cryoseg.errors import InputError, reading
from cryoseg.io.images.hdf5 import split_dataset, with_dataset
from cryoseg.io.outputs import atomic_text

if TYPE_CHECKING:
    from cryoseg.core.metrics.masks import Score


def write_record(path: Path, record: Mapping[str, Any], *, overwrite: bool = False) -> None:
    """Write a record as JSON with sorted keys.

    Parameters
    ----------
    path
        File of the record.
    record
        Content, which may hold dataclasses, enumerations, paths, numpy scalars and arrays, tuples and sets.
        NaN and infinity become null.
    overwrite
        Whether an existing file is replaced.

    Raises
    ------
    OutputError
        If the file exists or cannot be written.
    """
    text = json.dumps(plain(record), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    with atomic_text(path, overwrite=overwrite) as stream:
        stream.write(text + "\n")


def read_record(path: Path) -> dict[str, Any]:
    """Read a record.

    Raises
    ------
    InputError
        If the file is missing or holds no JSON object.
    """
    with reading(path):
        content = path.read_bytes()
    try:
        record = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: holds no JSON ({error}). Give the .json that lies beside an output."
        ) from error
    if not isinstance(record, dict):
        raise InputError(f"{path}: holds no JSON object. Give the .json that lies beside an output.")
    return record


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal.

    The hash of a folder is that of the names and hashes of its files, and that of a data set is the hash of
    its file.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    path = split_dataset(path)[0]
    with reading(path):
        if path.is_dir():
            whole = hashlib.sha256()
            for file in sorted(one for one in path.rglob("*") if one.is_file()):
                whole.update(f"{file.relative_to(path).as_posix()} {hash_file(file)}\n".encode())
            return whole.hexdigest()
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()


def describe_input(path: Path) -> dict[str, Any]:
    """Return the entry of an input: name, path as given, hash, and size and time of a file.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    # Before the hash: a file that changes meanwhile then has another time than the one recorded.
    file, inside = split_dataset(path)
    status = file.stat() if file.is_file() else None
    about: dict[str, Any] = {
        "name": with_dataset(Path(file.name), inside).as_posix(),
        "given": str(path),
        "sha256": hash_file(file),
    }
    if status is not None:
        about |= {"bytes": status.st_size, "modified_ns": status.st_mtime_ns}
    return about


def is_same_input(path: Path, about: Mapping[str, Any]) -> bool:
    """Whether an input is that of a record: size and time agree to the nanosecond, or the hash agrees.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    file = split_dataset(path)[0]
    if file.is_file() and "modified_ns" in about:
        status = file.stat()
        if (status.st_size, status.st_mtime_ns) == (about.get("bytes"), about["modified_ns"]):
            return True
    return bool(about.get("sha256") == hash_file(path))


def plain(value: Any) -> Any:
    """Convert a value to a form that JSON supports: enumerations to values, tuples to lists, NaN to None.

    Raises
    ------
    TypeError
        If a value has no form in JSON.
    """
    match value:
        case Enum():
            return plain(value.value)
        case None | bool() | str() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(plain(key)): plain(entry) for key, entry in value.items()}
        case set() | frozenset():
            return sorted(plain(entry) for entry in value)
        case list() | tuple():
            return [plain(entry) for entry in value]
        case Path():
            return str(value)
        case np.ndarray() | np.generic():
            return plain(value.tolist())
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {entry.name: plain(getattr(value, entry.name)) for entry in dataclasses.fields(value)}
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def score_to_json(value: Any) -> Any:
    """Convert a score or a part of it to a form that JSON supports; infinity and NaN become texts."""
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: score_to_json(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, dict):
        return {str(key): score_to_json(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [score_to_json(entry) for entry in value]
    if isinstance(value, np.ndarray):
        return {"dtype": value.dtype.str, "values": score_to_json(value.tolist())}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value


def read_score(path: Path) -> Score:
    """Read the score in a record.

    Raises
    ------
    InputError
        If the record holds no score, or one of another version.
    """
    from cryoseg.core.metrics.masks import Score

    record = read_record(path)
    try:
        score = _read(Score, record["score"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"{path}: holds no score that this version knows. Pass --overwrite.") from error
    assert isinstance(score, Score)
    return score


def _read(kind: Any, value: Any) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        (kind,) = (one for one in arguments if one is not type(None))
        return _read(kind, value)
    if is_dataclass(kind) and isinstance(kind, type):
        hints = typing.get_type_hints(kind)
        return kind(**{one.name: _read(hints[one.name], value[one.name]) for one in fields(kind)})
    if origin is np.ndarray:
        # numpy reads "inf" and "nan", but only from text.
        flat = np.asarray(value["values"])
        dtype = np.dtype(value["dtype"])
        if dtype.kind not in "biuf":
            raise TypeError(f"{dtype} is no type of numbers")
        return flat.astype(dtype)
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return tuple(_read(arguments[0], entry) for entry in value)
        return tuple(_read(one, entry) for one, entry in zip(arguments, value, strict=True))
    if origin is dict:
        return {_read(arguments[0], key): _read(arguments[1], entry) for key, entry in value.items()}
    if kind in (int, float, str, bool):
        return kind(value)
    raise TypeError(f"{kind} cannot be read")
