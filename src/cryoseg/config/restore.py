"""Restore settings from the plain values in a model or a record."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from cryoseg.errors import ConfigError

Settings = TypeVar("Settings")


def restore(kind: type[Settings], values: Mapping[str, Any], *, source: str) -> Settings:
    """Build settings from plain values, as JSON holds them.

    Parameters
    ----------
    kind
        Dataclass of the settings.
    values
        Plain values by field: enumerations as their values, tuples as lists. Missing fields have their
        defaults.
    source
        Beginning of error messages.

    Raises
    ------
    ConfigError
        If a field is unknown, or a value has a wrong type.
    """
    hints = get_type_hints(kind)
    extra = sorted(set(values) - set(hints))
    if extra:
        raise ConfigError(
            f"{source}: holds the setting {extra[0]}, which this version of cryoseg does not know. "
            "Use the version that wrote it."
        )
    given = {name: _fit(hints[name], value, f"{source}: {name}") for name, value in values.items()}
    try:
        return kind(**given)
    except TypeError as error:
        raise ConfigError(f"{source}: lacks a setting ({error}). Make the file again.") from error


def _fit(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        if value is None and NoneType in arguments:
            return None
        (hint,) = [one for one in arguments if one is not NoneType]
        return _fit(hint, value, where)
    if origin is tuple and isinstance(value, list):
        parts = arguments[:1] * len(value) if arguments[-1] is ... else arguments
        if len(parts) == len(value):
            return tuple(_fit(part, one, where) for part, one in zip(parts, value, strict=True))
    elif dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, Mapping):
        return restore(hint, value, source=where)
    elif isinstance(hint, type) and issubclass(hint, Enum):
        if value in {one.value for one in hint}:
            return hint(value)
    elif hint is Path and isinstance(value, str):
        return Path(value)
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif isinstance(hint, type) and type(value) is hint:
        return value
    raise ConfigError(
        f"{where} is {value!r}, which is not valid. Make the file again, or use the version that wrote it."
    )
