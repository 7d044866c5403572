"""`cryoseg pick`: particles in micrographs and tomograms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

from typer import Exit, Option

from cryoseg.cli.batch_options import (
    CLUSTER_LOGS,
    Cluster,
    ClusterOptions,
    ClusterTasks,
    ContactSheet,
    DryRun,
    Gpus,
    Reports,
    ShardOption,
    build_batch,
    finish_batch,
    run_on_cluster,
)
from cryoseg.cli.console import batch_console
from cryoseg.cli.options import (
    DIAMETER_HELP,
    DIAMETER_PX_HELP,
    LOGIT_THRESHOLD_HELP,
    MASK_HELP,
    POLARITY_HELP,
    STORE_LOGITS_HELP,
    Device,
    Inputs,
    OutputDir,
    Overwrite,
    PixelSize,
    Quiet,
    Verbose,
)
from cryoseg.cli.relion_options import (
    RelionCenter,
    ThicknessAxisOption,
    TomogramsStar,
    UnbinnedPixelSize,
    UnbinnedSize,
    relion_frames,
)
from cryoseg.config.batch import ClusterConfig, ClusterKind
from cryoseg.config.pick import (
    FLAT_FORMATS,
    CenterRule,
    FilamentConfig,
    PickFormat,
    Side,
    ThicknessAxis,
    TomogramPickConfig,
)
from cryoseg.config.pick_micrograph import MicrographPickConfig, MicrographPickOptions, PickView
from cryoseg.config.segment import Polarity


def pick(
    inputs: Inputs,
    model: Annotated[
        str,
        Option(
            "--model",
            "-m",
            "--checkpoint",
            help="A particle model by name or file, trained on micrographs or on tomograms.",
        ),
    ] = "particle-tiny",
    output_dir: OutputDir = Path(),
    particle_diameter: Annotated[
        Optional[float],  # noqa: UP045
        Option("--particle-diameter", help=DIAMETER_HELP, show_default="the model's in tomograms"),
    ] = None,
    particle_diameter_px: Annotated[
        Optional[float],  # noqa: UP045
        Option("--particle-diameter-px", help=DIAMETER_PX_HELP, show_default="none"),
    ] = None,
    logit_threshold: Annotated[
        Optional[float],  # noqa: UP045
        Option(
            "--logit-threshold",
            help=LOGIT_THRESHOLD_HELP,
            show_default="the model's; for micrographs",
        ),
    ] = None,
    score_threshold: Annotated[
        Optional[float],  # noqa: UP045
        Option(
            "--score-threshold",
            help="Picks score more than this, in [0, 1].",
            show_default=f"{MicrographPickConfig.score_threshold:g} in micrographs, else the model's",
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
            show_default="0.4 diameters in micrographs, 0.5 in tomograms",
        ),
    ] = None,
    border: Annotated[
        float, Option("--border", help="Drop picks nearer than this to the sides, in angstrom.")
    ] = TomogramPickConfig.border_angstrom,
    z_border: Annotated[
        float, Option("--z-border", help="The same for the top and bottom of the sample, in angstrom.")
    ] = TomogramPickConfig.z_border_angstrom,
    mask: Annotated[
        Optional[Path],  # noqa: UP045
        Option("--mask", help=MASK_HELP),
    ] = None,
    mask_side: Annotated[
        Side, Option("--mask-side", help="Keep picks within the mask or outside of it.")
    ] = TomogramPickConfig.mask_side,
    mask_distance: Annotated[
        float, Option("--mask-distance", help="Grow the mask by this, in angstrom, before; negative shrinks.")
    ] = TomogramPickConfig.mask_distance_angstrom,
    format_: Annotated[
        Optional[list[PickFormat]],  # noqa: UP045
        Option(
            "--format",
            "-f",
            help="Coordinate files to write; repeat for several. box, cbox, cryoppp and cryosparc are for "
            "micrographs; star-relion4, star-relion5, mod, ndjson and coords for tomograms.",
            show_default="star",
        ),
    ] = None,
    heat_map: Annotated[
        bool, Option("--heat-map/--no-heat-map", help="Write the probabilities as MRC (tomograms).")
    ] = False,
    store_logits: Annotated[
        bool, Option("--store-logits/--no-store-logits", help=STORE_LOGITS_HELP)
    ] = MicrographPickOptions.logits,
    store_mask: Annotated[
        bool, Option("--store-mask/--no-store-mask", help="Write the mask as MRC (micrographs).")
    ] = MicrographPickOptions.mask,
    preview: Annotated[
        bool,
        Option(
            "--preview/--no-preview",
            "--save-overlay/--no-save-overlay",
            help="Write a picture with the picks.",
        ),
    ] = True,
    contact_sheet: ContactSheet = False,
    view: Annotated[
        PickView,
        Option("--view", help="tiles, or whole: the image squeezed as in Prompt_sam_cryoPPP (micrographs)."),
    ] = MicrographPickConfig.view,
    polarity: Annotated[Polarity, Option("--polarity", help=POLARITY_HELP)] = MicrographPickConfig.polarity,
    clip_outliers: Annotated[
        bool, Option("--clip-outliers", help="Replace hot pixels first (micrographs).")
    ] = MicrographPickConfig.clip_outliers,
    low_pass: Annotated[
        Optional[float],  # noqa: UP045
        Option(
            "--low-pass", help="Blur detail finer than this, in angstrom (micrographs).", show_default="none"
        ),
    ] = None,
    flatten: Annotated[
        Optional[float],  # noqa: UP045
        Option(
            "--flatten",
            help="Take away the local mean over so many diameters (micrographs).",
            show_default="the model's own view",
        ),
    ] = None,
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
    gpus: Gpus = None,
    shard: ShardOption = None,
    dry_run: DryRun = False,
    report: Reports = None,
    cluster: Cluster = ClusterKind.NONE,
    cluster_tasks: ClusterTasks = ClusterConfig.tasks,
    cluster_option: ClusterOptions = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Pick particles in micrographs or tomograms.

    Micrographs: cryoseg pick micrographs/ --particle-diameter 180 -o picks -f star -f box

    Tomograms: cryoseg pick tomograms/ --model runs/ribosomes/cet_pick.safetensors -o picks -f star -f mod
    """
    from cryoseg.pipelines.pick_route import Task, refuse_options, task_of  # torch starts here, not at --help

    run_on_cluster(
        cluster,
        cluster_tasks,
        cluster_option,
        output_dir / CLUSTER_LOGS,
        title="Particles",
        reports=report,
        quiet=quiet,
        verbose=verbose,
    )
    batch = build_batch(shard, gpus, is_dry=dry_run, reports=report)
    sheet_folder = output_dir if contact_sheet else None
    formats = tuple(dict.fromkeys(format_ or [PickFormat.STAR]))
    flat_options = {
        "--particle-diameter": particle_diameter is not None,
        "--particle-diameter-px": particle_diameter_px is not None,
        "--logit-threshold": logit_threshold is not None,
        "--store-logits": store_logits,
        "--view": view is not MicrographPickConfig.view,
        "--polarity": polarity is not MicrographPickConfig.polarity,
        "--clip-outliers": clip_outliers,
        "--low-pass": low_pass is not None,
        "--flatten": flatten is not None,
    }
    if task_of(model) is Task.MICROGRAPHS:
        refuse_options(
            {
                "--mask": mask is not None,
                "--heat-map": heat_map,
                "--z-border": z_border > 0,
                "--filaments": filaments,
                "--tomograms-star": tomograms_star is not None,
                "--unbinned-pixel-size": unbinned_pixel_size is not None,
                "--unbinned-size": unbinned_size is not None,
            },
            model,
            Task.MICROGRAPHS,
        )
        config = MicrographPickConfig(
            particle_diameter_angstrom=particle_diameter,
            particle_diameter_px=particle_diameter_px,
            pixel_size=pixel_size,
            view=view,
            logit_threshold=logit_threshold,
            score_threshold=MicrographPickConfig.score_threshold
            if score_threshold is None
            else score_threshold,
            min_distance_angstrom=min_distance,
            border_angstrom=border,
            max_picks=max_picks,
            polarity=polarity,
            clip_outliers=clip_outliers,
            low_pass_angstrom=low_pass,
            flatten_diameters=flatten,
        )
        written = MicrographPickOptions(
            formats=formats,
            mask=store_mask,
            logits=store_logits,
            overlay=preview or contact_sheet,
            overwrite=overwrite,
        )
        from cryoseg.pipelines.pick_micrograph_files import COLUMNS as MICROGRAPH_COLUMNS
        from cryoseg.pipelines.pick_micrograph_files import pick_micrograph_files

        with batch_console(quiet=quiet, verbose=verbose) as console:
            done = pick_micrograph_files(
                inputs,
                output_dir,
                model,
                config,
                outputs=written,
                device=device,
                batch=batch,
                on_event=console,
            )
            status = finish_batch(
                console,
                "Particles",
                done,
                MICROGRAPH_COLUMNS,
                batch=batch,
                reports=report,
                sheet_folder=sheet_folder,
            )
        raise Exit(status)
    flat_options |= {f"--format {flavor}": flavor in FLAT_FORMATS for flavor in formats}
    refuse_options(flat_options, model, Task.TOMOGRAMS)
    from cryoseg.pipelines.pick import COLUMNS, PickOutputs, pick_files

    relion = relion_frames(tomograms_star, unbinned_pixel_size, unbinned_size, relion_center)
    curve = FilamentConfig(
        link_distance=filament_link,
        min_points=filament_min_points,
        max_residual=filament_max_residual,
        max_curvature_per_width=filament_max_curvature,
        spacing_angstrom=filament_spacing,
    )
    settings = TomogramPickConfig(
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
        formats=formats,
        heat_map=heat_map,
        preview=preview or contact_sheet,
        overwrite=overwrite,
    )
    with batch_console(quiet=quiet, verbose=verbose) as console:
        done = pick_files(
            inputs,
            output_dir,
            Path(model),
            settings,
            outputs=outputs,
            relion=relion,
            mask=mask,
            pixel_size=pixel_size,
            device=device,
            batch=batch,
            on_event=console,
        )
        status = finish_batch(
            console, "Particles", done, COLUMNS, batch=batch, reports=report, sheet_folder=sheet_folder
        )
    raise Exit(status)
