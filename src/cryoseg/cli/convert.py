"""`cryoseg convert`: coordinate files from one format to another."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Optional

from typer import Argument, BadParameter, Option, echo

from cryoseg.cli.options import FromRelion4, Overwrite, PixelSize
from cryoseg.cli.relion_options import (
    RelionCenter,
    ThicknessAxisOption,
    TomogramsStar,
    UnbinnedPixelSize,
    UnbinnedSize,
    relion_frames,
)
from cryoseg.config.pick import CenterRule, PickFormat, ThicknessAxis


def _size(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\d+([xX,]\d+){1,2}", text):
        raise BadParameter(f"--size {text}: write it as XxYxZ or XxY, such as 1024x1024x300.")
    return tuple(int(part) for part in reversed(re.split("[xX,]", text)))


def convert(
    source: Annotated[
        Path, Argument(help="Coordinates: .star .csv .tsv .txt .box .cbox .mod .ndjson .coords", metavar="IN")
    ],
    target: Annotated[Path, Argument(help="File to write; its suffix names the format.", metavar="OUT")],
    format_: Annotated[
        Optional[PickFormat],  # noqa: UP045
        Option(
            "--format", "-f", help="Which STAR or CSV, for OUT.star or OUT.csv.", show_default="by the suffix"
        ),
    ] = None,
    from_relion4: FromRelion4 = False,
    tomogram: Annotated[
        Optional[Path],  # noqa: UP045
        Option("--tomogram", "--image", help="The volume or image itself: gives size, pixel size and name."),
    ] = None,
    size: Annotated[
        Optional[str],  # noqa: UP045
        Option("--size", help="Its size in voxels, as XxYxZ or XxY, where --tomogram is not given."),
    ] = None,
    name: Annotated[
        Optional[str],  # noqa: UP045
        Option("--name", help="Of the tomogram or image, where IN does not say.", show_default="IN's name"),
    ] = None,
    particle_diameter_px: Annotated[
        Optional[float],  # noqa: UP045
        Option(
            "--particle-diameter-px",
            help="In pixels of OUT, for .box, .cbox and CryoPPP's CSV.",
            show_default="IN's, scaled",
        ),
    ] = None,
    score_threshold: Annotated[
        Optional[float],  # noqa: UP045
        Option("--score-threshold", help="Picks score more than this, in [0, 1].", show_default="all"),
    ] = None,
    scale: Annotated[float, Option("--scale", help="Factor from IN's voxels to OUT's.")] = 1.0,
    flip: Annotated[str, Option("--flip", help="Axes to mirror: y, xz, ...; needs the size.")] = "",
    flip_y: Annotated[bool, Option("--flip-y", help="Short for --flip y.")] = False,
    thickness_axis: ThicknessAxisOption = ThicknessAxis.Z,
    tomograms_star: TomogramsStar = None,
    unbinned_pixel_size: UnbinnedPixelSize = None,
    unbinned_size: UnbinnedSize = None,
    relion_center: RelionCenter = CenterRule.PICKER,
    pixel_size: PixelSize = None,
    overwrite: Overwrite = False,
) -> None:
    """Convert coordinates between formats.

    Example: cryoseg convert picks.mod picks.star --tomogram ts_01.mrc
    """
    from cryoseg.io.images.micrographs import is_single_image, read_micrograph
    from cryoseg.io.images.volumes import improbable_voxel_size, read_tomogram
    from cryoseg.io.inputs import stem
    from cryoseg.io.picks.frame import PickFrame
    from cryoseg.pipelines.convert import convert_picks

    if particle_diameter_px is not None and particle_diameter_px <= 0:
        raise BadParameter(f"--particle-diameter-px {particle_diameter_px:g}: must be positive.")
    if scale <= 0:
        raise BadParameter(f"--scale {scale:g}: must be positive.")
    if set(flip.lower()) - set("xyz"):
        raise BadParameter(f"--flip {flip}: name axes out of x, y and z.")
    shape = _size(size) if size else None
    voxel_size = pixel_size or 0.0
    if tomogram is not None and is_single_image(tomogram):
        image = read_micrograph(tomogram)
        shape, voxel_size, name = image.data.shape, pixel_size or image.pixel_size, name or tomogram.name
    elif tomogram is not None:
        volume = read_tomogram(tomogram)
        depth, height, width = volume.data.shape
        shape = (depth, height, width)
        # A size that cannot be believed is unknown, so that formats in angstrom ask for --pixel-size.
        doubt = improbable_voxel_size(volume.geometry)
        voxel_size = pixel_size or (0.0 if doubt else volume.geometry.voxel_size[2])
        name = name or (stem(tomogram) if depth > 1 else tomogram.name)
    frame = PickFrame(
        voxel_size=voxel_size,
        shape=shape,
        thickness_axis=thickness_axis,
        relion=relion_frames(tomograms_star, unbinned_pixel_size, unbinned_size, relion_center),
    )
    axes = "".join(dict.fromkeys(flip.lower() + ("y" if flip_y else "")))
    count = convert_picks(
        source,
        target,
        frame=frame,
        flavor=format_,
        unbinned=from_relion4,
        scale=scale,
        flip=axes,
        name=name,
        diameter_px=particle_diameter_px,
        score_threshold=score_threshold,
        overwrite=overwrite,
    )
    echo(f"{target}: {count} points")
