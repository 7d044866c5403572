"""Scores of a segmentation as JSON, so that an evaluation can go on where it was stopped."""

from __future__ import annotations

import types
import typing
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cryoseg.core.metrics.masks import Score
from cryoseg.errors import InputError
from cryoseg.io.records import read_record


def score_to_json(value: Any) -> Any:
    """A score, or a part of one, as JSON; unlike in records, infinity and NaN keep apart.

    Parameters
    ----------
    value
        Dataclass, tuple, dict, array, number, text or None.
    """
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
    """The score in a record, under `score`.

    Raises
    ------
    InputError
        If the record holds none, or one of another version.
    """
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
        # numpy reads "inf" and "nan" by itself, but only from text
        flat = np.asarray(value["values"])
        dtype = np.dtype(value["dtype"])
        if dtype.kind not in "biuf":
            raise TypeError(f"{dtype} is no type of figures")
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
