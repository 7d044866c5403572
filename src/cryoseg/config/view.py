"""Settings of `cryoseg view`."""

from __future__ import annotations

from dataclasses import dataclass

from cryoseg.config.common import Mode0, mode0_setting, pixel_size_setting
from cryoseg.config.segment import PostprocessLengths
from cryoseg.config.setting import Settings, setting


@dataclass(frozen=True, kw_only=True)
class ViewConfig(Settings):
    """What a page shows first, and how large it may be."""

    logit_threshold: float | None = setting(
        None, help="Logit at which the threshold slider begins.", shown="recorded, else -0.5"
    )
    min_slices: int | None = setting(
        None,
        help="Number of slices at which the slider of thin-noise begins.",
        flags=("--post-process-min-slices",),
        at_least=1,
        shown=f"{PostprocessLengths.min_slices}; 1 if the record has other steps only",
    )
    pick_diameter_angstrom: float | None = setting(
        None,
        help="Diameter of the circles about picks.",
        flags=("--pick-diameter",),
        above=0,
        unit="angstrom",
        shown="the file's",
    )
    binning: int | None = setting(
        None,
        help="Voxels per voxel of the page along every axis.",
        flags=("--bin",),
        at_least=1,
        shown="fewest that fit",
    )
    max_megabytes: float = setting(60.0, help="Largest size of the page.", at_least=1, unit="megabytes")
    pixel_size: float | None = pixel_size_setting()
    mode0: Mode0 = mode0_setting()
