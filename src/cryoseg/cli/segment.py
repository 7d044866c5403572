"""`cryoseg segment`: segment membranes in tomograms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cryoseg.cli.batch_options import SheetBatchOptions, run_command
from cryoseg.cli.option_groups import Shown
from cryoseg.cli.options import Device, Inputs, OutputDir, PrecisionOption, Verbosity
from cryoseg.config import ModelChoice, ModelName, Precision, SegmentConfig, SegmentOutputs, SegmentRequest
from cryoseg.config.batch import ClusterChoice
from cryoseg.config.segment import PRESET_POSTPROCESS, NamedSteps
from cryoseg.config.setting import setting

if TYPE_CHECKING:
    from cryoseg.cli.console import BatchConsole
    from cryoseg.events import Report
    from cryoseg.pipelines.batches.run import Batch


def segment(
    inputs: Inputs,
    *,
    output_dir: OutputDir = Path(),
    model: Annotated[
        str,
        setting(
            help="Model: auto, etsam, membrane-tiny, or a packaged model file.",
            flags=("--model", "-m", "--checkpoint"),
        ),
    ] = ModelName.AUTO.value,
    config: SegmentConfig,
    post_process: Annotated[
        bool, setting(help="Also write a mask that is filtered by the steps of the preset.")
    ] = False,
    named: Annotated[NamedSteps, Shown({"step": "the preset's, with --post-process"})],
    outputs: SegmentOutputs,
    choice: ModelChoice,
    device: Device = "auto",
    precision: PrecisionOption = Precision.AUTO,
    options: SheetBatchOptions,
    cluster: ClusterChoice,
    verbosity: Verbosity,
) -> None:
    """Segment membranes in tomograms.

    For example:

    cryoseg segment tomo.mrc --post-process --preview -o membranes

    cryoseg segment "tomograms/*.rec" --pixel-size 13.3 --store-logits -o membranes

    cryoseg segment tomo.mrc --model etsam --preset v2 --post-process
    """
    # A named step is applied alone, as in the script of ETSAM.
    steps = named.steps or (PRESET_POSTPROCESS[config.preset] if post_process else ())
    request = SegmentRequest(
        config=replace(config, postprocess=steps),
        choice=choice.named(model),
        outputs=replace(outputs, preview=outputs.preview or options.contact_sheet),
        precision=precision,
    )

    def work(batch: Batch, console: BatchConsole) -> Report:
        from cryoseg.pipelines.segment.files import segment_files  # torch starts here

        return segment_files(
            inputs, output_dir, request, batch=replace(batch, device=device), on_event=console
        )

    run_command(
        "Membranes", work, options=options, cluster=cluster, output_dir=output_dir, verbosity=verbosity
    )
