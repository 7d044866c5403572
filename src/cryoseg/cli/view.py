"""`cryoseg view`: write a page with a volume and its segmentation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument

from cryoseg.cli.options import Overwrite, Verbosity
from cryoseg.config.segment import ViewConfig
from cryoseg.config.setting import setting


def view(
    tomogram: Annotated[
        Path, Argument(help="Tomogram, micrograph or picture.", metavar="TOMO", show_default=False)
    ],
    *,
    logits: Annotated[
        Path | None,
        setting(help="Logits of the volume, from `cryoseg segment --store-logits`, for a live threshold."),
    ] = None,
    mask: Annotated[
        Path | None, setting(help="Mask or labels on the same grid, drawn as an outline.")
    ] = None,
    picks: Annotated[
        Path | None, setting(help="Coordinates in any format that `cryoseg convert` reads.")
    ] = None,
    measures: Annotated[
        Path | None,
        setting(help="Table (.csv) of `cryoseg measure` for the mask, shown with its components."),
    ] = None,
    output: Annotated[
        Path | None,
        setting(
            help="The page to write; a name that ends in .cxc gives a scene for ChimeraX.",
            flags=("--output", "-o"),
            shown="<name of TOMO>_view.html",
        ),
    ] = None,
    config: ViewConfig,
    overwrite: Overwrite = False,
    verbosity: Verbosity,
) -> None:
    """Write one HTML page to look at a volume with its logits, mask and picks, without a network.

    For example:

    cryoseg view tomo.mrc --logits membranes/tomo_membrane_logits.mrc -o tomo.html

    cryoseg view tomo.mrc --mask membranes/tomo_membrane_mask.mrc --measures tomo_membrane_mask_measures.csv

    cryoseg view micrograph.mrc --picks picks/micrograph_particles.star --pick-diameter 180
    """
    from cryoseg.io.inputs import stem
    from cryoseg.pipelines.view.server import ViewSources
    from cryoseg.pipelines.view.volume import write_view, write_view_scene

    output = output or Path(f"{stem(tomogram)}_view.html")
    write = write_view_scene if output.suffix.lower() == ".cxc" else write_view
    sources = ViewSources(tomogram=tomogram, logits=logits, mask=mask, picks=picks, measures=measures)
    with verbosity.console() as console:
        write(sources, output, config, overwrite=overwrite, on_event=console)
