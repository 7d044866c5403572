"""`cryoseg simulate micrographs`."""

from __future__ import annotations

from typing import Annotated

from typer import Option

from cryoseg.cli.options import Count, First, OutputDir, Overwrite, Prefix, Quiet, Seed, Verbose, Workers
from cryoseg.config.simulate import PolarityOnDisk
from cryoseg.config.simulate_micrographs import MicrographRecipe, SimulateMicrographsConfig
from cryoseg.errors import ConfigError

POLARITY_ON_DISK_HELP = "Membranes or particles are dark or bright on disk."


def _range(option: str, text: str) -> tuple[float, float]:
    try:
        low, _, high = text.partition(":")
        return float(low), float(high or low)
    except ValueError as error:
        raise ConfigError(f"{option} {text}: give one number, or a range as LOW:HIGH.") from error


def _shape(text: str) -> tuple[int, int]:
    try:
        y, x = (int(part) for part in text.lower().split("x"))
    except ValueError as error:
        raise ConfigError(f"--shape {text}: give pixels as YxX, for example 1024x1024.") from error
    return y, x


def _shown(values: tuple[float, float]) -> str:
    return f"{values[0]:g}:{values[1]:g}"


def micrographs(
    output_dir: OutputDir,
    count: Count = 1,
    first: First = 0,
    seed: Seed = 0,
    recipe: Annotated[
        MicrographRecipe, Option(help="Mixture of specimens and microscopes to draw from.")
    ] = SimulateMicrographsConfig.recipe,
    shape: Annotated[str, Option(help="Pixels, YxX.")] = "1024x1024",
    particle_diameter_px: Annotated[
        str, Option("--particle-diameter-px", help="In pixels: one number or LOW:HIGH.")
    ] = _shown(SimulateMicrographsConfig.particle_diameter_px),
    particle_diameter: Annotated[
        str,
        Option(
            "--particle-diameter",
            help="In angstrom: one number or LOW:HIGH. With the diameter in pixels it gives the pixel size.",
        ),
    ] = _shown(SimulateMicrographsConfig.particle_diameter),
    polarity: Annotated[
        PolarityOnDisk, Option(help=POLARITY_ON_DISK_HELP)
    ] = SimulateMicrographsConfig.polarity,
    prefix: Prefix = "sim",
    workers: Workers = 1,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Simulate micrographs whose particles are known exactly.

    Each one is four files: sim_0000_micrograph.mrc, sim_0000_labels.mrc (number of the particle, 0
    elsewhere), sim_0000_particles.star and sim_0000.json with every parameter. Interrupted runs go
    on where they stopped.

    Example: cryoseg simulate micrographs -n 4 -o simulated
    """
    from cryoseg.cli.simulate.run import made_row, show_made
    from cryoseg.events import Row
    from cryoseg.simulate.micrographs import MicrographOutcome, simulate_micrograph_folder

    config = SimulateMicrographsConfig(
        recipe=recipe,
        shape=_shape(shape),
        particle_diameter_px=_range("--particle-diameter-px", particle_diameter_px),
        particle_diameter=_range("--particle-diameter", particle_diameter),
        polarity=polarity,
        seed=seed,
    )

    def describe(outcome: MicrographOutcome) -> Row:
        record = outcome.record
        return made_row(
            outcome.paths.micrograph.name,
            made=outcome.made,
            seconds=outcome.seconds,
            figures={
                "pixel size": f"{record['pixel_size_angstrom']:.2f} A",
                "diameter": f"{record['particle_diameter_px']:.0f} px",
                "particles": str(record["particles"]),
                "detectability": f"{record['detectability']:.0f}",
                "finish": record["imaging"]["finish"],
            },
            outputs=outcome.paths.all,
        )

    show_made(
        "Simulated micrographs",
        simulate_micrograph_folder(
            config,
            output_dir,
            indices=range(first, first + count),
            workers=workers,
            overwrite=overwrite,
            prefix=prefix,
        ),
        describe,
        folder=output_dir,
        count=count,
        unit="micrographs",
        quiet=quiet,
        verbose=verbose,
    )
