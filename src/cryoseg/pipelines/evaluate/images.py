"""`cryoseg evaluate images`: masks of ordinary pictures against a truth, with means per data set."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cryoseg import __version__
from cryoseg.config.invocation import recorded_options
from cryoseg.config.pictures import Smoothing
from cryoseg.core.grids.resample import area_weights
from cryoseg.core.metrics.picture import PictureScore, score_picture
from cryoseg.core.picture_frame import smooth_mask
from cryoseg.errors import ConfigError, InputError
from cryoseg.events import OnEvent, Report, Status, Warn, ignore
from cryoseg.io.images.pictures import PICTURE_SUFFIXES, read_picture_mask, read_probabilities
from cryoseg.io.inputs import InputItem
from cryoseg.io.outputs import atomic_text
from cryoseg.io.pairs import base_name
from cryoseg.io.records import read_record, write_record
from cryoseg.pipelines.batches.records import Done
from cryoseg.pipelines.batches.run import run_batch
from cryoseg.types import BoolArray, FloatArray

SUFFIXES = (".csv", ".json")
_SKIPPED = re.compile(r"_overlay$", re.I)
_HALF = 0.5
UPPER_BOUND = "the points of these masks come from the truth, so that the scores are an upper bound."


@dataclass(frozen=True, kw_only=True)
class PicturePair:
    """One mask to score; `dataset` is the folder below the truth's that holds it, or empty."""

    name: str
    dataset: str
    pred: Path | None
    truth: Path


@dataclass(frozen=True, kw_only=True)
class PictureEvaluation:
    """All scores of one run.

    Attributes
    ----------
    report
        Rows for the summary; a broken pair is a failed row.
    scores
        (pair, score) of those that could be scored.
    means
        Data set to metric to mean; the last entry, `all`, is over all pictures. NaN where no picture
        defines the metric.
    """

    report: Report
    scores: list[tuple[PicturePair, PictureScore]]
    means: dict[str, dict[str, float]]


def find_picture_pairs(pred: Path, truth: Path) -> list[PicturePair]:
    """Match masks by name.

    Two files are a pair whatever their names. Of folders, files match by stem without words such as
    `_mask` or `_truth`, in folders of equal names below; each such folder is a data set. A truth
    without prediction is a failed row, predictions without truth are left out.

    Raises
    ------
    InputError
        If a folder holds no picture, or two masks of a folder have one name.
    """
    if pred.is_file() and truth.is_file():
        return [PicturePair(name=base_name(truth, PICTURE_SUFFIXES), dataset="", pred=pred, truth=truth)]
    predictions, truths = _masks(pred), _masks(truth)
    return [
        PicturePair(name=key[1], dataset=key[0], pred=predictions.get(key), truth=path)
        for key, path in sorted(truths.items())
    ]


