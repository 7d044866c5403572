"""Errors whose text is the complete message to the user: the file, the problem and the fix."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class CryosegError(Exception):
    """Base class of all errors of cryoseg; the command line prints their text without a traceback."""


class InputError(CryosegError):
    """A file or an array cannot be used."""


class OutputError(CryosegError):
    """An output cannot be written, or exists and must not be replaced."""


class ConfigError(CryosegError):
    """Settings contradict each other or are out of range."""


class WeightsError(CryosegError):
    """Weights are missing, damaged, or do not fit the model."""


class DeviceError(CryosegError):
    """A device or precision is not available on this computer."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise an `InputError` if a block cannot read a file, or a text file that is not UTF-8."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror or error}). Check the path and its permissions."
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read as text ({error}). Save it as UTF-8.") from error


@contextmanager
def naming(source: object) -> Iterator[None]:
    """Put the name of a file before the message of an `InputError` about its content."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
