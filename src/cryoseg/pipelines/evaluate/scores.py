"""The score of one pair of files, and keeping it for later runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cryoseg.config import EvaluateConfig
from cryoseg.core.metrics.columns import metrics_of
from cryoseg.core.metrics.overlap import Overlap
from cryoseg.core.metrics.picks import PickCounts
from cryoseg.errors import InputError
from cryoseg.io.records import hash_file, read_record, read_score, score_to_json
from cryoseg.pipelines.batches.finished import Job
from cryoseg.pipelines.evaluate.pairs import ScoredPair


@dataclass(frozen=True, kw_only=True)
class FileScore:
    """One prediction of one method.

    Attributes
    ----------
    method, name
        Which method, which tomogram.
    pred, truth
        The files; None where one is missing.
    metrics
        Column name to value; empty if `error` is set.
    score
        What they were computed from, for sums over files: a `Score` or a `PickScore`.
    counts
        Of it, what goes into records.
    voxel_size
        (z, y, x) in angstrom, or None if no header or option gives it.
    seconds
        Time to read and score.
    error
        One sentence if it failed, else empty.
    is_kept
        An earlier run computed it.
    record
        Where it is kept, if it is.
    """

    method: str
    name: str
    pred: Path | None
    truth: Path | None
    metrics: dict[str, float] = field(default_factory=dict)
    score: Any = field(default=None, repr=False)
    counts: Overlap | PickCounts | None = None
    voxel_size: tuple[float, float, float] | None = None
    seconds: float = 0.0
    error: str = ""
    is_kept: bool = False
    record: Path | None = None


def plan_score(
    method: str, pair: ScoredPair, config: EvaluateConfig, *, pixel_size: float | None, scores_dir: Path
) -> Job:
    """Where the score of a pair is kept, and what it depends on besides the prediction."""
    if pair.pred is None or pair.truth is None:
        raise InputError(pair.error or f"{pair.name}: a file is missing.")
    name = re.sub(r"[^\w.+-]+", "_", f"{method}_{pair.name}")
    identity = {
        "command": "evaluate segmentation",
        "settings": asdict(config),
        "reading": {"pixel_size": pixel_size},
        "truth": {"sha256": hash_file(pair.truth)},
        "region": {"sha256": None if pair.region is None else hash_file(pair.region)},
    }
    options = {
        "pred": pair.pred.absolute(),
        "truth": pair.truth.absolute(),
        "region": None if pair.region is None else pair.region.absolute(),
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
    """What the record of a score holds besides what its job knows."""
    return {
        "method": file.method,
        "name": file.name,
        "metrics": file.metrics,
        "voxel_size": file.voxel_size,
        "score": score_to_json(file.score),
        "seconds": round(file.seconds, 2),
    }


def kept_score(path: Path, config: EvaluateConfig, about: Mapping[str, Any]) -> FileScore:
    """The score in a record that an earlier run wrote."""
    record, score = read_record(path), read_score(path)
    size = record.get("voxel_size")
    return FileScore(
        **about,
        metrics=metrics_of(score, config),
        score=score,
        counts=score.overlap,
        voxel_size=None if size is None else tuple(size),
        seconds=float(record.get("seconds") or 0.0),
        is_kept=True,
        record=path,
    )
