"""Score predicted segmentations against true ones, file by file, and summarize the scores."""

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
from cryoseg.config.evaluate import EvaluatePicksConfig
from cryoseg.core.metrics.masks import evaluate_mask, metrics_of, micro_metrics
from cryoseg.core.metrics.statistics import Comparison, Mean, compare_methods, mean_with_interval
from cryoseg.errors import naming
from cryoseg.events import OnEvent, Report, Row, StageProgress, Status, Warn, ignore
from cryoseg.io.inputs import InputItem
from cryoseg.io.pairs import base_name
from cryoseg.pipelines.batches.finished import Done, Job
from cryoseg.pipelines.batches.memory import tell_plan
from cryoseg.pipelines.batches.run import Batch, run_batch
from cryoseg.pipelines.evaluate.pairs import ScoredPair, bytes_needed, match_predictions, read_pair
from cryoseg.pipelines.evaluate.scores import FileScore, kept_score, plan_score, score_record

# Function that receives the score of a pair, and its prediction and truth as they were read.
OnScored = Callable[[FileScore, NDArray[Any], NDArray[Any]], None]


@dataclass(frozen=True, kw_only=True)
class ScoringOptions:
    """Options of scoring besides the metrics.

    Attributes
    ----------
    region
        Masks of the voxels to score: a file, folder, quoted glob or `.txt` list; None scores all voxels.
    pixel_size
        Pixel size in angstrom; overrides those of STAR lists, which override the headers.
    scores_dir
        Folder that keeps the score of every pair; finished scores of earlier runs are reused.
    on_scored
        Callback for every pair that is scored in this run.
    """

    region: str | Path | None = None
    pixel_size: float | None = None
    scores_dir: Path | None = None
    on_scored: OnScored | None = None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores of all files of a run with their means and the comparison of methods.

    Attributes
    ----------
    config
        Metrics and their settings.
    files
        One score per method and image, including failed ones.
    macro
        Mean scores over files, by method and metric.
    micro
        Metrics of all voxels or picks together, by method and metric.
    comparisons
        Comparisons of all pairs of methods; empty for one method.
    unscored
        Rows of pairs that this run did not score: another process does, it is a dry run, or it was
        interrupted.
    interrupted_by
        Number of the signal that interrupted the run, as in `Report`.
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
        """Return the rows of all files as the report of a batch."""
        several = len({file.method for file in self.files}) > 1
        rows = [_row(file, several=several) for file in self.files] + self.unscored
        return Report(rows=rows, interrupted_by=self.interrupted_by)


def evaluate_files(
    methods: Mapping[str, str | Path | Sequence[InputItem]],
    truth: str | Path,
    config: EvaluateConfig,
    *,
    options: ScoringOptions = ScoringOptions(),
    batch: Batch = Batch(shard=ALL),
    on_event: OnEvent = ignore,
) -> Evaluation:
    """Score every prediction of every method.

    `methods` gives predictions by name of the method, as a file, folder, quoted glob or list of files
    (`.txt`, `.star`), or as the files; `truth` has the same forms. The other parameters are those of
    `score_pairs`. A file that cannot be scored is a `FileScore` with an error.

    Raises
    ------
    InputError
        If the predictions of a method, the truth or the region name no file.
    """
    prefer_logits = config.logit_threshold is not None
    work = [
        (method, pair)
        for method, pred in methods.items()
        for pair in match_predictions(pred, truth, region=options.region, prefer_logits=prefer_logits)
    ]
    if len(methods) > 1:
        # Predictions of two methods may have different names; the name of the truth compares them.
        work = [(m, replace(p, name=base_name(p.truth)) if p.truth else p) for m, p in work]
    return score_pairs(work, config, options=options, batch=batch, on_event=on_event)


