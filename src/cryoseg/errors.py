"""Errors whose text is the whole message to the user: the file, what was found, and the fix."""

from __future__ import annotations


class CryosegError(Exception):
    """Base of every error that cryoseg raises on purpose; the command line prints its text only."""


class InputError(CryosegError):
    """A file or an array that cannot be used as it is."""


class OutputError(CryosegError):
    """An output that cannot be written, or that exists and may not be replaced."""


class ConfigError(CryosegError):
    """Settings that contradict each other or lie outside their range."""


class WeightsError(CryosegError):
    """Weights that are missing, damaged, or do not fit the model."""


class DeviceError(CryosegError):
    """A device or precision that this machine does not offer."""
