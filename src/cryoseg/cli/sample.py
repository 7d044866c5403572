"""`cryoseg sample`: print the paths of sample data."""

from __future__ import annotations

from pathlib import Path

import typer

import cryoseg

app = typer.Typer(help="Print the path of sample data that the package carries.", no_args_is_help=True)

SAMPLES = Path(cryoseg.__file__).parent / "samples"


@app.callback()
def _group() -> None:
    """Print the path of sample data that the package carries."""


@app.command()
def tomogram() -> None:
    """A small simulated tomogram: vesicles at a signal-to-noise ratio of 0.3, 12 A per voxel.

    Example: cryoseg segment "$(cryoseg sample tomogram)" -o membranes
    """
    typer.echo(SAMPLES / "sample_0000_tomogram.mrc")


@app.command()
def micrograph() -> None:
    """A small simulated micrograph: particles 180 A wide, 3.75 A per pixel, a carbon edge and some ice.

    Example: cryoseg pick "$(cryoseg sample micrograph)" --particle-diameter 180 -o picks
    """
    typer.echo(SAMPLES / "particles_0002_micrograph.mrc")


@app.command()
def particles() -> None:
    """The true positions of that micrograph's particles, as RELION STAR.

    Example: cryoseg evaluate picks picks "$(cryoseg sample particles)" --radius 12px
    """
    typer.echo(SAMPLES / "particles_0002_particles.star")


@app.command()
def labels() -> None:
    """The true membranes of that tomogram: 1 on membrane, 0 elsewhere.

    Example: cryoseg evaluate segmentation membranes "$(cryoseg sample labels)"
    """
    typer.echo(SAMPLES / "sample_0000_labels.mrc.gz")
