"""Give the membranes of a mask the width of `--band-width`."""

from __future__ import annotations

from pathlib import Path

from cryoseg.errors import InputError
from cryoseg.events import Note, OnEvent, StageProgress
from cryoseg.io.images.pixel_size import ASSUMED, PixelSize
from cryoseg.types import BoolArray

_A_PER_NM = 10.0


def check_band(source: Path, width_nm: float | None, pixel_size: PixelSize) -> None:
    """Check that the voxel size of a mask is known, and that a band is not thinner than a voxel.

    The width of the band is in nm; None checks nothing.

    Raises
    ------
    InputError
        If the band cannot be made; the message names `source`.
    """
    if width_nm is None:
        return
    if pixel_size.source == ASSUMED:
        raise InputError(
            f"{source}: the header gives no voxel size, which --band-width needs. Pass --pixel-size."
        )
    if width_nm * _A_PER_NM < pixel_size.angstrom:
        raise InputError(
            f"{source}: --band-width {width_nm:g} nm is thinner than a voxel of {pixel_size.angstrom:g} A. "
            f"Give at least {pixel_size.angstrom / _A_PER_NM:.3g}."
        )


def to_band(
    mask: BoolArray, width_nm: float, voxel_size: float, *, name: str, on_event: OnEvent
) -> BoolArray:
    """Return a (z, y, x) mask with bands of one width around the mid-surfaces of its membranes.

    The width is in nm, and the voxel size in angstrom. A note names the share of components without a
    mid-surface.
    """
    from cryoseg.core.membranes.band import band_around  # slow to import

    band = band_around(
        mask,
        voxel_size,
        width_nm * _A_PER_NM,
        on_block=lambda done, total: on_event(
            StageProgress(name=name, stage="band", done=done, total=total, unit="blocks")
        ),
    )
    if band.unchanged:
        share = 100 * band.unchanged / band.mask.sum()
        on_event(
            Note(
                text=f"{name}: {share:.1f} % of the marked voxels belong to components that are no sheets; "
                "these keep their width."
            )
        )
    return band.mask
