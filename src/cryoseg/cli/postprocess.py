"""`cryoseg postprocess`: threshold and filter saved outputs again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

from typer import Exit, Option

from cryoseg.cli.options import (
    LOGIT_THRESHOLD_HELP,
    STEP_HELP,
    Inputs,
    LengthOptions,
    OutputDir,
    Overwrite,
    Quiet,
    Verbose,
)
from cryoseg.config import PostprocessStep
from cryoseg.config.postprocess import PostprocessConfig
from cryoseg.errors import ConfigError


def postprocess(
    inputs: Inputs,
    output_dir: OutputDir = Path(),
    logit_threshold: Annotated[
        Optional[float],  # noqa: UP045
        Option(help=LOGIT_THRESHOLD_HELP, show_default="recorded, else -0.5"),
    ] = PostprocessConfig.logit_threshold,
    step: Annotated[
        Optional[list[PostprocessStep]],  # noqa: UP045
        Option("--step", help=STEP_HELP, show_default="thin-noise"),
    ] = None,
    no_steps: Annotated[bool, Option("--no-steps", help="Threshold only.")] = False,
    lengths: LengthOptions = LengthOptions(),
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    thin_noise: Annotated[bool, Option("--postprocess-remove-thin-noise", hidden=True)] = False,
    bridges: Annotated[
        bool, Option("--postprocess-remove-parallel-membrane-misconnections", hidden=True)
    ] = False,
) -> None:
    """Threshold and filter saved masks or logits again, without a model.

    Example: cryoseg postprocess membranes/ts_01_membrane_logits.mrc --logit-threshold -0.25 -o filtered
    """
    from cryoseg.cli.console import batch_console
    from cryoseg.pipelines.segment.postprocess import postprocess_files

    chosen = set(step or ())
    if thin_noise:
        chosen.add(PostprocessStep.THIN_NOISE)
    if bridges:
        chosen.add(PostprocessStep.BRIDGES)
    if no_steps and chosen:
        raise ConfigError("--no-steps and --step contradict each other; give one of them.")
    steps = tuple(one for one in PostprocessStep if one in chosen)
    config = PostprocessConfig(
        steps=() if no_steps else steps or PostprocessConfig.steps,
        logit_threshold=logit_threshold,
        **lengths.values(),
    )
    with batch_console(quiet=quiet, verbose=verbose) as console:
        report = postprocess_files(inputs, output_dir, config, overwrite=overwrite, on_event=console)
    console.summary("Post-processed masks", report.rows)
    raise Exit(report.exit_status)
