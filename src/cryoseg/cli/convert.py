"""`cryoseg convert`: coordinate files from one format to another."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Optional

from typer import Argument, BadParameter, Option, echo

from cryoseg.cli.options import Overwrite, PixelSize
from cryoseg.cli.relion_options import (
    RelionCenter,
    ThicknessAxisOption,
    TomogramsStar,
    UnbinnedPixelSize,
    UnbinnedSize,
    relion_frames,
)
from cryoseg.config.pick import CenterRule, PickFormat, ThicknessAxis


def _size(text: str) -> tuple[int, int, int]:
    parts = re.fullmatch(r"(\d+)[xX,](\d+)[xX,](\d+)", text)
    if parts is None:
        raise BadParameter(f"--size {text}: write it as XxYxZ, such as 1024x1024x300.")
    x, y, z = (int(part) for part in parts.groups())
    return z, y, x


def convert(
    source: Annotated[
        Path, Argument(help="Coordinates: .star .csv .tsv .txt .mod .ndjson .coords", metavar="IN")
    ],
    target: Annotated[Path, Argument(help="File to write; its suffix names the format.", metavar="OUT")],
    format_: Annotated[
        Optional[PickFormat],  # noqa: UP045
        Option("--format", "-f", help="Which STAR, for OUT.star.", show_default="by the suffix"),
    ] = None,
    from_relion4: Annotated[
        bool, Option("--from-relion4", help="IN.star counts RELION 4's unbinned pixels.")
    ] = False,
    tomogram: Annotated[
        Optional[Path],  # noqa: UP045
        Option("--tomogram", help="The volume itself: gives size, voxel size and name."),
    ] = None,
    size: Annotated[
        Optional[str],  # noqa: UP045
        Option("--size", help="The volume's size in voxels, as XxYxZ, where --tomogram is not given."),
    ] = None,
    name: Annotated[
        Optional[str],  # noqa: UP045
        Option("--name", help="Of the tomogram, where IN does not say.", show_default="IN's name"),
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
    from cryoseg.io.inputs import stem
    from cryoseg.io.pick_frame import PickFrame
    from cryoseg.io.volumes import read_tomogram
    from cryoseg.pipelines.convert import convert_picks

    if scale <= 0:
        raise BadParameter(f"--scale {scale:g}: must be positive.")
    if set(flip.lower()) - set("xyz"):
        raise BadParameter(f"--flip {flip}: name axes out of x, y and z.")
    shape = _size(size) if size else None
    voxel_size = pixel_size or 0.0
    if tomogram is not None:
        volume = read_tomogram(tomogram)
        depth, height, width = volume.data.shape
        shape = (depth, height, width)
        voxel_size = pixel_size or volume.geometry.voxel_size[2]
        name = name or stem(tomogram)
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
        overwrite=overwrite,
    )
    echo(f"{target}: {count} points")
