"""`cryoseg simulate micrographs`."""

from __future__ import annotations

from cryoseg.cli.options import OutputDir, Verbosity
from cryoseg.cli.simulate.run import run_simulation
from cryoseg.config.simulate import SimulatedSeries
from cryoseg.config.simulate_micrographs import SimulateMicrographsConfig


def micrographs(
    *,
    output_dir: OutputDir,
    config: SimulateMicrographsConfig,
    series: SimulatedSeries,
    verbosity: Verbosity,
) -> None:
    """Simulate micrographs whose particles are known exactly.

    Each one is four files: sim_0000_micrograph.mrc, sim_0000_labels.mrc (number of the particle, 0
    elsewhere), sim_0000_particles.star and sim_0000.json with every parameter. Interrupted runs go
    on where they stopped.

    Example: cryoseg simulate micrographs -n 4 -o simulated
    """
    run_simulation("Simulated micrographs", config, output_dir, series, verbosity)
