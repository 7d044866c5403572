"""Score masks of ordinary pictures, with means per data set."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cryoseg import __version__
from cryoseg.config.invocation import command_line, recorded_options
from cryoseg.config.pictures import ImageSettings, Smoothing
from cryoseg.core.grids.resample import area_weights
from cryoseg.core.metrics.picture import PictureScore, score_picture
from cryoseg.core.picture_frame import smooth_mask
from cryoseg.errors import ConfigError, InputError
from cryoseg.events import OnEvent, Report, Status, Warn, ignore
from cryoseg.io.images.pictures import PICTURE_SUFFIXES, read_picture_mask, read_probabilities
from cryoseg.io.inputs import InputItem
from cryoseg.io.outputs import write_rows
from cryoseg.io.pairs import base_name
from cryoseg.io.records import read_record, write_record
from cryoseg.methods.particles.model import ParticleModel
from cryoseg.pipelines.batches.finished import Done
from cryoseg.pipelines.batches.run import Batch, run_batch
from cryoseg.pipelines.segment.image import segment_images
from cryoseg.types import BoolArray, FloatArray

SUFFIXES = (".csv", ".json")
_SKIPPED = re.compile(r"_overlay$", re.I)
_HALF = 0.5
UPPER_BOUND = "the points of these masks were taken from the truth, so the scores are an upper bound."


@dataclass(frozen=True, kw_only=True)
class PicturePair:
    """Mask of one picture and its truth.

    Attributes
    ----------
    name
        Name of the picture.
    dataset
        Folder of the mask, relative to the folder of true masks; empty if they are the same.
    pred, truth
        Files; the prediction is None if it is missing.
    """

    name: str
    dataset: str
    pred: Path | None
    truth: Path


@dataclass(frozen=True, kw_only=True)
class PictureEvaluation:
    """Scores of all pictures of one run.

    Attributes
    ----------
    report
        Rows of the summary; a pair that cannot be scored is a failed row.
    scores
        Pairs that could be scored, with their scores.
    means
        Mean scores by data set and metric; the last entry, `all`, is over all pictures. The mean is NaN if no
        picture defines the metric.
    settings
        Smoothing and side that were used.
    upper_bound
        Whether points of the truth were used to segment the pictures.
    """

    report: Report
    scores: list[tuple[PicturePair, PictureScore]]
    means: dict[str, dict[str, float]]
    settings: dict[str, Any]
    upper_bound: bool


def find_picture_pairs(pred: Path, truth: Path) -> list[PicturePair]:
    """Match predicted and true masks in two folders, or two files.

    Two files are a pair even if their names differ. In folders, files match by stem without words such as
    `_mask` or `_truth`, in sub-folders of the same name; each sub-folder is a data set. Predictions without
    truth are left out, and a truth without prediction gives a pair whose `pred` is None.

    Raises
    ------
    InputError
        If a folder holds no mask, or two masks of a folder have the same name.
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
    pred: Path, truth: Path, *, smoothing: Smoothing, side: int, on_event: OnEvent = ignore
) -> PictureEvaluation:
    """Score all masks of two folders, or of two files, matched as in `find_picture_pairs`.

    Masks are averaged to a square of `side` pixels before they are thresholded at 0.5; 0 keeps the grid of
    the truth. Predicted masks are smoothed on the grid that is scored.

    Raises
    ------
    InputError
        If there is nothing to score.
    ConfigError
        If the side is negative.
    """
    if side < 0:
        raise ConfigError(f"--side {side}: must be at least 0; 0 scores on the grid of the truth.")
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
    settings = {"smoothing": smoothing.to_dict(), "side": side}
    return PictureEvaluation(
        report=report, scores=scores, means=_means(scores), settings=settings, upper_bound=is_bound
    )


def write_picture_scores(
    outputs: Iterable[Path], evaluation: PictureEvaluation, *, overwrite: bool = False
) -> None:
    """Write the scores of every picture as .csv, or with settings and means as .json."""
    for path in outputs:
        if path.suffix.lower() == ".csv":
            write_rows(path, _table(evaluation.scores), overwrite=overwrite)
            continue
        record = {
            "cryoseg": __version__,
            "command": command_line(),
            **recorded_options(),
            "settings": evaluation.settings,
            "upper_bound": evaluation.upper_bound,
            "files": [{"dataset": p.dataset, "name": p.name, **asdict(s)} for p, s in evaluation.scores],
            "failed": [row.message for row in evaluation.report.rows if row.status is Status.FAILED],
            "means": evaluation.means,
        }
        write_record(path, record, overwrite=overwrite)


def _is_upper_bound(pred: Path) -> bool:
    """Whether the record of a mask says that its points were taken from the truth."""
    record = pred.with_suffix(".json")
    return record.is_file() and read_record(record).get("upper_bound") is True


def _aligned(pred: Path, truth: Path, smoothing: Smoothing, side: int) -> tuple[BoolArray, BoolArray]:
    values, mask = read_probabilities(pred), read_picture_mask(truth)
    if values.shape != mask.shape:
        raise InputError(
            f"{pred}: is {values.shape[1]} x {values.shape[0]} px, its truth {mask.shape[1]} x "
            f"{mask.shape[0]}; both must have the same size."
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
    """Format metrics for tables; `-` if a metric is undefined."""
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


def _table(scores: Sequence[tuple[PicturePair, PictureScore]]) -> list[list[str]]:
    """Return a header and one row per picture; cells of undefined metrics are empty."""
    rows = [["dataset", "name", *asdict(score)] for _, score in scores[:1]]
    for pair, score in scores:
        values: dict[str, float] = asdict(score)
        cells = ["" if np.isnan(value) else f"{value:.6g}" for value in values.values()]
        rows.append([pair.dataset, pair.name, *cells])
    return rows


def segment_pictures(
    pictures: Path,
    output_dir: Path,
    model: ParticleModel,
    *,
    points: Path | None = None,
    overwrite: bool = False,
    on_event: OnEvent = ignore,
) -> Path:
    """Segment one picture, or a folder of pictures, and return the mask, or the folder of the masks.

    Sub-folders of `pictures` are data sets, and the masks are written into sub-folders of the same names.
    `points` are true masks from which the points are drawn, in the same sub-folders; None lets the model
    prompt itself.

    Raises
    ------
    InputError
        If there is no picture.
    """
    batch = Batch(overwrite=overwrite)
    if pictures.is_file():
        settings = ImageSettings(points=points)
        (row,) = segment_images([pictures], output_dir, model, settings, batch=batch, on_event=on_event).rows
        if not row.outputs:
            raise InputError(row.message)
        return row.outputs[0]
    folders = sorted({path.parent for path in pictures.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES})
    if not folders:
        raise InputError(f"{pictures}: holds no pictures ({', '.join(PICTURE_SUFFIXES)}).")
    for folder in folders:
        place = folder.relative_to(pictures)
        own = points / place if points is not None and (points / place).is_dir() else points
        segment_images(
            [folder], output_dir / place, model, ImageSettings(points=own), batch=batch, on_event=on_event
        )
    return output_dir
