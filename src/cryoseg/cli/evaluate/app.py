"""`cryoseg evaluate`: score segmentations on the user's own files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Exit

from cryoseg.cli.batch_options import BatchOptions, finish_batch, run_elsewhere, write_reports
from cryoseg.cli.evaluate.options import (
    Also,
    ModelOptions,
    Name,
    Outputs,
    PickModelOptions,
    model_output_setting,
    named_methods,
)
from cryoseg.cli.evaluate.testset import score_testset
from cryoseg.cli.options import Device, Overwrite, PixelSize, Verbosity
from cryoseg.config import EvaluateConfig
from cryoseg.config.batch import ALL, ClusterChoice, ClusterKind
from cryoseg.config.evaluate import EvaluatePicksConfig
from cryoseg.config.pictures import PUBLISHED_SIDE, PUBLISHED_SMOOTHING, Smoothing, points_setting
from cryoseg.config.setting import setting
from cryoseg.errors import ConfigError

if TYPE_CHECKING:
    from cryoseg.cli.console import BatchConsole
    from cryoseg.events import Report
    from cryoseg.io.inputs import InputItem
    from cryoseg.pipelines.batches.run import Batch

COLUMNS = ("dice", "iou", "mae", "s_measure", "e_measure", "f_beta", "weighted_f")
app = typer.Typer(no_args_is_help=True, help="Score segmentations and picks against a truth.")


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
        Argument(
            help="True masks: 0, one positive label, and -1 for unknown; file, folder, quoted glob or list.",
            show_default=False,
        ),
    ],
    *,
    config: EvaluateConfig,
    region: Annotated[
        str | None,
        setting(
            help="Mask of the voxels to score: a file, or a folder that is matched by name.",
            shown="everywhere",
        ),
    ] = None,
    name: Name = "prediction",
    also: Also = (),
    model: Annotated[
        str | None,
        setting(
            help="Segment PRED, which are tomograms, first: auto, etsam, membrane-tiny or a model file.",
            shown="PRED are predictions",
        ),
    ] = None,
    first: ModelOptions,
    device: Device = "auto",
    pixel_size: PixelSize = None,
    output: Outputs = (),
    scores: Annotated[
        Path | None,
        setting(
            help="Folder that keeps the score of every pair. Finished scores are used again, and several "
            "processes can share the folder.",
            shown="nothing is kept",
        ),
    ] = None,
    part: BatchOptions,
    cluster: ClusterChoice,
    overwrite: Overwrite = False,
    verbosity: Verbosity,
) -> None:
    """Score masks or logits: Dice, IoU, precision, recall, near recall, and more with --metrics.

    Example: cryoseg evaluate segmentation membranes labels --metrics all -o scores.html
    """
    from cryoseg.cli.console import print_evaluation
    from cryoseg.pipelines.batches.slurm import is_inside_task
    from cryoseg.pipelines.evaluate.report import EvaluationWriter
    from cryoseg.pipelines.evaluate.segmentations import ScoringOptions, evaluate_files

    if part.dry_run and model is not None:
        raise ConfigError("--dry-run: does not work with --model; run `cryoseg segment --dry-run` first.")
    batch = _batch(scores, part)
    methods: dict[str, str | Path | Sequence[InputItem]] = dict(named_methods(name, pred, also))
    # A task of a cluster has only a part of the scores.
    writer = EvaluationWriter(() if is_inside_task() else output, config=config, overwrite=overwrite)
    with verbosity.console() as console:
        if (elsewhere := _score_elsewhere(scores, model, part, cluster, console)) is not None:
            if elsewhere.interrupted_by is not None:
                raise Exit(finish_batch(console, "Scores", elsewhere, batch=batch, reports=part.report))
            # The scores of the tasks are read here, and pairs that they could not score are tried again.
            batch, overwrite = replace(batch, shard=ALL), False
        if model is not None:
            from cryoseg.pipelines.evaluate.model import listed_predictions  # torch starts here

            rows = first.segment(
                [pred],
                model,
                config,
                pixel_size=pixel_size,
                batch=replace(batch, shard=ALL, device=device, overwrite=overwrite),
                on_event=console,
            )
            methods[name] = listed_predictions(rows, pred)
        evaluation = evaluate_files(
            methods,
            truth,
            config,
            options=ScoringOptions(
                region=region, pixel_size=pixel_size, scores_dir=scores, on_scored=writer.on_scored
            ),
            batch=replace(batch, devices=(), overwrite=overwrite),
            on_event=console,
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
        str, Argument(help="Predicted positions: file, folder, quoted glob or .txt list.", show_default=False)
    ],
    truth: Annotated[
        str, Argument(help="True positions, in any known format; 2D or 3D.", show_default=False)
    ],
    *,
    config: EvaluatePicksConfig,
    name: Name = "prediction",
    also: Also = (),
    first: PickModelOptions,
    output: Outputs = (),
    overwrite: Overwrite = False,
    verbosity: Verbosity,
) -> None:
    """Score particle positions: precision, recall, F1, average precision, position errors.

    Example: cryoseg evaluate picks picks truth --radius 0.5R --particle-diameter 180 -o scores.csv
    """
    from cryoseg.cli.console import print_evaluation
    from cryoseg.events import Status
    from cryoseg.io.picks.names import ImageName
    from cryoseg.pipelines.evaluate.picks import evaluate_pick_files
    from cryoseg.pipelines.evaluate.report import EvaluationWriter

    methods: dict[str, str | Path | Sequence[Path]] = dict(named_methods(name, pred, also))
    failed: dict[str, str] = {}
    writer = EvaluationWriter(output, overwrite=overwrite)
    with verbosity.console() as console:
        if first.model is not None:
            from cryoseg.pipelines.evaluate.model import coordinates  # torch starts here

            rows = first.pick(pred, config, overwrite=overwrite, on_event=console)
            methods[name] = [path for row in rows for path in coordinates(row)]
            failed = {
                ImageName(row.name, Path()).core: row.message for row in rows if row.status is Status.FAILED
            }
        evaluation = evaluate_pick_files(methods, truth, config, failed={name: failed}, on_event=console)
    writer.finish(evaluation)
    print_evaluation(evaluation)
    raise Exit(evaluation.report.exit_status)


app.command("testset")(score_testset)


@app.command()
def images(
    pred: Annotated[
        Path,
        Argument(help="Predicted masks, or with --model pictures; a folder or one file.", show_default=False),
    ],
    truth: Annotated[
        Path, Argument(help="True masks with equal names; folders inside are data sets.", show_default=False)
    ],
    *,
    smoothing: Smoothing = PUBLISHED_SMOOTHING,
    model: Annotated[
        str | None,
        setting(help="Segment PRED with this model first, as segment-image does.", shown="PRED are masks"),
    ] = None,
    base: Annotated[
        Path | None, setting(help="The SAM it was trained on.", shown="by name, or beside the model")
    ] = None,
    points: Annotated[Path | None, points_setting()] = None,
    model_output: Annotated[Path, model_output_setting()] = Path(),
    device: Device = "auto",
    side: Annotated[
        int,
        setting(
            help="Side in pixels of the squares in which masks are scored; 0 keeps the grid of the truth.",
            at_least=0,
        ),
    ] = PUBLISHED_SIDE,
    output: Annotated[
        tuple[Path, ...],
        setting(help="Write the scores too: .csv or .json; repeat for both.", flags=("--output", "-o")),
    ] = (),
    overwrite: Overwrite = False,
    verbosity: Verbosity,
) -> None:
    """Score masks of pictures: Dice, IoU, MAE, S- and E-measure, F-beta, weighted F, per data set.

    Example: cryoseg evaluate images masks truth -o scores.csv

    Upper bound: cryoseg evaluate images pictures truth --model MODEL --points truth
    """
    from cryoseg.events import Row, Status
    from cryoseg.io.outputs import check_outputs
    from cryoseg.pipelines.evaluate.images import SUFFIXES, evaluate_images, shown, write_picture_scores

    if points is not None and model is None:
        raise ConfigError("--points: needs --model, whose points are taken from these masks.")
    check_outputs(output, SUFFIXES, overwrite=overwrite)
    with verbosity.console() as console:
        if model is not None:
            from cryoseg.methods.device import select_device
            from cryoseg.methods.particles.model import load_particle_model
            from cryoseg.pipelines.evaluate.images import segment_pictures

            pred = segment_pictures(
                pred,
                model_output,
                load_particle_model(model, select_device(device), base=base),
                points=points,
                overwrite=overwrite,
                on_event=console,
            )
        evaluation = evaluate_images(pred, truth, smoothing=smoothing, side=side, on_event=console)
    write_picture_scores(output, evaluation, overwrite=overwrite)
    console.summary("Pictures", evaluation.report.rows, COLUMNS)
    means = [
        Row(name=dataset, status=Status.DONE, columns=shown(metrics))
        for dataset, metrics in evaluation.means.items()
    ]
    console.summary("Means over pictures", means, COLUMNS)
    raise Exit(evaluation.report.exit_status)


def _batch(scores: Path | None, options: BatchOptions) -> Batch:
    """Return the part of the pairs to score."""
    if options.shard is not None and scores is None:
        raise ConfigError(f"--shard {options.shard}: needs --scores, the folder that the shards share.")
    if options.dry_run and scores is None:
        raise ConfigError("--dry-run: needs --scores; without it every pair is scored.")
    return options.batch() if scores is not None else replace(options.batch(), shard=ALL)


def _score_elsewhere(
    scores: Path | None,
    model: str | None,
    options: BatchOptions,
    cluster: ClusterChoice,
    console: BatchConsole,
) -> Report | None:
    """Score all pairs on a cluster, whose tasks keep the scores; return None if there is no cluster."""
    if cluster.cluster is ClusterKind.NONE:
        return None
    if scores is None:
        raise ConfigError(f"--cluster {cluster.cluster}: needs --scores, the folder that the tasks share.")
    if model is not None:
        raise ConfigError(
            f"--cluster {cluster.cluster}: does not work with --model; run `cryoseg segment --cluster "
            f"{cluster.cluster}` first."
        )
    return run_elsewhere(options, cluster, scores, console)
