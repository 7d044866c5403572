"""`cryoseg train cet-pick`: a particle detector from a few labels in one tomogram."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Optional

from typer import BadParameter, Option

from cryoseg.cli.console import batch_console
from cryoseg.cli.options import (
    BATCH_HELP,
    DIAMETER_HELP,
    LEARNING_RATE_HELP,
    MASK_HELP,
    PICKS_HELP,
    STEPS_HELP,
    VALIDATION_HELP,
    Device,
    Overwrite,
    PixelSize,
    Quiet,
    Seed,
    Verbose,
)
from cryoseg.cli.relion_options import RelionOptions
from cryoseg.cli.train.options import MaxMinutes, RunDir, Tensorboard, say_unfinished
from cryoseg.config import Mode0
from cryoseg.config.cet_pick import Arch, CetPickConfig, Contrast, Risk, Specimen, ZPool
from cryoseg.config.common import mode0_setting
from cryoseg.config.convert import from_relion4_setting
from cryoseg.config.pick import CoordsOrder, ThicknessAxis, coords_order_setting, thickness_axis_setting
from cryoseg.config.setting import Settings

Number = Optional[float]  # noqa: UP045
Whole = Optional[int]  # noqa: UP045


def build_config(specimen: Specimen, diameter: float, grid: dict[str, Any], **options: Any) -> CetPickConfig:
    """The preset of a kind of specimen, with the options that were given."""
    preset = CetPickConfig.preset(specimen, diameter)
    given = {name: value for name, value in options.items() if value is not None}
    changed = {name: value for name, value in grid.items() if value is not None}
    return replace(preset, grid=replace(preset.grid, **changed), **given)


def _crop(text: str | None) -> tuple[int, int, int] | None:
    if text is None:
        return None
    try:
        z, y, x = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise BadParameter(f"--crop {text}: write it as ZxYxX, such as 6x64x64.") from None
    return z, y, x


@dataclass(frozen=True, kw_only=True)
class Reading(Settings):
    """How tomograms and labels are read."""

    thickness_axis: ThicknessAxis = thickness_axis_setting(ThicknessAxis.Z)
    coords_order: CoordsOrder | None = coords_order_setting()
    from_relion4: bool = from_relion4_setting()
    mode0: Mode0 = mode0_setting()


def cet_pick(
    tomograms: Annotated[
        list[str],
        Option("--tomograms", "-t", help="Tomograms, folders, globs or CET-pick's list; repeat for several."),
    ],
    picks: Annotated[list[Path], Option("--picks", "-p", help=PICKS_HELP)],
    particle_diameter: Annotated[float, Option("--particle-diameter", help=DIAMETER_HELP)],
    output_dir: RunDir = Path("cet_pick"),
    name: Annotated[str, Option("--name", help="Of the model file.")] = "cet_pick",
    preset: Annotated[
        Specimen,
        Option("--preset", "--specimen", help="globular particles, or filaments (CET-pick's --fiber)."),
    ] = Specimen.GLOBULAR,
    negatives: Annotated[
        Optional[list[Path]],  # noqa: UP045
        Option("--negatives", help="Centers of what must not be picked; same formats as --picks."),
    ] = None,
    mask: Annotated[
        Optional[Path],  # noqa: UP045
        Option("--mask", help=MASK_HELP),
    ] = None,
    validation: Annotated[
        Optional[list[str]],  # noqa: UP045
        Option("--validation", help=VALIDATION_HELP, show_default="none"),
    ] = None,
    reading: Reading = Reading(),
    picks_pixel_size: Annotated[
        Number,
        Option("--picks-pixel-size", help="Voxel size that the labels count in, in angstrom, if another."),
    ] = None,
    arch: Annotated[Optional[Arch], Option("--arch", help="Network.", show_default="unet_4")] = None,  # noqa: UP045
    steps: Annotated[Whole, Option("--steps", help=STEPS_HELP, show_default="by the preset")] = None,
    batch: Annotated[Whole, Option("--batch", help=BATCH_HELP, show_default="4")] = None,
    learning_rate: Annotated[
        Number, Option("--learning-rate", help=LEARNING_RATE_HELP, show_default="0.002")
    ] = None,
    risk: Annotated[
        Optional[Risk],  # noqa: UP045
        Option("--risk", help="pu: unlabeled may be particle; pn: all are labeled.", show_default="pu"),
    ] = None,
    prior: Annotated[
        Number,
        Option("--prior", "--tau", help="Share of unlabeled voxels in particles.", show_default="0.01"),
    ] = None,
    positive_weight: Annotated[
        Number,
        Option(
            "--positive-weight",
            help="Of labeled voxels; the publication takes the prior.",
            show_default="0.1",
        ),
    ] = None,
    target_sigma: Annotated[
        Number,
        Option("--target-sigma", help="Of the Gaussian at a label, in diameters.", show_default="0.25"),
    ] = None,
    hard_positive_above: Annotated[
        Number, Option("--hard-positive-above", help="Target values that count as sure.", show_default="0.7")
    ] = None,
    contrast: Annotated[
        Optional[Contrast],  # noqa: UP045
        Option("--contrast", help="Contrastive term.", show_default="off"),
    ] = None,
    contrast_weight: Annotated[
        Number, Option("--contrast-weight", help="Of the contrastive term.", show_default="0.1")
    ] = None,
    contrast_positive_above: Annotated[
        Number,
        Option("--contrast-positive-above", help="Target above which it sees particle.", show_default="0.5"),
    ] = None,
    contrast_samples: Annotated[
        Whole, Option("--contrast-samples", help="Anchors and columns of `sampled`.", show_default="1024")
    ] = None,
    temperature: Annotated[
        Number, Option("--temperature", help="Of the contrast.", show_default="0.07")
    ] = None,
    consistency_weight: Annotated[
        Number, Option("--consistency-weight", help="Of two flipped views.", show_default="0")
    ] = None,
    crop: Annotated[
        str | None, Option("--crop", help="Training crop, ZxYxX.", show_default="6x64x64")
    ] = None,
    jitter: Annotated[
        Number,
        Option("--jitter", help="Of a label in its crop, as a share of the crop.", show_default="0.35"),
    ] = None,
    background_fraction: Annotated[
        Number, Option("--background-fraction", help="Share of crops anywhere.", show_default="0.25")
    ] = None,
    working_diameter: Annotated[
        Number,
        Option("--working-diameter", help="Average down to this many pixels; 0 never.", show_default="10"),
    ] = None,
    z_compression: Annotated[
        Whole, Option("--z-compression", help="Join 1 or 2 slices.", show_default="1")
    ] = None,
    z_pool: Annotated[
        Optional[ZPool],  # noqa: UP045
        Option("--z-pool", help="How slices are joined.", show_default="mean"),
    ] = None,
    holdout_fraction: Annotated[
        Number, Option("--holdout-fraction", help="Labels kept out to set the threshold.", show_default="0.2")
    ] = None,
    checks: Annotated[
        Whole,
        Option("--checks", help="Looks at held-out labels and validation on the way.", show_default="2"),
    ] = None,
    relion: RelionOptions = RelionOptions(),
    pictures: Annotated[
        bool, Option("--pictures/--no-pictures", help="Draw labels, heat map and picks.")
    ] = True,
    pixel_size: PixelSize = None,
    max_minutes: MaxMinutes = None,
    seed: Seed = 0,
    tensorboard: Tensorboard = False,
    device: Device = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train a particle detector from 20 to 200 labels (CET-pick), for `cryoseg pick`.

    Example: cryoseg train cet-pick -t ts_01.mrc -p ts_01.star --particle-diameter 250 -o runs/ribosomes
    """
    config = build_config(
        preset,
        particle_diameter,
        {"diameter_px": working_diameter, "z_compression": z_compression, "z_pool": z_pool},
        arch=arch,
        steps=steps,
        batch=batch,
        learning_rate=learning_rate,
        risk=risk,
        prior=prior,
        positive_weight=positive_weight,
        target_sigma=target_sigma,
        hard_positive_above=hard_positive_above,
        contrast=contrast,
        contrast_weight=contrast_weight,
        contrast_positive_above=contrast_positive_above,
        contrast_samples=contrast_samples,
        temperature=temperature,
        consistency_weight=consistency_weight,
        crop=_crop(crop),
        jitter=jitter,
        background_fraction=background_fraction,
        holdout_fraction=holdout_fraction,
        checks=checks,
        max_minutes=max_minutes,
        seed=seed,
    )
    from cryoseg.methods.device import select_device  # torch starts here
    from cryoseg.methods.training.run import Runtime
    from cryoseg.pipelines.train_cet_pick import DetectorOutput, TrainingFiles, train_files

    files = TrainingFiles(
        tomograms=tomograms,
        picks=picks,
        negatives=negatives or (),
        validation=validation or (),
        mask=mask,
        thickness_axis=reading.thickness_axis,
        coords_order=reading.coords_order,
        picks_pixel_size=picks_pixel_size,
        unbinned=reading.from_relion4,
        relion=relion.frames(),
        pixel_size=pixel_size,
        mode0=reading.mode0,
    )
    with batch_console(quiet=quiet, verbose=verbose) as console:
        model = train_files(
            files,
            config,
            DetectorOutput(folder=output_dir, name=name, pictures=pictures, overwrite=overwrite),
            runtime=Runtime(device=select_device(device), tensorboard=tensorboard, on_event=console),
        )
    if model is None:
        say_unfinished(console)
