"""Print the tables of `cryoseg evaluate`."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cryoseg.config.evaluate import HEADLINES
from cryoseg.pipelines.evaluate.segmentations import Evaluation, show_metric
from cryoseg.pipelines.evaluate.tables import comparison_rows, means_rows

_BEGINNINGS = tuple(name for name in HEADLINES if name.endswith("_"))


def print_evaluation(evaluation: Evaluation) -> None:
    """Print every metric of a single pair, or a row per file and the means of several."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(width=200, highlight=False)
    good = [file for file in evaluation.files if not file.error]
    if len(evaluation.files) == 1 and good:
        table = Table("metric", title=good[0].name, title_justify="left")
        table.add_column("value", justify="right")
        for name, value in good[0].metrics.items():
            table.add_row(name, show_metric(value))
        console.print(table)
        return
    _print_files(console, evaluation)
    if good:
        _print_means(console, evaluation)
    if evaluation.comparisons:
        _print_comparisons(console, evaluation)


def _print_files(console: Console, evaluation: Evaluation) -> None:
    present = dict.fromkeys(name for file in evaluation.files for name in file.metrics)
    columns = [name for name in present if name in HEADLINES or name.startswith(_BEGINNINGS)]
    table = Table("method", "file", title="Scores", title_justify="left")
    for column in columns:
        table.add_column(column, justify="right", overflow="fold")
    table.add_column("error", overflow="fold")
    for file in evaluation.files:
        values = [show_metric(file.metrics[name]) if name in file.metrics else "" for name in columns]
        table.add_row(Text(file.method), Text(file.name), *values, Text(file.error, style="red"))
    for row in evaluation.unscored:
        message = f"{row.status.value}: {row.message}"
        table.add_row("", Text(row.name), *[""] * len(columns), Text(message, style="cyan"))
    console.print(table)


def _print_means(console: Console, evaluation: Evaluation) -> None:
    table = Table("metric", title="Means over files", title_justify="left")
    for column in ("method", "macro", "95 % interval", "files", "undefined", "micro"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for row in means_rows(evaluation):
        table.add_row(*map(Text, row))
    console.print(table)


def _print_comparisons(console: Console, evaluation: Evaluation) -> None:
    table = Table(
        "metric",
        "methods",
        title="Comparison (two-sided Wilcoxon signed-rank over files, Holm-corrected over pairs of methods)",
        title_justify="left",
    )
    for column in ("difference", "files", "p", "p corrected"):
        table.add_column(column, justify="right")
    for row in comparison_rows(evaluation):
        table.add_row(*map(Text, row))
    console.print(table)
