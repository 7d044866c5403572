"""Errors whose text is the complete message to the user: the file, the problem and the fix."""

from __future__ import annotations


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
