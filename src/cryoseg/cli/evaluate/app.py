"""`cryoseg evaluate`: score segmentations on the user's own files."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from typer import Argument, Exit, Option

from cryoseg.cli.batch_options import BatchOptions, finish_batch, write_reports
from cryoseg.cli.evaluate.images import images
from cryoseg.cli.evaluate.options import (
    Also,
    LogitThreshold,
    Metrics,
    ModelOptions,
    ModelOutput,
    Outputs,
    Scores,
    Tolerance,
    evaluation_batch,
    named_methods,
    outputs_here,
    parse_metrics,
    score_elsewhere,
)
from cryoseg.cli.evaluate.testset import score_testset
from cryoseg.cli.options import Device, Overwrite, PixelSize, Quiet, Seed, Verbose
from cryoseg.config import EvaluateConfig, Length, SegmentConfig
from cryoseg.config.batch import ALL, ClusterChoice
from cryoseg.config.evaluate_picks import EvaluatePicksConfig, PickMatching, Radius
from cryoseg.config.invocation import Invocation, invoked
from cryoseg.config.pick import PickFormat
from cryoseg.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="Score segmentations and picks against a truth.")


@app.callback()
def _root() -> None:
    """Score segmentations and picks against a truth."""


@app.command()
def segmentation(
    pred: Annotated[
        str,
        Argument(
            help="Predicted masks or logits: file, folder, quoted glob or .txt list.", show_default=False
        ),
    ],
    truth: Annotated[
        str,
        Argument(help="Truth: 0, one positive label, -1 for unknown. File, folder, ...", show_default=False),
    ],
    metrics: Metrics = ",".join(EvaluateConfig.metrics),
    logit_threshold: LogitThreshold = EvaluateConfig.logit_threshold,
    truth_label: Annotated[
        Optional[int],  # noqa: UP045
        Option(help="Value of the truth that is membrane.", show_default="its only positive value"),
    ] = EvaluateConfig.truth_label,
    ignore_label: Annotated[
        int, Option(help="Voxels of the truth with this value are left out.")
    ] = EvaluateConfig.ignore_label,
    region: Annotated[
        Optional[str],  # noqa: UP045
        Option(help="Mask of where to score (file, or folder matched by name).", show_default="everywhere"),
    ] = None,
    near_distance: Annotated[
        float, Option(help="In the slice plane, in pixels: predictions this near count as found.")
    ] = EvaluateConfig.near_distance_px,
    largest_components: Annotated[
        int, Option(help="Report the near recall of this many largest components too.")
    ] = EvaluateConfig.largest_components,
    tolerance: Tolerance = None,
    name: Annotated[str, Option(help="Name of PRED in tables.")] = "prediction",
    also: Also = None,
    model: Annotated[
        Optional[str],  # noqa: UP045
        Option(
            help="PRED are tomograms: segment them first, with auto, etsam, membrane-tiny or a model file.",
            show_default="PRED are predictions",
        ),
    ] = None,
    first: ModelOptions = ModelOptions(),
    device: Device = "auto",
    pixel_size: PixelSize = None,
    output: Outputs = None,
    scores: Scores = None,
    part: BatchOptions = BatchOptions(),
    cluster: ClusterChoice = ClusterChoice(),
    seed: Seed = EvaluateConfig.seed,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Score masks or logits: Dice, IoU, precision, recall, near recall, and more with --metrics.

    Example: cryoseg evaluate segmentation membranes labels --metrics all -o scores.html
    """
    from cryoseg.cli.console import batch_console
    from cryoseg.cli.evaluate.tables import print_evaluation
    from cryoseg.pipelines.evaluate.report import EvaluationWriter
    from cryoseg.pipelines.evaluate.segmentations import evaluate_files

    if part.dry_run and model is not None:
        raise ConfigError("--dry-run: does not go with --model; try `cryoseg segment --dry-run` first.")
    batch = evaluation_batch(scores, part)
    lengths = tuple(Length.parse(text, option="--tolerance") for text in tolerance or ())
    config = EvaluateConfig(
        metrics=parse_metrics(metrics),
        logit_threshold=logit_threshold,
        truth_label=truth_label,
        ignore_label=ignore_label,
        near_distance_px=near_distance,
        largest_components=largest_components,
        tolerances=lengths or EvaluateConfig.tolerances,
        seed=seed,
    )
    methods: dict[str, str | Sequence[Path]] = dict(named_methods(name, pred, also or []))
    writer = EvaluationWriter(
        outputs_here(output), config=config, command=shlex.join(sys.argv[1:]), overwrite=overwrite
    )
    with batch_console(quiet=quiet, verbose=verbose) as console:
        if (elsewhere := score_elsewhere(scores, model, part, cluster, console)) is not None:
            if elsewhere.interrupted_by is not None:
                raise Exit(finish_batch(console, "Scores", elsewhere, batch=batch, reports=part.report))
            # What the tasks kept is read here; what they could not score is told here again.
            batch, overwrite = replace(batch, shard=ALL), False
        if model is not None:
            from cryoseg.pipelines.evaluate.model import predictions  # torch starts here

            rows = first.segment(
                [pred],
                model,
                SegmentConfig(pixel_size=pixel_size, logit_threshold=logit_threshold),
                overwrite=overwrite,
                batch=replace(batch, shard=ALL, device=device),
                on_event=console,
            )
            methods[name] = [path for row in rows for path in predictions(row)]
        evaluation = evaluate_files(
            methods,
            truth,
            config,
            region=region,
            pixel_size=pixel_size,
            scores_dir=scores,
            batch=replace(batch, devices=()),
            overwrite=overwrite,
            on_event=console,
            on_scored=writer.on_scored,
        )
    done = evaluation.report
    if not part.dry_run and done.interrupted_by is None:
        writer.finish(evaluation)
    print_evaluation(evaluation)
    write_reports(done, batch=batch, reports=part.report)
    raise Exit(done.exit_status)


