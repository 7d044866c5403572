"""Write evaluations as CSV and JSON files."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from cryoseg import __version__
from cryoseg.config.invocation import command_line, recorded_options
from cryoseg.io.outputs import atomic_text
from cryoseg.io.records import write_record
from cryoseg.pipelines.evaluate.segmentations import Evaluation, show_metric

SUFFIXES = (".csv", ".json", ".html")


def write_csv(path: Path, evaluation: Evaluation, *, overwrite: bool = False) -> None:
    """Write one row per method and file; cells of undefined metrics are empty.

    Raises
    ------
    OutputError
        If the file exists or cannot be written.
    """
    columns = list(dict.fromkeys(name for file in evaluation.files for name in file.metrics))
    with atomic_text(path, overwrite=overwrite) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["method", "name", "prediction", "truth", *columns, "error"])
        for file in evaluation.files:
            values = [_cell(file.metrics.get(name, float("nan"))) for name in columns]
            writer.writerow([file.method, file.name, file.pred or "", file.truth or "", *values, file.error])


def write_json(path: Path, evaluation: Evaluation, *, overwrite: bool = False) -> None:
    """Write the settings, the scores of all files, macro and micro means, and comparisons.

    Raises
    ------
    OutputError
        If the file exists or cannot be written.
    """
    write_record(path, evaluation_record(evaluation), overwrite=overwrite)


def evaluation_record(evaluation: Evaluation) -> dict[str, Any]:
    """Return the content of the JSON file of an evaluation."""
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
