"""Settings that several commands share."""

from __future__ import annotations

import re
from enum import StrEnum

from cryoseg.errors import ConfigError

_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
DEVICE_NAMES = "auto, cpu, cuda, cuda:N or mps"
DEVICE_ORDER = "CUDA, then MPS, then CPU"  # of `auto`


class Precision(StrEnum):
    """Arithmetic of the networks; `auto` is bfloat16 on CUDA and float32 elsewhere."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class Naming(StrEnum):
    """Names of output files: our own, or those of ETSAM's script."""

    CRYOSEG = "cryoseg"
    ETSAM = "etsam"


class Mode0(StrEnum):
    """How the bytes of an MRC file of mode 0 are read; `auto` believes IMOD's stamp, else signed."""

    AUTO = "auto"
    SIGNED = "signed"
    UNSIGNED = "unsigned"


class DeviceName(str):
    """One of `DEVICE_NAMES`.

    Raises
    ------
    ConfigError
        For any other text.
    """

    def __new__(cls, value: str) -> DeviceName:
        """Check the spelling; whether the device exists is asked when it is used."""
        if not _DEVICE.fullmatch(value):
            raise ConfigError(f"--device {value}: unknown device; use {DEVICE_NAMES}.")
        return super().__new__(cls, value)
