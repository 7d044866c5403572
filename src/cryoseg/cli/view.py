"""`cryoseg view`: look at a volume and its segmentation in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

from typer import Argument, Option

from cryoseg.cli.options import Overwrite, Verbosity
from cryoseg.config.view import ViewConfig


def view(
    tomogram: Annotated[
        Path, Argument(help="Tomogram, micrograph or picture.", metavar="TOMO", show_default=False)
    ],
    *,
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
    config: ViewConfig,
    overwrite: Overwrite = False,
    verbosity: Verbosity,
) -> None:
    """Write one HTML page to look at a volume with its logits, mask and picks, without a network.

    For example:

    cryoseg view tomo.mrc --logits membranes/tomo_membrane_logits.mrc -o tomo.html

    cryoseg view micrograph.mrc --picks picks/micrograph_particles.star --pick-diameter 180
    """
    from cryoseg.io.inputs import stem
    from cryoseg.pipelines.view.server import ViewSources
    from cryoseg.pipelines.view.volume import write_view

    sources = ViewSources(tomogram=tomogram, logits=logits, mask=mask, picks=picks)
    with verbosity.console() as console:
        write_view(
            sources,
            output or Path(f"{stem(tomogram)}_view.html"),
            config,
            overwrite=overwrite,
            on_event=console,
        )
