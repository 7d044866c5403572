"""Collect what the output files of an evaluation need while it runs, and write them at its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from cryoseg.errors import OutputError
from cryoseg.pipelines.evaluate import Evaluation, FileScore
from cryoseg.pipelines.evaluate_tables import check_output_names, write_csv, write_json


class EvaluationWriter:
    """Writes an evaluation under every name that was asked for.

    Parameters
    ----------
    outputs
        Names that end in .csv, .json or .html.
    command
        What was typed, for the record.
    overwrite
        Replace existing files.

    Raises
    ------
    OutputError
        If an output exists and may not be replaced: known before the work begins.
    ConfigError
        If a suffix means no format.
    """

    def __init__(self, outputs: list[Path], *, command: str = "", overwrite: bool = False) -> None:
        check_output_names(outputs)
        for path in outputs:
            if path.exists() and not overwrite:
                raise OutputError(f"{path}: exists already. Pass --overwrite to replace it.")
        self._outputs = outputs
        self._command = command
        self._overwrite = overwrite

    def on_scored(self, file: FileScore, pred: NDArray[Any], truth: NDArray[Any]) -> None:
        """Take what pictures need from the arrays of one pair."""

    def finish(self, evaluation: Evaluation) -> None:
        """Write all files."""
        for path in self._outputs:
            match path.suffix.lower():
                case ".csv":
                    write_csv(path, evaluation, overwrite=self._overwrite)
                case ".json":
                    write_json(path, evaluation, command=self._command, overwrite=self._overwrite)
