"""Settings of `cryoseg data fetch`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class VolumeFormat(StrEnum):
    """Format in which the CryoET Data Portal is asked for tomograms."""

    MRC = "mrc"
    OME_ZARR = "ome-zarr"


@dataclass(frozen=True, kw_only=True)
class FetchConfig:
    """What to fetch.

    Attributes
    ----------
    volume_format
        Of tomograms from the CryoET Data Portal.
    annotations
        Fetch the portal's annotations of a single run too: masks, and points.
    tomogram_id
        Which tomogram of a single run; None takes the portal's first.
    split
        Of a list, only the rows of this split; empty takes all.
    """

    volume_format: VolumeFormat = VolumeFormat.MRC
    annotations: bool = True
    tomogram_id: int | None = None
    split: str = ""
