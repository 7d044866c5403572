"""Write the output files of an evaluation: CSV, JSON, and an HTML report with pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoseg import __version__
from cryoseg.config import EvaluateConfig
from cryoseg.config.invocation import command_line, recorded_options
from cryoseg.core.masks.binarize import to_mask
from cryoseg.core.metrics.masks import Score, split_truth
from cryoseg.core.metrics.overlap import count_overlap
from cryoseg.core.metrics.picks import PickScore, join_curves
from cryoseg.io.outputs import atomic_text, check_outputs, write_rows
from cryoseg.io.records import write_record
from cryoseg.pipelines.evaluate.scores import FileScore
from cryoseg.pipelines.evaluate.segmentations import Evaluation, show_metric
from cryoseg.view import report as view

SUFFIXES = (".csv", ".json", ".html")


def write_scores(path: Path, evaluation: Evaluation, *, overwrite: bool = False) -> None:
    """Write one row per method and file as CSV; cells of undefined metrics are empty."""
    columns = list(dict.fromkeys(name for file in evaluation.files for name in file.metrics))
    rows: list[list[Any]] = [["method", "name", "prediction", "truth", *columns, "error"]]
    for file in evaluation.files:
        values = [_cell(file.metrics.get(name, float("nan"))) for name in columns]
        rows.append([file.method, file.name, file.pred or "", file.truth or "", *values, file.error])
    write_rows(path, rows, overwrite=overwrite)


def evaluation_record(evaluation: Evaluation) -> dict[str, Any]:
    """Return the settings, the scores of all files, macro and micro means, and comparisons."""
    return {
        "version": __version__,
        "command": command_line(),
        **recorded_options(),
        "settings": evaluation.config,
        "notes": {
            "interval": "95 % percentile bootstrap over files",
            "test": "two-sided Wilcoxon signed-rank over files, Holm-corrected over pairs of methods",
            "undefined": "null; left out of macro means and counted",
        },
        "files": [
            {
                "method": file.method,
                "name": file.name,
                "prediction": file.pred,
                "truth": file.truth,
                "voxel_size_angstrom": file.voxel_size,
                "seconds": round(file.seconds, 3),
                "error": file.error or None,
                "metrics": file.metrics,
                "counts": file.counts,
            }
            for file in evaluation.files
        ],
        "macro": evaluation.macro,
        "micro": evaluation.micro,
        "comparisons": evaluation.comparisons,
    }


def means_rows(evaluation: Evaluation) -> list[list[str]]:
    """Return metric, method, macro mean, interval, files, undefined and micro mean, metric by metric."""
    rows = []
    for metric in dict.fromkeys(name for means in evaluation.macro.values() for name in means):
        for method, means in evaluation.macro.items():
            if (mean := means.get(metric)) is None:
                continue
            micro = evaluation.micro[method].get(metric)
            interval = f"{show_metric(mean.low)} to {show_metric(mean.high)}" if mean.files > 1 else "-"
            counts = [str(mean.files), str(mean.undefined)]
            last = "" if micro is None else show_metric(micro)
            rows.append([metric, method, show_metric(mean.value), interval, *counts, last])
    return rows


def comparison_rows(evaluation: Evaluation) -> list[list[str]]:
    """Return metric, methods, difference, files, p and corrected p of every comparison."""
    return [
        [
            one.metric,
            f"{one.first} - {one.second}",
            f"{one.difference:+.4f}",
            str(one.files),
            f"{one.p_value:.3g}",
            f"{one.p_corrected:.3g}",
        ]
        for one in evaluation.comparisons
    ]


def _cell(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.6g}"


# A picture has about 20 kB; a report of many files shows the worst and the best ones.
_MOST_PICTURED_FILES = 20


class EvaluationWriter:
    """Writer of the output files of an evaluation.

    Parameters
    ----------
    outputs
        File names that end in .csv, .json or .html.
    config
        Settings of an evaluation of masks, for pictures; None for picks.
    overwrite
        Whether existing files are replaced.

    Raises
    ------
    OutputError
        If an output exists and may not be replaced.
    ConfigError
        If an output has another suffix.
    """

    def __init__(
        self, outputs: Sequence[Path], *, config: EvaluateConfig | None = None, overwrite: bool = False
    ) -> None:
        check_outputs(outputs, SUFFIXES, overwrite=overwrite)
        self._outputs = outputs
        self._config = config
        self._overwrite = overwrite
        self._pictures: dict[tuple[str, str], list[str]] = {}

    def on_scored(self, file: FileScore, pred: NDArray[Any], truth: NDArray[Any]) -> None:
        """Draw the best and the worst slice of one pair (z, y, x), if an HTML report is to be written."""
        if self._config is None or not any(path.suffix.lower() == ".html" for path in self._outputs):
            return
        self._pictures[file.method, file.name] = [
            view.figure(picture, f"{file.method}, {file.name}: {caption}")
            for picture, caption in _slice_pictures(pred, truth, self._config)
        ]

    def finish(self, evaluation: Evaluation) -> None:
        """Write all files."""
        for path in self._outputs:
            match path.suffix.lower():
                case ".csv":
                    write_scores(path, evaluation, overwrite=self._overwrite)
                case ".json":
                    write_record(path, evaluation_record(evaluation), overwrite=self._overwrite)
                case ".html":
                    text = render_report(evaluation, pictures=self._pictures)
                    with atomic_text(path, overwrite=self._overwrite) as stream:
                        stream.write(text)


def render_report(evaluation: Evaluation, *, pictures: dict[tuple[str, str], list[str]] | None = None) -> str:
    """Return a report as one HTML text that needs no network.

    `pictures` are pictures in HTML by names of method and file.
    """
    blocks = [view.paragraph(f"cryoseg {__version__}. {command_line()}")]
    good = [file for file in evaluation.files if not file.error]
    failed = [file for file in evaluation.files if file.error]
    blocks += [view.paragraph(f"{file.method}, {file.name}: {file.error}", is_error=True) for file in failed]
    if good:
        header = ["metric", "method", "macro mean", "95 % interval", "files", "undefined", "micro"]
        blocks += [view.heading("Means over files"), view.table(header, means_rows(evaluation))]
        blocks += _comparisons(evaluation)
        blocks += [view.heading("Files"), view.figure(*_bars(good)), _files_table(good)]
        if lines := _curves(good):
            caption = "Precision and recall of all files together, at every threshold."
            chart = view.curves(lines, x_label="recall", y_label="precision")
            blocks += [view.heading("Precision and recall"), view.figure(chart, caption)]
    if pictures:
        blocks.append(view.heading("Slices"))
        blocks.append(
            view.paragraph(
                "Green: true positives. Orange: false positives. Blue: false negatives. Gray: not labeled."
            )
        )
        ranked = sorted(good, key=lambda file: file.metrics.get("dice", 0.0))
        if len(ranked) > _MOST_PICTURED_FILES:
            half = _MOST_PICTURED_FILES // 2
            blocks.append(view.paragraph(f"The {half} files with the lowest and the highest Dice."))
            ranked = ranked[:half] + ranked[-half:]
        for file in ranked:
            blocks += pictures.get((file.method, file.name), [])
    return view.page("Evaluation", blocks)


def _bars(good: list[FileScore]) -> tuple[str, str]:
    name = "dice" if "dice" in good[0].metrics else "f1"
    series: dict[str, dict[str, float]] = {}
    for file in good:
        series.setdefault(file.method, {})[file.name] = file.metrics.get(name, float("nan"))
    return view.bars(series, label=name), f"{name} of every file."


def _comparisons(evaluation: Evaluation) -> list[str]:
    if not evaluation.comparisons:
        return []
    note = "Two-sided Wilcoxon signed-rank test over files, corrected after Holm over the pairs of methods."
    header = ["metric", "methods", "difference", "files", "p", "p corrected"]
    return [view.heading("Comparison"), view.paragraph(note), view.table(header, comparison_rows(evaluation))]


def _files_table(good: list[FileScore]) -> str:
    columns = list(dict.fromkeys(name for file in good for name in file.metrics))
    rows = [
        [
            file.name,
            file.method,
            *(show_metric(file.metrics[name]) if name in file.metrics else "" for name in columns),
        ]
        for file in good
    ]
    return view.table(["file", "method", *columns], rows)


def _curves(good: list[FileScore]) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return recall and precision by method, for methods whose files all have a curve."""
    lines = {}
    for method in dict.fromkeys(file.method for file in good):
        scores = [file.score for file in good if file.method == method]
        sweeps = [score.sweep for score in scores if isinstance(score, Score) and score.sweep is not None]
        picked = [score.curve for score in scores if isinstance(score, PickScore) and score.curve is not None]
        if sweeps and len(sweeps) == len(scores):
            precision, recall, _ = sum(sweeps[1:], start=sweeps[0]).curve()
            lines[method] = (recall, precision)
        elif picked and len(picked) == len(scores):
            _, precision, recall = join_curves(picked).points()
            lines[method] = (recall, precision)
    return lines


