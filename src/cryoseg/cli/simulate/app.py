"""`cryoseg simulate`."""

from __future__ import annotations

import typer

from cryoseg.cli.options import OutputDir, Verbosity
from cryoseg.cli.simulate.micrographs import micrographs
from cryoseg.cli.simulate.phantoms import phantoms
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
    from cryoseg.cli.console import BatchConsole
    from cryoseg.cli.simulate.run import Shown, made_row, show_made
    from cryoseg.events import Note, Row
    from cryoseg.simulate.tomograms import Outcome, simulate_folder

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

    outcomes = simulate_folder(config, output_dir, series)
    shown = Shown(title="Simulated tomograms", unit="volumes", describe=describe, on_each=tell)
    show_made(shown, outcomes, folder=output_dir, count=series.count, verbosity=verbosity)
