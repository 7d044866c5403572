"""`cryoseg convert`: convert coordinate files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from typer import Argument, echo

from cryoseg.cli.options import Overwrite, RelionOptions
from cryoseg.config.common import Mode0, mode0_setting, pixel_size_setting
from cryoseg.config.convert import ConvertConfig, read_image_size, write_image_size
from cryoseg.config.pick import (
    PICK_SUFFIXES,
    CoordsOrder,
    ThicknessAxis,
    coords_order_setting,
    thickness_axis_setting,
)
from cryoseg.config.setting import Settings, setting


@dataclass(frozen=True, kw_only=True)
class ImageOptions(Settings):
    """Image of the coordinates."""

    tomogram: Path | None = setting(
        None,
        help="The volume or image itself, which gives size, pixel size and name.",
        flags=("--tomogram", "--image"),
    )
    size: tuple[int, ...] | None = setting(
        None,
        help="Size of the volume or image in voxels as XxYxZ or XxY, where --tomogram is not given.",
        read=read_image_size,
        write=write_image_size,
        repeat=False,
        at_least=1,
    )
    pixel_size: float | None = pixel_size_setting()
    mode0: Mode0 = mode0_setting()
    thickness_axis: ThicknessAxis = thickness_axis_setting(ThicknessAxis.Z)
    coords_order: CoordsOrder | None = coords_order_setting()


def convert(
    source: Annotated[Path, Argument(help=f"Coordinates: {' '.join(PICK_SUFFIXES)}", metavar="IN")],
    target: Annotated[Path, Argument(help="File to write; its suffix names the format.", metavar="OUT")],
    *,
    config: ConvertConfig,
    image: ImageOptions,
    relion: RelionOptions,
    overwrite: Overwrite = False,
) -> None:
    """Convert coordinates between formats.

    Example: cryoseg convert picks.mod picks.star --tomogram ts_01.mrc
    """
    from cryoseg.cli.console import BatchConsole
    from cryoseg.io.images.micrographs import is_single_image, read_micrograph
    from cryoseg.io.images.volumes import improbable_voxel_size, read_tomogram
    from cryoseg.io.inputs import stem
    from cryoseg.io.picks.frame import PickFrame
    from cryoseg.pipelines.convert.files import convert_picks

    shape, voxel_size, name = image.size, image.pixel_size or 0.0, config.name
    if image.tomogram is not None and is_single_image(image.tomogram):
        micrograph = read_micrograph(image.tomogram, mode0=image.mode0)
        shape, name = micrograph.data.shape, name or image.tomogram.name
        voxel_size = voxel_size or micrograph.pixel_size
    elif image.tomogram is not None:
        volume = read_tomogram(image.tomogram, mode0=image.mode0)
        shape = volume.data.shape
        # A size that cannot be believed is unknown, so that formats in angstrom ask for --pixel-size.
        doubt = improbable_voxel_size(volume.geometry)
        voxel_size = voxel_size or (0.0 if doubt else volume.geometry.voxel_size[2])
        name = name or (stem(image.tomogram) if shape[0] > 1 else image.tomogram.name)
    frame = PickFrame(
        voxel_size=voxel_size,
        shape=shape,
        thickness_axis=image.thickness_axis,
        coords_order=image.coords_order,
        relion=relion.frames(),
    )
    count = convert_picks(
        source, target, replace(config, name=name), frame=frame, overwrite=overwrite, on_event=BatchConsole()
    )
    echo(f"{target}: {count} points")