def _slice_pictures(pred: NDArray[Any], truth: NDArray[Any], config: EvaluateConfig) -> list[tuple[str, str]]:
    """Draw the slices with the lowest and the highest Dice; return pictures with captions."""
    scored: list[tuple[float, int]] = []
    for z in range(len(truth)):
        overlap = count_overlap(*(mask[None] for mask in _slice_masks(pred, truth, z, config)))
        if overlap.true_positives + overlap.false_negatives:
            scored.append((overlap.dice, z))
    pictures = []
    chosen = sorted({min(scored), max(scored)}) if scored else []
    for dice, z in chosen:
        marked, membrane, known = _slice_masks(pred, truth, z, config)
        picture = view.image(view.error_overlay(marked, membrane, known))
        pictures.append((picture, f"slice {z}, Dice {dice:.3f}"))
    return pictures


def _slice_masks(
    pred: NDArray[Any], truth: NDArray[Any], z: int, config: EvaluateConfig
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    membrane, known = split_truth(truth[z], config)
    # A slice of logits may hold only 0 and 1, but it is thresholded as the volume was.
    if pred.dtype.kind == "f" and config.logit_threshold is not None:
        return pred[z] > np.float32(config.logit_threshold), membrane, known
    return to_mask(pred[z : z + 1], logit_threshold=None)[0], membrane, known