@app.command()
def picks(
    pred: Annotated[
        str,
        Argument(help="Predicted positions: file, folder, quoted glob or .txt list.", show_default=False),
    ],
    truth: Annotated[
        str, Argument(help="True positions, in any known format; 2D or 3D.", show_default=False)
    ],
    radius: Annotated[
        str,
        Option(help="A pick this near to a truth of its own is right: 30A, 4px, or 0.5R (particle radii)."),
    ],
    threshold: Annotated[
        Optional[float],  # noqa: UP045
        Option(help="Drop picks of a lower score before counting.", show_default="keep all"),
    ] = EvaluatePicksConfig.threshold,
    margin: Annotated[
        Optional[str],  # noqa: UP045
        Option(help="Border that does not count: 30A, 4px or 0.5R.", show_default="none"),
    ] = None,
    shape: Annotated[
        Optional[str],  # noqa: UP045
        Option(help="Of the images, for --margin: Z,Y,X or Y,X.", show_default="as the files tell"),
    ] = None,
    beta: Annotated[float, Option(help="Of F-beta; above 1 recall weighs more.")] = EvaluatePicksConfig.beta,
    particle_diameter: Annotated[
        Optional[float],  # noqa: UP045
        Option(help="Of the particle, in angstrom; for lengths in R.", show_default="none"),
    ] = EvaluatePicksConfig.diameter_angstrom,
    pixel_size: PixelSize = None,
    matching: Annotated[
        PickMatching, Option(help="cetpick: as CET-pick's script, for old tables only.")
    ] = EvaluatePicksConfig.matching,
    name: Annotated[str, Option(help="Name of PRED in tables.")] = "prediction",
    also: Also = None,
    model: Annotated[
        Optional[str],  # noqa: UP045
        Option(
            help="PRED are images: pick in them first, with a model as `cryoseg pick` takes it.",
            show_default="PRED are positions",
        ),
    ] = None,
    model_output: ModelOutput = Path(),
    device: Device = "auto",
    output: Outputs = None,
    seed: Seed = EvaluatePicksConfig.seed,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Score particle positions: precision, recall, F1, average precision, position errors.

    Example: cryoseg evaluate picks picks truth --radius 0.5R --particle-diameter 180 -o scores.csv
    """
    from cryoseg.cli.console import batch_console
    from cryoseg.cli.evaluate.tables import print_evaluation
    from cryoseg.events import Status
    from cryoseg.io.names import ImageName
    from cryoseg.pipelines.evaluate.picks import evaluate_pick_files
    from cryoseg.pipelines.evaluate.report import EvaluationWriter

    config = EvaluatePicksConfig(
        radius=Radius.parse(radius, option="--radius"),
        margin=None if margin is None else Radius.parse(margin, option="--margin"),
        threshold=threshold,
        beta=beta,
        diameter_angstrom=particle_diameter,
        pixel_size=pixel_size,
        shape=_parse_shape(shape),
        matching=matching,
        seed=seed,
    )
    methods: dict[str, str | Path | Sequence[Path]] = dict(named_methods(name, pred, also or []))
    failed: dict[str, str] = {}
    writer = EvaluationWriter(output or [], command=shlex.join(sys.argv[1:]), overwrite=overwrite)
    with batch_console(quiet=quiet, verbose=verbose) as console:
        if model is not None:
            from cryoseg.pipelines.evaluate.model import (  # torch starts here
                ImagesToPick,
                coordinates,
                pick_first,
            )
            from cryoseg.pipelines.pick.route import Task, task_of

            if task_of(model) is Task.TOMOGRAMS:
                options: dict[str, Any] = {"format": [PickFormat.CSV.value]}
            else:
                options = {"particle-diameter": particle_diameter, "store-mask": False}
            options |= {"pixel-size": pixel_size, "preview": False}
            with invoked(Invocation(command="pick", options=options)):
                rows = pick_first(
                    ImagesToPick(images=[pred], diameter_angstrom=particle_diameter, pixel_size=pixel_size),
                    model_output,
                    model,
                    overwrite=overwrite,
                    device=device,
                    on_event=console,
                )
            methods[name] = [path for row in rows for path in coordinates(row)]
            failed = {
                ImageName(row.name, Path()).core: row.message for row in rows if row.status is Status.FAILED
            }
        evaluation = evaluate_pick_files(methods, truth, config, failed={name: failed}, on_event=console)
    writer.finish(evaluation)
    print_evaluation(evaluation)
    raise Exit(evaluation.report.exit_status)


def _parse_shape(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(word) for word in text.replace("x", ",").split(","))
    except ValueError:
        raise ConfigError(f"--shape {text}: give whole numbers, such as 64,256,256.") from None


app.command("testset")(score_testset)
app.command("images")(images)
