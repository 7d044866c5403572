"""`cryoseg simulate`."""

from __future__ import annotations

import typer

from cryoseg.cli.options import OutputDir, Verbosity
from cryoseg.cli.simulate.micrographs import micrographs
from cryoseg.cli.simulate.phantoms import phantoms
from cryoseg.cli.simulate.run import run_simulation
from cryoseg.config.simulate import SimulateConfig, SimulatedSeries

app = typer.Typer(help="Make tomograms and micrographs whose truth is known exactly.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Make tomograms and micrographs whose truth is known exactly."""


app.command()(micrographs)
app.command()(phantoms)


@app.command()
def tomograms(
    *,
    output_dir: OutputDir,
    config: SimulateConfig,
    series: SimulatedSeries,
    verbosity: Verbosity,
) -> None:
    """Simulate tomograms with exact membrane labels.

    Each volume is three files: sim_0000_tomogram.mrc, sim_0000_labels.mrc.gz (1 on membrane) and
    sim_0000.json with every parameter. Interrupted runs go on where they stopped.

    Example: cryoseg simulate tomograms -n 4 -o simulated
    """
    run_simulation("Simulated tomograms", config, output_dir, series, verbosity)
