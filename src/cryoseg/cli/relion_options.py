"""Options that say where RELION's unbinned tomogram is; shared by pick, convert and train cet-pick."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

from typer import BadParameter, Option

from cryoseg.config.pick import CenterRule, ThicknessAxis

if TYPE_CHECKING:
    from cryoseg.io.picks.relion_frame import RelionFrame

TomogramsStar = Annotated[
    Optional[Path],  # noqa: UP045
    Option("--tomograms-star", help="RELION's tomograms.star: pixel sizes and unbinned sizes."),
]
UnbinnedPixelSize = Annotated[
    Optional[float],  # noqa: UP045
    Option("--unbinned-pixel-size", help="Pixel size of the tilt series, in angstrom."),
]
UnbinnedSize = Annotated[
    Optional[str],  # noqa: UP045
    Option("--unbinned-size", help="Size of the unbinned tomogram in pixels, as XxYxZ: 4096x4096x2048."),
]
RelionCenter = Annotated[
    CenterRule,
    Option(
        "--relion-center",
        help="Zero of RELION 5's coordinates: N/2 - 1 (picker, as RELION picks) or N/2 (half).",
    ),
]
THICKNESS_AXIS_HELP = (
    "Axis of the file along which the sample is thin: z for usual MRC files, y for IMOD reconstructions that "
    "were not rotated."
)
ThicknessAxisOption = Annotated[ThicknessAxis, Option("--thickness-axis", help=THICKNESS_AXIS_HELP)]


def relion_frames(
    tomograms_star: Path | None,
    unbinned_pixel_size: float | None,
    unbinned_size: str | None,
    center: CenterRule,
) -> dict[str, RelionFrame] | None:
    """Frames by tomogram name, "" for any; None if no option was given."""
    from cryoseg.io.picks.relion_frame import RelionFrame, read_tomograms_star

    if tomograms_star is not None:
        return read_tomograms_star(tomograms_star, center=center)
    if unbinned_pixel_size is None and unbinned_size is None:
        return None
    if unbinned_pixel_size is None or unbinned_size is None:
        raise BadParameter("--unbinned-pixel-size and --unbinned-size are needed together.")
    try:
        x, y, z = (int(part) for part in unbinned_size.lower().split("x"))
    except ValueError:
        raise BadParameter(
            f"--unbinned-size {unbinned_size}: write it as XxYxZ, such as 4096x4096x2048."
        ) from None
    return {"": RelionFrame(pixel_size=unbinned_pixel_size, size=(z, y, x), center=center)}
