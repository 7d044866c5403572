"""`cryoseg postprocess`: threshold and filter saved masks and logits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from typer import Exit

from cryoseg.cli.option_groups import Shown
from cryoseg.cli.options import DryRun, Inputs, OutputDir, Overwrite, Verbosity
from cryoseg.config.common import StoredOutputs
from cryoseg.config.segment import NamedSteps, PostprocessConfig
from cryoseg.config.setting import setting
from cryoseg.errors import ConfigError


def postprocess(
    inputs: Inputs,
    *,
    output_dir: OutputDir = Path(),
    config: PostprocessConfig,
    named: Annotated[NamedSteps, Shown({"step": "recorded, else thin-noise"})],
    no_steps: Annotated[bool, setting(help="Apply the threshold only.")] = False,
    written: StoredOutputs,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
    verbosity: Verbosity,
) -> None:
    """Threshold and filter saved masks or logits again, without a model.

    Example: cryoseg postprocess membranes/ts_01_membrane_logits.mrc --logit-threshold -0.25 -o filtered
    """
    from cryoseg.pipelines.batches.run import Batch
    from cryoseg.pipelines.segment.postprocess import postprocess_files

    if no_steps and named.steps:
        raise ConfigError("--no-steps and --step contradict each other; give one of them.")
    config = replace(config, steps=() if no_steps else named.steps or None)
    with verbosity.console() as console:
        batch = Batch(is_dry=dry_run, overwrite=overwrite)
        report = postprocess_files(inputs, output_dir, config, written=written, batch=batch, on_event=console)
    console.summary("Post-processed masks", report.rows)
    raise Exit(report.exit_status)
