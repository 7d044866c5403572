"""`cryoseg simulate phantoms`."""

from __future__ import annotations

from typing import Annotated, Optional

from typer import Option

from cryoseg.cli.options import Count, First, OutputDir, Overwrite, Prefix, Quiet, Seed, Verbose, Workers
from cryoseg.config.simulate_phantoms import Body, PhantomConfig
from cryoseg.errors import ConfigError


def volume_shape(text: str) -> tuple[int, int, int]:
    """Read ZxYxX as typed."""
    try:
        z, y, x = (int(part) for part in text.lower().split("x"))
    except ValueError as error:
        raise ConfigError(f"--shape {text}: give voxels as ZxYxX, for example 64x256x256.") from error
    return z, y, x


def phantoms(
    output_dir: OutputDir,
    count: Count = 1,
    first: First = 0,
    seed: Seed = 0,
    shape: Annotated[str, Option(help="Voxels, ZxYxX.")] = "x".join(map(str, PhantomConfig.shape)),
    pixel_size: Annotated[
        float, Option("--pixel-size", "--voxel-size", "--apix", help="In angstrom.")
    ] = PhantomConfig.voxel_size,
    body: Annotated[Body, Option(help="Particles are balls or shells.")] = PhantomConfig.body,
    particles: Annotated[int, Option(help="Particles, fewer where there is no room.")] = PhantomConfig.count,
    particle_diameter: Annotated[
        list[float], Option(help="Diameter in angstrom; repeat to draw from several.")
    ] = list(PhantomConfig.diameters_angstrom),  # noqa: B006
    spacing: Annotated[
        float, Option(help="Least distance of two particles in diameters; at 1 they touch.")
    ] = PhantomConfig.spacing,
    distractors: Annotated[
        int, Option(help="Particles of another size, which are not in the truth.")
    ] = PhantomConfig.distractors,
    distractor_diameter: Annotated[
        Optional[float],  # noqa: UP045
        Option(help="Their diameter in angstrom.", show_default="none"),
    ] = PhantomConfig.distractor_diameter_angstrom,
    membranes: Annotated[int, Option(help="Walls of large vesicles.")] = PhantomConfig.membranes,
    gold: Annotated[int, Option(help="Gold beads.")] = PhantomConfig.gold,
    snr: Annotated[float, Option(help="var(signal) / var(noise), without gold.")] = 0.1,
    tilt_range: Annotated[
        float, Option(help="Largest tilt in degrees; the wedge beyond is missing.")
    ] = PhantomConfig.tilt_degrees,
    labels: Annotated[
        int, Option(help="Write this many of the true coordinates to a file of labels as well.")
    ] = PhantomConfig.labels,
    projection: Annotated[
        bool, Option("--projection", help="Sum the volume along z to a micrograph.")
    ] = PhantomConfig.projection,
    prefix: Prefix = "sim",
    workers: Workers = 1,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Simulate simple particles in noise, in tomograms or micrographs, with exact coordinates.

    Each one is three or four files: sim_0000_tomogram.mrc (or sim_0000_micrograph.mrc), sim_0000_truth.csv
    with the coordinates of all particles, sim_0000_labels.csv with some of them, and sim_0000.json with every
    parameter. Interrupted runs go on where they stopped.

    Example: cryoseg simulate phantoms -n 2 --labels 25 -o simulated
    """
    from cryoseg.cli.simulate.run import made_row, show_made
    from cryoseg.events import Row
    from cryoseg.simulate.phantoms import PhantomOutcome, simulate_phantom_folder

    config = PhantomConfig(
        shape=volume_shape(shape),
        voxel_size=pixel_size,
        body=body,
        diameters_angstrom=tuple(particle_diameter),
        distractor_diameter_angstrom=distractor_diameter,
        count=particles,
        distractors=distractors,
        membranes=membranes,
        gold=gold,
        labels=labels,
        spacing=spacing,
        snr=snr,
        tilt_degrees=tilt_range,
        projection=projection,
        seed=seed,
    )

    def describe(outcome: PhantomOutcome) -> Row:
        return made_row(
            outcome.paths[0].name,
            made=outcome.made,
            seconds=outcome.seconds,
            figures={
                "particles": str(outcome.record["particles"]),
                "distractors": str(len(outcome.record["distractor_centers_zyx"])),
            },
            outputs=outcome.paths,
        )

    show_made(
        "Simulated phantoms",
        simulate_phantom_folder(
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
        unit="phantoms",
        quiet=quiet,
        verbose=verbose,
    )
