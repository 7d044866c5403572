"""Settings of `cryoseg data fetch`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from cryoseg.config.setting import Settings, setting


class VolumeFormat(StrEnum):
    """Format in which the CryoET Data Portal is asked for tomograms."""

    MRC = "mrc"
    OME_ZARR = "ome-zarr"


split_setting = partial(
    setting, "", help="Take only the rows of this split of a .csv list, such as test.", shown="all"
)


@dataclass(frozen=True, kw_only=True)
class FetchConfig(Settings):
    """What to fetch."""

    annotations: bool = setting(True, help="Fetch masks and points of a single run too.")
    volume_format: VolumeFormat = setting(
        VolumeFormat.MRC, help="Format of tomograms from the CryoET Data Portal."
    )
    tomogram_id: int | None = setting(
        None, help="Number of the tomogram of a single run.", shown="the portal's first"
    )
    split: str = split_setting()
