"""`cryoseg measure`: measure membranes in masks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cryoseg.cli.batch_options import CpuBatchOptions, run_command
from cryoseg.cli.options import Inputs, OutputDir, Verbosity
from cryoseg.config.batch import ClusterChoice
from cryoseg.config.measure import MeasureConfig, MeasureOutputs

if TYPE_CHECKING:
    from cryoseg.cli.console import BatchConsole
    from cryoseg.events import Report
    from cryoseg.pipelines.batches.run import Batch


def measure(
    inputs: Inputs,
    *,
    output_dir: OutputDir = Path(),
    config: MeasureConfig,
    outputs: MeasureOutputs,
    options: CpuBatchOptions,
    cluster: ClusterChoice,
    verbosity: Verbosity,
) -> None:
    """Measure area, thickness, curvature and size of the membranes in masks.

    For example:

    cryoseg measure membranes/ts_01_membrane_mask.mrc -o measures

    cryoseg measure ts_01_membrane_logits.mrc --tomogram ts_01.mrc --min-volume 5000nm3 --mesh ply
    """

    def work(batch: Batch, console: BatchConsole) -> Report:
        from cryoseg.pipelines.measure.files import measure_files

        return measure_files(
            inputs,
            output_dir,
            config,
            written=outputs,
            batch=batch,
            on_event=console,
        )

    run_command(
        "Measures", work, options=options, cluster=cluster, output_dir=output_dir, verbosity=verbosity
    )
