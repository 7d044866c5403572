"""`cryoseg simulate phantoms`."""

from __future__ import annotations

from cryoseg.cli.options import OutputDir, Verbosity
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
    from cryoseg.cli.simulate.run import Shown, made_row, show_made
    from cryoseg.events import Row
    from cryoseg.simulate.phantoms import PhantomOutcome, simulate_phantom_folder

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

    outcomes = simulate_phantom_folder(config, output_dir, series)
    shown = Shown(title="Simulated phantoms", unit="phantoms", describe=describe)
    show_made(shown, outcomes, folder=output_dir, count=series.count, verbosity=verbosity)
