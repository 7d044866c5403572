"""Scores of pairs of files, and the records that keep them for later runs."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from cryoseg.config import EvaluateConfig
from cryoseg.core.metrics.masks import metrics_of
from cryoseg.core.metrics.overlap import Counts
from cryoseg.errors import InputError
from cryoseg.io.records import hash_file, read_record, read_score, score_to_json
from cryoseg.pipelines.batches.finished import Job
from cryoseg.pipelines.evaluate.pairs import ScoredPair


@dataclass(frozen=True, kw_only=True)
class FileScore:
    """Score of one prediction of one method.

    Attributes
    ----------
    method, name
        Names of the method and of the image.
    pred, truth
        Files of the prediction and the truth; None if one is missing.
    metrics
        Metrics by column name; empty if `error` is set.
    score
        `Score` or `PickScore` from which the metrics were computed, for sums over files.
    counts
        Counts of the score that are written to records.
    voxel_size
        Voxel size (z, y, x) in angstrom; None if neither a header nor an option gives it.
    seconds
        Time in seconds to read and score the pair.
    error
        Error message in one sentence; empty if the pair was scored.
    is_kept
        Whether an earlier run computed the score.
    record
        Record that keeps the score, if any.
    """

    method: str
    name: str
    pred: Path | None
    truth: Path | None
    metrics: dict[str, float] = field(default_factory=dict)
    score: Any = field(default=None, repr=False)
    counts: Counts | None = None
    voxel_size: tuple[float, float, float] | None = None
    seconds: float = 0.0
    error: str = ""
    is_kept: bool = False
    record: Path | None = None


def plan_score(
    method: str, pair: ScoredPair, config: EvaluateConfig, *, pixel_size: float | None, scores_dir: Path
) -> Job:
    """Return the job of scoring a pair: its record, and all that decides the score besides the prediction."""
    if pair.pred is None or pair.truth is None:
        raise InputError(pair.error or f"{pair.name}: a file is missing.")
    name = re.sub(r"[^\w.+-]+", "_", f"{method}_{pair.name}")
    identity = {
        "command": "evaluate segmentation",
        "settings": asdict(config),
        "reading": {"pixel_size": pixel_size or pair.pixel_size},
        "truth": {"sha256": hash_file(pair.truth)},
        "region": {"sha256": None if pair.region is None else hash_file(pair.region)},
    }
    options = {
        "pred": pair.pred.absolute(),
        "truth": pair.truth.absolute(),
        "region": None if pair.region is None else pair.region.absolute(),
        "pixel-size": pixel_size or pair.pixel_size,
        "name": method,
        "also": None,
        "model": None,
    }
    return Job(
        path=pair.pred,
        outputs={"record": scores_dir / f"{name}_score.json"},
        identity=identity,
        options=options,
    )


def score_record(file: FileScore) -> dict[str, Any]:
    """Return the content of the record of a score, without the settings of its job."""
    return {
        "method": file.method,
        "name": file.name,
        "metrics": file.metrics,
        "voxel_size": file.voxel_size,
        "score": score_to_json(file.score),
        "seconds": round(file.seconds, 2),
    }


def kept_score(empty: FileScore, path: Path, config: EvaluateConfig) -> FileScore:
    """Fill an empty score with that in the record of an earlier run."""
    record, score = read_record(path), read_score(path)
    size = record.get("voxel_size")
    return replace(
        empty,
        metrics=metrics_of(score, config),
        score=score,
        counts=score.overlap,
        voxel_size=None if size is None else tuple(size),
        seconds=float(record.get("seconds") or 0.0),
        is_kept=True,
        record=path,
    )
