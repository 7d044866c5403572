"""`cryoseg simulate phantoms`."""

from __future__ import annotations

from cryoseg.cli.options import OutputDir, Verbosity
from cryoseg.cli.simulate.run import run_simulation
from cryoseg.config.simulate import SimulatedSeries
from cryoseg.config.simulate_phantoms import PhantomConfig


def phantoms(
    *,
    output_dir: OutputDir,
    config: PhantomConfig,
    series: SimulatedSeries,
    verbosity: Verbosity,
) -> None:
    """Simulate simple particles in noise, in tomograms or micrographs, with exact coordinates.

    Each one is three or four files: sim_0000_tomogram.mrc (or sim_0000_micrograph.mrc), sim_0000_truth.csv
    with the coordinates of all particles, sim_0000_labels.csv with some of them, and sim_0000.json with every
    parameter. Interrupted runs go on where they stopped.

    Example: cryoseg simulate phantoms -n 2 --labels 25 -o simulated
    """
    run_simulation("Simulated phantoms", config, output_dir, series, verbosity)
