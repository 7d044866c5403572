"""The run of a simulation on the terminal, the same for all commands of `cryoseg simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from typer import Exit

from cryoseg.cli.batch_options import finish_batch
from cryoseg.cli.options import Verbosity
from cryoseg.config.simulate import SimulatedSeries

if TYPE_CHECKING:
    from cryoseg.pipelines.simulate import Config


def run_simulation(
    title: str, config: Config, output_dir: Path, series: SimulatedSeries, verbosity: Verbosity
) -> NoReturn:
    """Simulate a series, print its table, and leave with the exit status."""
    from cryoseg.pipelines.batches.run import Batch
    from cryoseg.pipelines.simulate import simulate_files

    with verbosity.console() as console:
        report = simulate_files(config, output_dir, series, on_event=console)
        status = finish_batch(console, title, report, batch=Batch(), reports=())
    raise Exit(status)
