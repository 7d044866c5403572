"""`cryoseg simulate micrographs`."""

from __future__ import annotations

from cryoseg.cli.options import OutputDir, Verbosity
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
    from cryoseg.cli.simulate.run import Shown, made_row, show_made
    from cryoseg.events import Row
    from cryoseg.simulate.micrographs import MicrographOutcome, simulate_micrograph_folder

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

    outcomes = simulate_micrograph_folder(config, output_dir, series)
    shown = Shown(title="Simulated micrographs", unit="micrographs", describe=describe)
    show_made(shown, outcomes, folder=output_dir, count=series.count, verbosity=verbosity)
