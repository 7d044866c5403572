"""`cryoseg simulate`."""

from __future__ import annotations

from typing import Annotated, Optional

import typer
from typer import Option

from cryoseg.cli.options import Count, First, OutputDir, Overwrite, Prefix, Quiet, Seed, Verbose, Workers
from cryoseg.cli.simulate.micrographs import POLARITY_ON_DISK_HELP, micrographs
from cryoseg.cli.simulate.phantoms import phantoms, volume_shape
from cryoseg.config.simulate import PolarityOnDisk, Recipe, SimulateConfig
from cryoseg.errors import ConfigError

app = typer.Typer(help="Make tomograms and micrographs whose truth is known exactly.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Make tomograms and micrographs whose truth is known exactly."""


def _range(option: str, text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        low, _, high = text.partition(":")
        return float(low), float(high or low)
    except ValueError as error:
        raise ConfigError(f"{option} {text}: give one number, or a range as LOW:HIGH.") from error


app.command()(micrographs)
app.command()(phantoms)


@app.command()
def tomograms(
    output_dir: OutputDir,
    count: Count = 1,
    first: First = 0,
    seed: Seed = 0,
    recipe: Annotated[
        Recipe, Option(help="Mixture of specimens and microscopes to draw from.")
    ] = Recipe.TRAIN,
    shape: Annotated[str, Option(help="Voxels, ZxYxX.")] = "64x256x256",
    pixel_size: Annotated[
        Optional[str],  # noqa: UP045
        Option(
            "--pixel-size",
            "--voxel-size",
            "--apix",
            help="In angstrom: one number or LOW:HIGH.",
            show_default="the recipe's",
        ),
    ] = None,
    snr: Annotated[
        Optional[str],  # noqa: UP045
        Option(help="var(signal) / var(noise): one number or LOW:HIGH.", show_default="the recipe's"),
    ] = None,
    polarity: Annotated[PolarityOnDisk, Option(help=POLARITY_ON_DISK_HELP)] = PolarityOnDisk.DARK,
    prefix: Prefix = "sim",
    workers: Workers = 1,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Simulate tomograms with exact membrane labels.

    Each volume is three files: sim_0000_tomogram.mrc, sim_0000_labels.mrc.gz (1 on membrane) and
    sim_0000.json with every parameter. Interrupted runs go on where they stopped.

    Example: cryoseg simulate tomograms -n 4 -o simulated
    """
    from cryoseg.cli.console import BatchConsole
    from cryoseg.cli.simulate.run import made_row, show_made
    from cryoseg.events import Note, Row
    from cryoseg.simulate.tomograms import Outcome, simulate_folder

    config = SimulateConfig(
        recipe=recipe,
        shape=volume_shape(shape),
        pixel_size=_range("--pixel-size", pixel_size),
        snr=_range("--snr", snr),
        polarity=polarity,
        seed=seed,
    )

    def describe(outcome: Outcome) -> Row:
        record = outcome.record
        return made_row(
            outcome.paths[0].name,
            made=outcome.made,
            seconds=outcome.seconds,
            figures={
                "pixel size": f"{record['voxel_size_angstrom']:.2f} A",
                "SNR": f"{record['snr']:.2f}",
                "membrane": f"{100 * record['membrane_fraction']:.1f} %",
                "distractors": f"{100 * record['distractor_fraction']:.1f} %",
            },
            outputs=outcome.paths,
        )

    def tell(console: BatchConsole, outcome: Outcome) -> None:
        arrangement = outcome.record["specimen"]["arrangement"]
        console(Note(text=f"{outcome.paths[0].name}: arrangement {arrangement}", detail=True))

    show_made(
        "Simulated tomograms",
        simulate_folder(
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
        unit="volumes",
        quiet=quiet,
        verbose=verbose,
        on_each=tell,
    )
