"""`cryoseg sample`: print the paths of sample data."""

from __future__ import annotations

from pathlib import Path

import typer

import cryoseg

app = typer.Typer(help="Print the path of sample data that the package carries.", no_args_is_help=True)

SAMPLES = Path(cryoseg.__file__).parent / "samples"


_FILES = {
    "tomogram": (
        "sample_0000_tomogram.mrc",
        """Print the path of a small simulated tomogram.

        It has vesicles at a signal-to-noise ratio of 0.3, and 12 A per voxel.

        Example: cryoseg segment "$(cryoseg sample tomogram)" -o membranes
        """,
    ),
    "micrograph": (
        "particles_0002_micrograph.mrc",
        """Print the path of a small simulated micrograph.

        It has particles 180 A wide, 3.75 A per pixel, a carbon edge and some ice.

        Example: cryoseg pick "$(cryoseg sample micrograph)" --particle-diameter 180 -o picks
        """,
    ),
    "particles": (
        "particles_0002_particles.star",
        """Print the path of the true positions of that micrograph's particles, a STAR file of RELION.

        Example: cryoseg evaluate picks picks "$(cryoseg sample particles)" --radius 12px
        """,
    ),
    "labels": (
        "sample_0000_labels.mrc.gz",
        """Print the path of the true membranes of that tomogram: 1 on membrane, 0 elsewhere.

        Example: cryoseg evaluate segmentation membranes "$(cryoseg sample labels)"
        """,
    ),
}


def _add(name: str, file: str, text: str) -> None:
    def command() -> None:
        typer.echo(SAMPLES / file)

    command.__doc__ = text
    app.command(name)(command)


for _name, (_file, _text) in _FILES.items():
    _add(_name, _file, _text)
