"""Run a model over tomograms first, so that one command gives a method's table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cryoseg.config import ModelChoice, Precision, SegmentConfig, SegmentOutputs
from cryoseg.errors import InputError
from cryoseg.pipelines.events import OnEvent, Row, ignore
from cryoseg.pipelines.segment import segment_files


def segment_first(
    tomograms: Sequence[str | Path],
    output_dir: Path,
    config: SegmentConfig,
    *,
    choice: ModelChoice,
    store_logits: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    precision: Precision = Precision.AUTO,
    on_event: OnEvent = ignore,
) -> list[Row]:
    """Segment tomograms and name what was written.

    Parameters
    ----------
    tomograms
        Files, folders, globs, lists.
    output_dir
        Of the masks and logits; finished ones are kept and used.
    config, choice, device, precision
        As in `segment_files`.
    store_logits
        Write logits too.
    overwrite
        Segment again what is finished.
    on_event
        Told everything.

    Returns
    -------
    list of Row
        One for each tomogram, in order; see `predictions`. A tomogram that failed has none, and
        will be missing as a prediction.

    Raises
    ------
    InputError
        If no tomogram could be segmented; with the first reason.
    CryosegError
        As `segment_files`.
    """
    outputs = SegmentOutputs(store_logits=store_logits, overwrite=overwrite)
    report = segment_files(
        tomograms,
        output_dir,
        config,
        choice=choice,
        outputs=outputs,
        device=device,
        precision=precision,
        on_event=on_event,
    )
    if not any(predictions(row) for row in report.rows):
        raise InputError(next((row.message for row in report.rows), "there was nothing to segment."))
    return report.rows


def predictions(row: Row) -> list[Path]:
    """Masks and logits of one segmented tomogram."""
    return [path for path in row.outputs if path.suffix == ".mrc"]
