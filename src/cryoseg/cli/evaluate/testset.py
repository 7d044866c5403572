"""`cryoseg evaluate testset`: a published list of runs, fetched before, as one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Exit

from cryoseg.cli.evaluate.options import Also, ModelOptions, Outputs, named_methods
from cryoseg.cli.options import Device, Overwrite, PixelSize, Split, Verbosity
from cryoseg.config import EvaluateConfig
from cryoseg.config.batch import ALL
from cryoseg.config.setting import setting
from cryoseg.errors import ConfigError, OutputError


def score_testset(
    table: Annotated[
        Path,
        Argument(
            metavar="CSV", help="List in ETSAM's form, with dataset_id, run_id, ...", show_default=False
        ),
    ],
    *,
    collection: Annotated[
        Path, setting(help="Folder where `cryoseg data fetch` put tomograms and target masks.")
    ] = Path("data/collection"),
    pred: Annotated[
        Path | None,
        setting(
            help="Folder of masks or logits in DATASET/RUN/, or named after the runs.", shown="needs --model"
        ),
    ] = None,
    model: Annotated[
        str | None,
        setting(
            help="Segment the tomograms first: auto, etsam, membrane-tiny or a model file.",
            shown="needs --pred",
        ),
    ] = None,
    first: ModelOptions,
    stage1: Annotated[
        Path | None, setting(help="Folder of stage-1 masks, for the columns of stage 1.", shown="none")
    ] = None,
    also: Also = (),
    split: Split = "",
    config: EvaluateConfig,
    pixel_size: PixelSize = None,
    device: Device = "auto",
    output: Outputs = (),
    etsam_table: Annotated[
        Path | None, setting(help="Write a CSV with ETSAM's columns and nothing else.", shown="none")
    ] = None,
    overwrite: Overwrite = False,
    verbosity: Verbosity,
) -> None:
    """Score predictions, or a model, on a fetched test set.

    Example: cryoseg evaluate testset test_set.csv --pred membranes --split test -o scores.csv
    """
    from cryoseg.cli.console import print_evaluation
    from cryoseg.io.web.archives import read_testset
    from cryoseg.pipelines.evaluate.report import EvaluationWriter
    from cryoseg.pipelines.evaluate.segmentations import ScoringOptions, score_pairs
    from cryoseg.pipelines.evaluate.testset import (
        FINAL,
        STAGE1,
        find_tomograms,
        listed_pairs,
        write_etsam_table,
    )

    if (pred is None) == (model is None):
        raise ConfigError("Give the predictions with --pred, or a model with --model; one of them.")
    if etsam_table is not None and etsam_table.exists() and not overwrite:
        raise OutputError(f"{etsam_table}: exists already. Pass --overwrite to replace it.")
    runs = [run for run in read_testset(table) if split in ("", run.split)]
    if not runs:
        raise ConfigError(f"--split {split}: no row of {table} has this split.")
    folders = named_methods(FINAL, str(pred or ""), also)
    if stage1 is not None:
        folders[STAGE1] = str(stage1)
    methods: dict[str, Path | dict[str, list[Path]]] = {name: Path(text) for name, text in folders.items()}
    writer = EvaluationWriter(output, config=config, overwrite=overwrite)
    with verbosity.console() as console:
        if model is not None:
            from cryoseg.pipelines.batches.run import Batch
            from cryoseg.pipelines.evaluate.model import predictions  # torch starts here

            tomograms = find_tomograms(runs, collection)
            rows = first.segment(
                list(tomograms.values()),
                model,
                config,
                pixel_size=pixel_size,
                batch=Batch(shard=ALL, device=device, overwrite=overwrite),
                on_event=console,
            )
            methods[FINAL] = {name: predictions(row) for name, row in zip(tomograms, rows, strict=True)}
        prefer_logits = config.logit_threshold is not None
        work = [
            (method, pair)
            for method, preds in methods.items()
            for pair in listed_pairs(runs, collection, preds, prefer_logits=prefer_logits)
        ]
        options = ScoringOptions(pixel_size=pixel_size, on_scored=writer.on_scored)
        evaluation = score_pairs(work, config, options=options, on_event=console)
    writer.finish(evaluation)
    if etsam_table is not None:
        write_etsam_table(etsam_table, evaluation, runs, overwrite=overwrite)
    print_evaluation(evaluation)
    raise Exit(evaluation.report.exit_status)
