"""`cryoseg simulate`: make tomograms, micrographs and phantoms."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from cryoseg.cli.batch_options import finish_batch
from cryoseg.cli.options import OutputDir, Verbosity
from cryoseg.config.simulate import PhantomConfig, SimulateConfig, SimulatedSeries, SimulateMicrographsConfig

if TYPE_CHECKING:
    from cryoseg.pipelines.simulate import Config

app = typer.Typer(help="Make tomograms and micrographs whose truth is known exactly.", no_args_is_help=True)


@app.command()
def micrographs(
    *, output_dir: OutputDir, config: SimulateMicrographsConfig, series: SimulatedSeries, verbosity: Verbosity
) -> None:
    """Simulate micrographs whose particles are known exactly.

    Each micrograph has four files: sim_0000_micrograph.mrc, sim_0000_labels.mrc (the number of the particle,
    0 elsewhere), sim_0000_particles.star, and sim_0000.json with every parameter. The same command continues
    an interrupted run.

    Example: cryoseg simulate micrographs -n 4 -o simulated
    """
    _run("Simulated micrographs", config, output_dir, series, verbosity)


@app.command()
def phantoms(
    *, output_dir: OutputDir, config: PhantomConfig, series: SimulatedSeries, verbosity: Verbosity
) -> None:
    """Simulate simple particles in noise, in tomograms or micrographs, with exact coordinates.

    Each phantom has three or four files: sim_0000_tomogram.mrc (or sim_0000_micrograph.mrc),
    sim_0000_truth.csv with the coordinates of all particles, sim_0000_labels.csv with some of them, and
    sim_0000.json with every parameter. The same command continues an interrupted run.

    Example: cryoseg simulate phantoms -n 2 --labels 25 -o simulated
    """
    _run("Simulated phantoms", config, output_dir, series, verbosity)


@app.command()
def tomograms(
    *, output_dir: OutputDir, config: SimulateConfig, series: SimulatedSeries, verbosity: Verbosity
) -> None:
    """Simulate tomograms with exact membrane labels.

    Each tomogram has three files: sim_0000_tomogram.mrc, sim_0000_labels.mrc.gz (1 on membrane), and
    sim_0000.json with every parameter. The same command continues an interrupted run.

    Example: cryoseg simulate tomograms -n 4 -o simulated
    """
    _run("Simulated tomograms", config, output_dir, series, verbosity)


def _run(
    title: str, config: Config, output_dir: Path, series: SimulatedSeries, verbosity: Verbosity
) -> NoReturn:
    from cryoseg.pipelines.batches.run import Batch
    from cryoseg.pipelines.simulate import simulate_files

    with verbosity.console() as console:
        report = simulate_files(config, output_dir, series, on_event=console)
        status = finish_batch(console, title, report, batch=Batch(), reports=())
    raise typer.Exit(status)