def _masks(folder: Path) -> dict[tuple[str, str], Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give two folders of masks, or two files.")
    found: dict[tuple[str, str], Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in PICTURE_SUFFIXES or path.name.startswith("."):
            continue
        if _SKIPPED.search(path.stem):
            continue
        place = path.parent.relative_to(folder).as_posix()
        key = ("" if place == "." else place, base_name(path, PICTURE_SUFFIXES))
        if key in found:
            raise InputError(f"{path}: {found[key].name} has the same name; keep one of them.")
        found[key] = path
    if not found:
        raise InputError(f"{folder}: holds no masks ({', '.join(PICTURE_SUFFIXES)}).")
    return found


def evaluate_images(
    pred: Path,
    truth: Path,
    *,
    smoothing: Smoothing,
    side: int,
    outputs: Sequence[Path] = (),
    command: str = "",
    overwrite: bool = False,
    on_event: OnEvent = ignore,
) -> PictureEvaluation:
    """Score all masks of two folders, or of two files.

    Parameters
    ----------
    pred, truth
        See `find_picture_pairs`.
    smoothing
        Of the prediction, on the grid that is scored.
    side
        Masks are brought to squares of so many pixels, each the mean of what it covers, and cut at
        one half; 0 scores on the truth's own grid.
    outputs
        CSV with a row per picture, JSON with means too.
    command, overwrite
        For the record; whether files are replaced.
    on_event
        Told every row.

    Raises
    ------
    InputError
        If there is nothing to score.
    ConfigError
        If an output has an unknown suffix, or the side is below 0.
    """
    if side < 0:
        raise ConfigError(f"--side {side}: must be 0 for the truth's own grid, or more.")
    for path in outputs:
        if path.suffix.lower() not in SUFFIXES:
            raise ConfigError(f"--output {path}: give a name that ends in {' or '.join(SUFFIXES)}.")
    pairs = find_picture_pairs(pred, truth)
    by_truth = {pair.truth: pair for pair in pairs}
    scores: list[tuple[PicturePair, PictureScore]] = []

    def work(path: Path, outputs: Mapping[str, Path]) -> Done:
        pair = by_truth[path]
        if pair.pred is None:
            raise InputError(f"{path}: no prediction of this name in {pred / pair.dataset}.")
        score = score_picture(*_aligned(pair.pred, path, smoothing, side))
        scores.append((pair, score))
        return Done(name=_label(pair), columns=shown(asdict(score)))

    is_bound = any(_is_upper_bound(pair.pred) for pair in pairs if pair.pred is not None)
    if is_bound:
        on_event(Warn(text=f"{pred}: {UPPER_BOUND}"))
    report = run_batch([InputItem(path=pair.truth) for pair in pairs], work, on_event=on_event)
    means = _means(scores)
    settings = {"smoothing": smoothing.to_dict(), "side": side}
    for path in outputs:
        if path.suffix.lower() == ".csv":
            _write_csv(path, scores, overwrite=overwrite)
        else:
            record = {
                "cryoseg": __version__,
                "command": command,
                **recorded_options(),
                "settings": settings,
                "upper_bound": is_bound,
                "files": [{"dataset": p.dataset, "name": p.name, **asdict(s)} for p, s in scores],
                "failed": [row.message for row in report.rows if row.status is Status.FAILED],
                "means": means,
            }
            write_record(path, record, overwrite=overwrite)
    return PictureEvaluation(report=report, scores=scores, means=means)


def _is_upper_bound(pred: Path) -> bool:
    """Whether the record beside a mask says that its points came from the truth."""
    record = pred.with_suffix(".json")
    return record.is_file() and read_record(record).get("upper_bound") is True


def _aligned(pred: Path, truth: Path, smoothing: Smoothing, side: int) -> tuple[BoolArray, BoolArray]:
    values, mask = read_probabilities(pred), read_picture_mask(truth)
    if values.shape != mask.shape:
        raise InputError(
            f"{pred}: is {values.shape[1]} x {values.shape[0]} px, its truth {mask.shape[1]} x "
            f"{mask.shape[0]}; both must lie on one grid."
        )
    if side:
        values, mask = _shrunk(values, side), _shrunk(mask.astype(np.float32), side) >= _HALF
    return smooth_mask(values >= _HALF, smoothing), mask


def _shrunk(values: FloatArray, side: int) -> FloatArray:
    rows, columns = (area_weights(n, side) for n in values.shape)
    return np.asarray((columns @ (rows @ values).T).T, np.float32)


def _label(pair: PicturePair) -> str:
    return f"{pair.dataset}/{pair.name}" if pair.dataset else pair.name


def shown(metrics: dict[str, float]) -> dict[str, str]:
    """Metrics as the tables print them; `-` for what is not defined."""
    return {name: "-" if np.isnan(value) else f"{value:.4f}" for name, value in metrics.items()}


def _means(scores: Sequence[tuple[PicturePair, PictureScore]]) -> dict[str, dict[str, float]]:
    groups: dict[str, list[dict[str, float]]] = {}
    for pair, score in scores:
        if pair.dataset:
            groups.setdefault(pair.dataset, []).append(asdict(score))
    groups["all"] = [asdict(score) for _, score in scores]
    means: dict[str, dict[str, float]] = {}
    for dataset, metrics in groups.items():
        means[dataset] = {}
        for name in metrics[0] if metrics else ():
            values = np.array([one[name] for one in metrics])
            known = values[~np.isnan(values)]
            means[dataset][name] = float(known.mean()) if len(known) else float("nan")
    return means


def _write_csv(path: Path, scores: Sequence[tuple[PicturePair, PictureScore]], *, overwrite: bool) -> None:
    with atomic_text(path, overwrite=overwrite) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        for number, (pair, score) in enumerate(scores):
            values: dict[str, Any] = asdict(score)
            if number == 0:
                writer.writerow(["dataset", "name", *values])
            cells = ["" if np.isnan(value) else f"{value:.6g}" for value in values.values()]
            writer.writerow([pair.dataset, pair.name, *cells])
