"""`cryoseg pick`: particles in tomograms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

from typer import Exit, Option

from cryoseg.cli.console import batch_console
from cryoseg.cli.options import Device, Inputs, OutputDir, Overwrite, PixelSize, Quiet, Verbose
from cryoseg.cli.relion_options import (
    RelionCenter,
    ThicknessAxisOption,
    TomogramsStar,
    UnbinnedPixelSize,
    UnbinnedSize,
    relion_frames,
)
from cryoseg.config.pick import (
    CenterRule,
    FilamentConfig,
    PickFormat,
    Side,
    ThicknessAxis,
    TomogramPickConfig,
)


def pick(
    inputs: Inputs,
    model: Annotated[
        Path, Option("--model", "-m", "--checkpoint", help="Model file that `cryoseg train cet-pick` wrote.")
    ],
    output_dir: OutputDir = Path(),
    score_threshold: Annotated[
        Optional[float],  # noqa: UP045
        Option(
            "--score-threshold", help="Picks score more than this, in [0, 1].", show_default="the model's"
        ),
    ] = None,
    max_picks: Annotated[
        Optional[int],  # noqa: UP045
        Option("--max-picks", help="Keep the best so many.", show_default="all"),
    ] = None,
    min_distance: Annotated[
        Optional[float],  # noqa: UP045
        Option(
            "--min-distance",
            help="Between two picks, in angstrom.",
            show_default="half the particle's diameter",
        ),
    ] = None,
    border: Annotated[
        float, Option("--border", help="Drop picks nearer than this to the sides, in angstrom.")
    ] = TomogramPickConfig.border_angstrom,
    z_border: Annotated[
        float, Option("--z-border", help="The same for the top and bottom of the sample.")
    ] = TomogramPickConfig.z_border_angstrom,
    mask: Annotated[
        Optional[Path],  # noqa: UP045
        Option("--mask", help="Mask, or a folder of masks such as `cryoseg segment` writes."),
    ] = None,
    mask_side: Annotated[
        Side, Option("--mask-side", help="Keep picks within the mask or outside of it.")
    ] = TomogramPickConfig.mask_side,
    mask_distance: Annotated[
        float, Option("--mask-distance", help="Grow the mask by this, in angstrom, before; negative shrinks.")
    ] = TomogramPickConfig.mask_distance_angstrom,
    format_: Annotated[
        Optional[list[PickFormat]],  # noqa: UP045
        Option("--format", "-f", help="Coordinate files to write; repeat for several.", show_default="star"),
    ] = None,
    heat_map: Annotated[
        bool, Option("--heat-map/--no-heat-map", help="Write the probabilities as MRC.")
    ] = False,
    preview: Annotated[bool, Option("--preview/--no-preview", help="Write slices with the picks.")] = True,
    symmetric: Annotated[
        bool,
        Option(
            "--symmetric/--no-symmetric",
            help="Average with the point-reflected tomogram: twice the time, no systematic shift.",
        ),
    ] = True,
    filaments: Annotated[
        bool, Option("--filaments", help="Fit curves and resample them; filament models always do.")
    ] = False,
    filament_spacing: Annotated[
        Optional[float],  # noqa: UP045
        Option(
            "--filament-spacing",
            help="Of resampled points, in angstrom.",
            show_default="a sixth of the width",
        ),
    ] = None,
    filament_link: Annotated[
        float, Option("--filament-link", help="Points nearer than this many widths are one filament.")
    ] = FilamentConfig.link_distance,
    filament_min_points: Annotated[
        int, Option("--filament-min-points", help="Drop filaments of fewer points.")
    ] = FilamentConfig.min_points,
    filament_max_residual: Annotated[
        float, Option("--filament-max-residual", help="Drop rougher ones; in widths.")
    ] = FilamentConfig.max_residual,
    filament_max_curvature: Annotated[
        float, Option("--filament-max-curvature", help="Drop more bent ones; width over radius.")
    ] = FilamentConfig.max_curvature_per_width,
    thickness_axis: ThicknessAxisOption = ThicknessAxis.Z,
    tomograms_star: TomogramsStar = None,
    unbinned_pixel_size: UnbinnedPixelSize = None,
    unbinned_size: UnbinnedSize = None,
    relion_center: RelionCenter = CenterRule.PICKER,
    pixel_size: PixelSize = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Pick particles in tomograms with a model trained from a few labels.

    Example: cryoseg pick tomograms/ --model runs/ribosomes/cet_pick.safetensors -o picks -f star -f mod
    """
    from cryoseg.pipelines.pick import COLUMNS, PickOutputs, pick_files  # torch starts here, not at --help

    relion = relion_frames(tomograms_star, unbinned_pixel_size, unbinned_size, relion_center)
    curve = FilamentConfig(
        link_distance=filament_link,
        min_points=filament_min_points,
        max_residual=filament_max_residual,
        max_curvature_per_width=filament_max_curvature,
        spacing_angstrom=filament_spacing,
    )
    config = TomogramPickConfig(
        score_threshold=score_threshold,
        max_picks=max_picks,
        min_distance_angstrom=min_distance,
        border_angstrom=border,
        z_border_angstrom=z_border,
        symmetric=symmetric,
        thickness_axis=thickness_axis,
        mask_side=mask_side,
        mask_distance_angstrom=mask_distance,
        filament=curve if filaments or curve != FilamentConfig() else None,
    )
    outputs = PickOutputs(
        formats=tuple(dict.fromkeys(format_ or [PickFormat.STAR])),
        heat_map=heat_map,
        preview=preview,
        overwrite=overwrite,
    )
    with batch_console(quiet=quiet, verbose=verbose) as console:
        report = pick_files(
            inputs,
            output_dir,
            model,
            config,
            outputs=outputs,
            relion=relion,
            mask=mask,
            pixel_size=pixel_size,
            device=device,
            on_event=console,
        )
    console.summary("Particles", report.rows, COLUMNS)
    raise Exit(report.exit_status)
