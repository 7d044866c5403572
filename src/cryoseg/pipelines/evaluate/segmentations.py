"""Score predictions against truths: read, check, measure, summarize."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoseg.config import EvaluateConfig, Metric
from cryoseg.config.batch import ALL
from cryoseg.config.evaluate_picks import EvaluatePicksConfig
from cryoseg.core.metrics.columns import metrics_of, micro_metrics
from cryoseg.core.metrics.masks import evaluate_mask
from cryoseg.core.metrics.statistics import Comparison, Mean, compare_methods, mean_with_interval
from cryoseg.errors import InputError
from cryoseg.events import OnEvent, Report, Row, StageProgress, Status, Warn, ignore
from cryoseg.io.inputs import InputItem
from cryoseg.io.pairs import base_name
from cryoseg.pipelines.batches.finished import Job
from cryoseg.pipelines.batches.memory import tell_plan
from cryoseg.pipelines.batches.records import Done
from cryoseg.pipelines.batches.run import Batch, run_batch
from cryoseg.pipelines.evaluate.pairs import ScoredPair, match_predictions
from cryoseg.pipelines.evaluate.read_pair import bytes_needed, read_pair
from cryoseg.pipelines.evaluate.scores import FileScore, kept_score, plan_score, score_record

# Arrays of a pair just scored: prediction, truth (both as read) and the score, for pictures.
OnScored = Callable[["FileScore", NDArray[Any], NDArray[Any]], None]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """All scores of one run and what they say together.

    Attributes
    ----------
    config
        The settings.
    files
        One per method and tomogram, failed ones included.
    macro
        Method to metric to mean over files.
    micro
        Method to metric of all voxels together.
    comparisons
        Pairs of methods; empty for one method.
    unscored
        Rows of what this run left: to another process, to a dry run, or because it was interrupted.
    interrupted_by
        As in `Report`.
    """

    config: EvaluateConfig | EvaluatePicksConfig
    files: list[FileScore]
    macro: dict[str, dict[str, Mean]]
    micro: dict[str, dict[str, float]]
    comparisons: list[Comparison]
    unscored: list[Row] = field(default_factory=list)
    interrupted_by: int | None = None

    @property
    def report(self) -> Report:
        """The rows for a summary; its exit status is 1 if a file failed."""
        several = len({file.method for file in self.files}) > 1
        rows = [_row(file, several=several) for file in self.files] + self.unscored
        return Report(rows=rows, interrupted_by=self.interrupted_by)


def evaluate_files(
    methods: Mapping[str, str | Path | Sequence[Path]],
    truth: str | Path,
    config: EvaluateConfig,
    *,
    region: str | Path | None = None,
    pixel_size: float | None = None,
    scores_dir: Path | None = None,
    batch: Batch = Batch(shard=ALL),
    overwrite: bool = False,
    on_event: OnEvent = ignore,
    on_scored: OnScored | None = None,
) -> Evaluation:
    """Score every prediction of every method.

    Parameters
    ----------
    methods
        Name of a method to its predictions: a file, folder, quoted glob or `.txt` list, or the
        files themselves.
    truth
        The same of truths.
    config
        Metrics and their settings.
    region
        The same of masks of where to score; None scores everywhere.
    pixel_size
        In angstrom; overrides all headers.
    scores_dir
        Every pair's score is kept there; those that another run finished are taken from there.
    batch
        The part of the pairs to score.
    overwrite
        Score again what is finished.
    on_event
        Told progress, warnings and rows.
    on_scored
        Given the arrays of every pair scored in this run.

    Returns
    -------
    Evaluation
        A broken file is a `FileScore` with an error and stops nothing.

    Raises
    ------
    InputError
        If a method, the truth or the region names no file at all.
    """
    work = [
        (method, pair)
        for method, pred in methods.items()
        for pair in match_predictions(
            pred, truth, region=region, prefer_logits=config.logit_threshold is not None
        )
    ]
    if len(methods) > 1:
        # One file of each method may be called anything; what is compared is the truth's.
        work = [(m, replace(p, name=base_name(p.truth)) if p.truth else p) for m, p in work]
    return score_pairs(
        work,
        config,
        pixel_size=pixel_size,
        scores_dir=scores_dir,
        batch=batch,
        overwrite=overwrite,
        on_event=on_event,
        on_scored=on_scored,
    )


def score_pairs(
    work: Sequence[tuple[str, ScoredPair]],
    config: EvaluateConfig,
    *,
    pixel_size: float | None = None,
    scores_dir: Path | None = None,
    batch: Batch = Batch(shard=ALL),
    overwrite: bool = False,
    on_event: OnEvent = ignore,
    on_scored: OnScored | None = None,
) -> Evaluation:
    """Score pairs that are known already.

    Parameters
    ----------
    work
        Name of the method, and what to score; a pair with an error becomes a failed file.
    config, pixel_size, scores_dir, batch, overwrite, on_event, on_scored
        As in `evaluate_files`.
    """
    several = len({method for method, _ in work}) > 1
    pairs = {
        Path(f"{method}: {pair.name}" if several else pair.name): (method, pair) for method, pair in work
    }
    files: dict[Path, FileScore] = {}
    inputs = [InputItem(path=pair.pred) for _, pair in work if pair.pred is not None]
    tell_plan(inputs, bytes_needed, workers=batch.workers, on_event=on_event)

    def plan(label: Path) -> Job:
        assert scores_dir is not None
        return plan_score(*pairs[label], config, pixel_size=pixel_size, scores_dir=scores_dir)

    def score(label: Path, outputs: Mapping[str, Path]) -> Done:
        on_event(
            StageProgress(name="Scoring", stage="pairs", done=len(files), total=len(pairs), unit="pairs")
        )
        file = _score_pair(*pairs[label], config, pixel_size, on_event, on_scored)
        files[label] = file
        row = _row(file, several=several)
        return Done(record=score_record(file) if outputs else {}, columns=row.figures, name=row.name)

    report = run_batch(
        [InputItem(path=label, error=pair.error) for label, (_, pair) in pairs.items()],
        score,
        plan=None if scores_dir is None else plan,
        examine=lambda label: read_pair(pairs[label][1], config, pixel_size, on_event),
        batch=batch,
        overwrite=overwrite,
        on_event=on_event,
    )
    on_event(StageProgress(name="Scoring", stage="pairs", done=len(pairs), total=len(pairs), unit="pairs"))
    unscored = []
    for row in report.rows:
        if row.path is None:
            continue
        if row.path in files:
            if row.outputs:
                files[row.path] = replace(files[row.path], record=row.outputs[-1])
            continue
        method, pair = pairs[row.path]
        about: dict[str, Any] = {"method": method, "name": pair.name, "pred": pair.pred, "truth": pair.truth}
        if row.status is Status.SKIPPED:
            files[row.path] = kept_score(row.outputs[-1], config, about)
        elif row.status is Status.FAILED:
            files[row.path] = FileScore(**about, seconds=row.seconds, error=row.message)
        else:
            unscored.append(row)
    scored = [files[label] for label in pairs if label in files]
    evaluation = summarize(scored, config, micro_metrics=micro_metrics)
    return replace(evaluation, unscored=unscored, interrupted_by=report.interrupted_by)


def summarize(
    files: list[FileScore],
    config: EvaluateConfig | EvaluatePicksConfig,
    *,
    micro_metrics: Callable[[list[Any]], dict[str, float]],
) -> Evaluation:
    """Means over files and comparison of methods.

    Parameters
    ----------
    files
        Scores, failed ones included.
    config
        The settings; gives the seed.
    micro_metrics
        From the scores of all files to the metrics of all of them together.
    """
    methods = list(dict.fromkeys(file.method for file in files))
    macro: dict[str, dict[str, Mean]] = {}
    micro: dict[str, dict[str, float]] = {}
    for method in methods:
        good = [file for file in files if file.method == method and not file.error]
        columns = dict.fromkeys(name for file in good for name in file.metrics)
        macro[method] = {
            name: mean_with_interval(
                [file.metrics.get(name, float("nan")) for file in good],
                samples=config.bootstrap_samples,
                seed=config.seed,
            )
            for name in columns
        }
        scores = [file.score for file in good if file.score is not None]
        micro[method] = micro_metrics(scores) if scores else {}
    return Evaluation(
        config=config, files=files, macro=macro, micro=micro, comparisons=_compare(files, methods)
    )


def _compare(files: list[FileScore], methods: list[str]) -> list[Comparison]:
    if len(methods) < 2:
        return []
    names = sorted({file.name for file in files})
    by_key = {(file.method, file.name): file.metrics for file in files}
    metrics = dict.fromkeys(
        name
        for file in files
        for name in file.metrics
        if name in ("dice", "iou", "precision", "recall", "cldice", "auprc", "f1", "average_precision")
        or name.startswith(("recall_", "surface_"))
    )
    return [
        comparison
        for metric in metrics
        for comparison in compare_methods(
            metric,
            {m: [by_key.get((m, n), {}).get(metric, float("nan")) for n in names] for m in methods},
        )
    ]


def _score_pair(
    method: str,
    pair: ScoredPair,
    config: EvaluateConfig,
    pixel_size: float | None,
    on_event: OnEvent,
    on_scored: OnScored | None,
) -> FileScore:
    begun = time.monotonic()
    about: dict[str, Any] = {"method": method, "name": pair.name, "pred": pair.pred, "truth": pair.truth}
    pred, truth, region, voxel_size = read_pair(pair, config, pixel_size, on_event)
    try:
        score = evaluate_mask(
            pred.data,
            truth.data,
            config,
            region=None if region is None else region.data,
            voxel_size=voxel_size,
        )
    except InputError as error:
        raise InputError(f"{pair.pred}: {error}") from error
    if Metric.AUPRC in config.metrics and config.logit_threshold is not None and score.sweep is None:
        on_event(Warn(text=f"{pred.source.name}: holds a mask, so it has no AUPRC and no threshold."))
    file = FileScore(
        **about,
        metrics=metrics_of(score, config),
        score=score,
        counts=score.overlap,
        voxel_size=voxel_size,
        seconds=time.monotonic() - begun,
    )
    if on_scored is not None:
        on_scored(file, pred.data, truth.data)
    return file


def _row(file: FileScore, *, several: bool) -> Row:
    return Row(
        name=f"{file.method}: {file.name}" if several else file.name,
        status=Status.FAILED if file.error else Status.SKIPPED if file.is_kept else Status.DONE,
        seconds=0.0 if file.is_kept else file.seconds,
        figures={name: show_metric(value) for name, value in file.metrics.items()},
        outputs=() if file.record is None else (file.record,),
        message="a finished score is kept; --overwrite scores again" if file.is_kept else file.error,
        path=file.pred,
    )


def show_metric(value: float) -> str:
    """A metric for a table: four decimals, `-` where it is undefined."""
    if np.isnan(value):
        return "-"
    return f"{value:.0f}" if np.isfinite(value) and value == int(value) and abs(value) > 1 else f"{value:.4f}"