def score_pairs(
    work: Sequence[tuple[str, ScoredPair]],
    config: EvaluateConfig,
    *,
    options: ScoringOptions = ScoringOptions(),
    batch: Batch = Batch(shard=ALL),
    on_event: OnEvent = ignore,
) -> Evaluation:
    """Score pairs of prediction and truth, each with the name of its method.

    A pair with an error gives a failed file. The region of `options` has no effect, since it is part of the
    pairs. `batch` holds the part of the pairs to score, and whether finished scores are computed again.
    """
    several = len({method for method, _ in work}) > 1
    pairs = {
        Path(f"{method}: {pair.name}" if several else pair.name): (method, pair) for method, pair in work
    }
    files: dict[Path, FileScore] = {}
    inputs = [InputItem(path=pair.pred) for _, pair in work if pair.pred is not None]
    tell_plan(inputs, bytes_needed, workers=batch.workers, on_event=on_event)

    def plan(label: Path) -> Job:
        assert options.scores_dir is not None
        return plan_score(*pairs[label], config, pixel_size=options.pixel_size, scores_dir=options.scores_dir)

    def score(label: Path, outputs: Mapping[str, Path]) -> Done:
        on_event(
            StageProgress(name="Scoring", stage="pairs", done=len(files), total=len(pairs), unit="pairs")
        )
        file = _score_pair(*pairs[label], config, options, on_event)
        files[label] = file
        row = _row(file, several=several)
        return Done(record=score_record(file) if outputs else {}, columns=row.columns, name=row.name)

    report = run_batch(
        [InputItem(path=label, error=pair.error) for label, (_, pair) in pairs.items()],
        score,
        plan=None if options.scores_dir is None else plan,
        examine=lambda label: read_pair(pairs[label][1], config, options.pixel_size, on_event),
        batch=batch,
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
        if row.status is Status.SKIPPED:
            files[row.path] = kept_score(_empty_score(*pairs[row.path]), row.outputs[-1], config)
        elif row.status is Status.FAILED:
            empty = _empty_score(*pairs[row.path])
            files[row.path] = replace(empty, seconds=row.seconds, error=row.message)
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
    """Compute means over files and compare the methods.

    `config` holds the samples and the seed of the bootstrap. `micro_metrics` returns the metrics of all files
    of a method together, from their scores.
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
            metric, {m: [by_key.get((m, n), {}).get(metric, float("nan")) for n in names] for m in methods}
        )
    ]


def _score_pair(
    method: str, pair: ScoredPair, config: EvaluateConfig, options: ScoringOptions, on_event: OnEvent
) -> FileScore:
    begun = time.monotonic()
    pred, truth, region, voxel_size = read_pair(pair, config, options.pixel_size, on_event)
    with naming(pair.pred):
        score = evaluate_mask(
            pred.data,
            truth.data,
            config,
            region=None if region is None else region.data,
            voxel_size=voxel_size,
        )
    if Metric.AUPRC in config.metrics and config.logit_threshold is not None and score.sweep is None:
        on_event(Warn(text=f"{pred.source.name}: is a mask, which has no AUPRC and no threshold."))
    file = replace(
        _empty_score(method, pair),
        metrics=metrics_of(score, config),
        score=score,
        counts=score.overlap,
        voxel_size=voxel_size,
        seconds=time.monotonic() - begun,
    )
    if options.on_scored is not None:
        options.on_scored(file, pred.data, truth.data)
    return file


def _empty_score(method: str, pair: ScoredPair) -> FileScore:
    return FileScore(method=method, name=pair.name, pred=pair.pred, truth=pair.truth)


def _row(file: FileScore, *, several: bool) -> Row:
    return Row(
        name=f"{file.method}: {file.name}" if several else file.name,
        status=Status.FAILED if file.error else Status.SKIPPED if file.is_kept else Status.DONE,
        seconds=0.0 if file.is_kept else file.seconds,
        columns={name: show_metric(value) for name, value in file.metrics.items()},
        outputs=() if file.record is None else (file.record,),
        message="the finished score is kept; --overwrite computes it again" if file.is_kept else file.error,
        path=file.pred,
    )


def show_metric(value: float) -> str:
    """Format a metric for a table: counts without and others with four decimals, `-` if it is undefined."""
    if np.isnan(value):
        return "-"
    is_count = isinstance(value, int) or (np.isfinite(value) and value == int(value) and abs(value) > 1)
    return f"{value:.0f}" if is_count else f"{value:.4f}"
