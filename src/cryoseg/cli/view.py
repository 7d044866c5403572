"""`cryoseg view`: look at a volume and its segmentation in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

from typer import Argument, Option

from cryoseg.cli.options import Overwrite, PixelSize, Quiet, Verbose
from cryoseg.config.view import ViewConfig


def view(
    tomogram: Annotated[
        Path, Argument(help="Tomogram, micrograph or picture.", metavar="TOMO", show_default=False)
    ],
    logits: Annotated[
        Optional[Path],  # noqa: UP045
        Option("--logits", help="Its logits, from `cryoseg segment --store-logits`: live threshold."),
    ] = None,
    mask: Annotated[
        Optional[Path],  # noqa: UP045
        Option("--mask", help="A mask or labels on the same grid, drawn as an outline."),
    ] = None,
    picks: Annotated[
        Optional[Path],  # noqa: UP045
        Option("--picks", help="Coordinates in any format that `cryoseg convert` reads."),
    ] = None,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        Option("--output", "-o", help="The page to write.", show_default="<name of TOMO>_view.html"),
    ] = None,
    logit_threshold: Annotated[
        Optional[float],  # noqa: UP045
        Option(
            "--logit-threshold", help="Where the threshold slider begins.", show_default="recorded, else -0.5"
        ),
    ] = None,
    min_slices: Annotated[
        int, Option("--post-process-min-slices", help="Where the slider for the minimum of slices begins.")
    ] = ViewConfig.min_slices,
    pick_diameter: Annotated[
        Optional[float],  # noqa: UP045
        Option("--pick-diameter", help="Of the circles about picks, in angstrom.", show_default="the file's"),
    ] = None,
    binning: Annotated[
        Optional[int],  # noqa: UP045
        Option("--bin", help="Voxels per page voxel along every axis.", show_default="fewest that fit"),
    ] = None,
    max_megabytes: Annotated[
        float, Option("--max-megabytes", help="Size of the page at most.")
    ] = ViewConfig.max_megabytes,
    pixel_size: PixelSize = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write one HTML page to look at a volume with its logits, mask and picks, without a network.

    For example:

    cryoseg view tomo.mrc --logits membranes/tomo_membrane_logits.mrc -o tomo.html

    cryoseg view micrograph.mrc --picks picks/micrograph_particles.star --pick-diameter 180
    """
    from cryoseg.cli.console import batch_console
    from cryoseg.io.inputs import stem
    from cryoseg.pipelines.view.server import ViewSources
    from cryoseg.pipelines.view.volume import write_view

    config = ViewConfig(
        binning=binning,
        max_megabytes=max_megabytes,
        logit_threshold=logit_threshold,
        min_slices=min_slices,
        pixel_size=pixel_size,
        pick_diameter_angstrom=pick_diameter,
    )
    sources = ViewSources(tomogram=tomogram, logits=logits, mask=mask, picks=picks)
    with batch_console(quiet=quiet, verbose=verbose) as console:
        write_view(
            sources,
            output or Path(f"{stem(tomogram)}_view.html"),
            config,
            overwrite=overwrite,
            on_event=console,
        )
