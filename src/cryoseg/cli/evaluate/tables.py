"""Tables of `cryoseg evaluate` on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cryoseg.config.evaluate import HEADLINES
from cryoseg.pipelines.evaluate.segmentations import Evaluation, show_metric

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
    metrics = dict.fromkeys(name for means in evaluation.macro.values() for name in means)
    for metric in metrics:
        for method, means in evaluation.macro.items():
            if (mean := means.get(metric)) is None:
                continue
            micro = evaluation.micro[method].get(metric)
            interval = f"{show_metric(mean.low)} to {show_metric(mean.high)}" if mean.files > 1 else "-"
            table.add_row(
                metric,
                Text(method),
                show_metric(mean.value),
                interval,
                str(mean.files),
                str(mean.undefined),
                "" if micro is None else show_metric(micro),
            )
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
    for one in evaluation.comparisons:
        table.add_row(
            one.metric,
            Text(f"{one.first} - {one.second}"),
            f"{one.difference:+.4f}",
            str(one.files),
            f"{one.p_value:.3g}",
            f"{one.p_corrected:.3g}",
        )
    console.print(table)
