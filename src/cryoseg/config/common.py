"""Settings that several commands share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path

from cryoseg.config.setting import Settings, setting, write_list
from cryoseg.errors import ConfigError

_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
DEVICE_NAMES = "auto, cpu, cuda, cuda:N or mps"
DEVICE_ORDER = "CUDA, then MPS, then CPU"  # of `auto`
PLAUSIBLE_PIXEL_SIZES = (0.1, 1000.0)  # angstrom; other values are errors or have another unit


class Precision(StrEnum):
    """Arithmetic of the networks; `auto` is bfloat16 on CUDA and float32 elsewhere."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class Naming(StrEnum):
    """Names of output files: those of cryoseg, or those of the script of ETSAM."""

    CRYOSEG = "cryoseg"
    ETSAM = "etsam"


class ProgressStyle(StrEnum):
    """How a command reports its progress; `auto` draws a bar on a terminal and prints lines elsewhere."""

    AUTO = "auto"
    PLAIN = "plain"
    JSON = "json"
    NONE = "none"


class OutputFormat(StrEnum):
    """Formats of output volumes; `zarr` is OME-Zarr 0.4, and `tiff` is OME-TIFF."""

    MRC = "mrc"
    ZARR = "zarr"
    ZARR_05 = "zarr-0.5"
    TIFF = "tiff"

    @property
    def suffix(self) -> str:
        """Suffix of the names of the volumes."""
        return {OutputFormat.MRC: ".mrc", OutputFormat.TIFF: ".ome.tif"}.get(self, ".ome.zarr")


class Mode0(StrEnum):
    """How the bytes of an MRC file of mode 0 are read.

    `auto` follows the stamp of IMOD; without it, the statistics of the header and the histogram decide.
    """

    AUTO = "auto"
    SIGNED = "signed"
    UNSIGNED = "unsigned"


class DeviceName(str):
    """Name of a device, one of `DEVICE_NAMES`.

    Raises
    ------
    ConfigError
        If the text is not such a name.
    """

    def __new__(cls, value: str) -> DeviceName:
        """Check the spelling; whether the device exists is checked when it is used."""
        if not _DEVICE.fullmatch(value):
            raise ConfigError(f"--device {value}: unknown device; use {DEVICE_NAMES}.")
        return super().__new__(cls, value)


# Settings that several configurations have under one name.

pixel_size_setting = partial(
    setting,
    None,
    help="Pixel size; it overrides the header of the file.",
    flags=("--pixel-size", "--voxel-size", "--apix"),
    at_least=PLAUSIBLE_PIXEL_SIZES[0],
    at_most=PLAUSIBLE_PIXEL_SIZES[1],
    unit="angstrom",
    shown="header",
)

output_format_setting = partial(
    setting,
    OutputFormat.MRC,
    help="Format of masks, labels and logits; zarr: OME-Zarr 0.4, zarr-0.5: OME-Zarr 0.5, tiff: OME-TIFF.",
)

mode0_setting = partial(
    setting,
    Mode0.AUTO,
    help="How bytes of MRC mode 0 are read; auto decides by IMOD's stamp, the header or the histogram.",
)

logit_threshold_setting = partial(
    setting,
    None,
    help="Mark voxels or pixels whose logit is greater than this; logit 0 is probability 0.5.",
    flags=("--logit-threshold",),
)

overwrite_setting = partial(setting, False, help="Replace finished outputs, which are kept otherwise.")

checkpoints_dir_setting = partial(
    setting, None, help="Folder in which weights are searched for first.", shown="see `cryoseg weights path`"
)

seed_setting = partial(setting, 0, help="Seed of the random numbers.", at_least=0)

diameter_setting = partial(
    setting,
    None,
    help="Largest diameter of the particle, or width of the filament.",
    flags=("--particle-diameter",),
    above=0,
    unit="angstrom",
)

diameter_px_setting = partial(
    setting,
    None,
    help="The same diameter in pixels of the images.",
    flags=("--particle-diameter-px",),
    above=0,
    unit="pixels",
)

device_setting = partial(
    setting, "auto", help=f"Device of the network: {DEVICE_NAMES}; auto takes {DEVICE_ORDER}."
)

precision_setting = partial(
    setting, Precision.AUTO, help="Precision of the network; auto is bfloat16 on CUDA and float32 elsewhere."
)

dry_run_setting = partial(setting, False, help="Print what would be done and write nothing.")

picks_setting = partial(
    setting, help="Coordinate files of any known format; repeat for several.", flags=("--picks", "-p")
)


@dataclass(frozen=True, kw_only=True)
class VolumeOutputs(Settings):
    """Form of volumes."""

    output_format: OutputFormat = output_format_setting()


def _read_numbers(text: str, *, option: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",") if text.strip()]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ConfigError(f"{option} {text}: give numbers of components, such as 3,7.")
    return tuple(sorted({int(part) for part in parts}))


_components_setting = partial(
    setting,
    (),
    metavar="NUMBERS",
    read=_read_numbers,
    write=write_list,
    repeat=False,
    shown="none",
)


@dataclass(frozen=True, kw_only=True)
class ComponentChoice(Settings):
    """Components that are kept, by the numbers of the table of `cryoseg measure`."""

    drop_components: tuple[int, ...] = _components_setting(
        help="Numbers of the components to remove, such as 3,7, as in the table of `cryoseg measure`."
    )
    keep_components: tuple[int, ...] = _components_setting(
        help="Numbers of the components to keep; all others are removed."
    )


@dataclass(frozen=True, kw_only=True)
class StoredOutputs(VolumeOutputs):
    """Form of volumes, and where results are stored besides the output folder."""

    copick: str | None = setting(
        None,
        help="Also store the result in the copick project of the inputs, as a segmentation, picks or a mesh.",
        metavar="NAME:USER/SESSION",
        shown="none",
    )


@dataclass(frozen=True, kw_only=True)
class ResultOutputs(StoredOutputs):
    """Outputs for other programs that segmentation and picking share."""

    chimerax: bool = setting(False, help="Write a scene for ChimeraX (.cxc) and the files that it shows.")
    portal_annotation: Path | None = setting(
        None,
        help="Also write the result as an annotation of the CryoET Data Portal, with this metadata.",
        metavar="METADATA.json",
        shown="none",
    )
    overwrite: bool = overwrite_setting()
