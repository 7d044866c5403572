"""Run a model on images before its outputs are scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryoseg.config import Mode0, SegmentRequest
from cryoseg.config.batch import ALL
from cryoseg.config.pick import PickFormat, PickOutputs, TomogramPickConfig
from cryoseg.config.pick_micrograph import MicrographPickConfig, MicrographPickOptions
from cryoseg.errors import InputError
from cryoseg.events import OnEvent, Report, Row, Status, ignore
from cryoseg.io.inputs import InputItem, resolve_inputs
from cryoseg.pipelines.batches.interrupts import Interrupted
from cryoseg.pipelines.batches.run import Batch
from cryoseg.pipelines.pick.micrograph_files import MicrographPickRequest, pick_micrograph_files
from cryoseg.pipelines.pick.route import Task, task_of
from cryoseg.pipelines.pick.tomogram_files import TomogramPickRequest, pick_files
from cryoseg.pipelines.segment.files import segment_files


def segment_first(
    tomograms: Sequence[str | Path],
    output_dir: Path,
    request: SegmentRequest,
    *,
    batch: Batch = Batch(shard=ALL),
    on_event: OnEvent = ignore,
) -> list[Row]:
    """Segment tomograms, with parameters and errors as in `segment_files`.

    Returns
    -------
    list of Row
        Rows of the tomograms, in order; a failed one has no outputs.

    Raises
    ------
    InputError
        If no tomogram could be segmented; the message is that of the first one.
    """
    report = segment_files(tomograms, output_dir, request, batch=batch, on_event=on_event)
    return _refuse_nothing(report).rows


def predictions(row: Row) -> list[Path]:
    """Return the masks and logits of one segmented tomogram."""
    return [path for path in row.outputs if path.suffix == ".mrc"]


def listed_predictions(rows: Sequence[Row], tomograms: str) -> list[InputItem]:
    """Return the masks and logits of segmented tomograms, with what a STAR file says about the tomogram."""
    listed = {item.path: item.listed for item in resolve_inputs([tomograms])}
    return [
        InputItem(path=path, listed=None if row.path is None else listed.get(row.path))
        for row in rows
        for path in predictions(row)
    ]


@dataclass(frozen=True, kw_only=True)
class ImagesToPick:
    """Images in which a model picks particles.

    Attributes
    ----------
    images
        Files, folders, globs or lists of files.
    diameter_angstrom
        Diameter of the particle in angstrom, for micrographs.
    pixel_size
        Pixel size in angstrom; overrides the headers.
    mode0
        How bytes of MRC files are read.
    """

    images: Sequence[str | Path]
    diameter_angstrom: float | None = None
    pixel_size: float | None = None
    mode0: Mode0 = Mode0.AUTO


def pick_first(
    given: ImagesToPick,
    output_dir: Path,
    model: str,
    *,
    overwrite: bool = False,
    device: str = "auto",
    on_event: OnEvent = ignore,
) -> list[Row]:
    """Pick particles in micrographs or tomograms, whichever the model was trained on.

    Parameters
    ----------
    given
        The images and their scale.
    output_dir
        Folder of the coordinates; finished files are reused.
    model
        Name or file of the model, as in `cryoseg pick`.
    overwrite
        Whether finished files are replaced.
    device
        Device, as in `select_device`.
    on_event
        Callback for notes, warnings, progress and rows.

    Returns
    -------
    list of Row
        Rows of the images, in order.

    Raises
    ------
    InputError
        If picking failed in all images; the message is that of the first one.
    CryosegError
        If there is no such model or device.
    """
    batch = Batch(shard=ALL, device=device)
    if task_of(model) is Task.TOMOGRAMS:
        outputs = PickOutputs(formats=(PickFormat.CSV,), preview=False, combined=False, overwrite=overwrite)
        deep = TomogramPickRequest(
            model=Path(model),
            config=TomogramPickConfig(mode0=given.mode0),
            outputs=outputs,
            pixel_size=given.pixel_size,
        )
        report = pick_files(given.images, output_dir, deep, batch=batch, on_event=on_event)
    else:
        flat = MicrographPickRequest(
            model=model,
            config=MicrographPickConfig(
                particle_diameter_angstrom=given.diameter_angstrom,
                pixel_size=given.pixel_size,
                mode0=given.mode0,
            ),
            outputs=MicrographPickOptions(mask=False, overlay=False, combined=False, overwrite=overwrite),
        )
        report = pick_micrograph_files(given.images, output_dir, flat, batch=batch, on_event=on_event)
    return _refuse_nothing(report).rows


def coordinates(row: Row) -> list[Path]:
    """Return the coordinate files of one image."""
    return [path for path in row.outputs if path.suffix in (".csv", ".star")]


def _refuse_nothing(report: Report) -> Report:
    if report.interrupted_by is not None:
        raise Interrupted(report.interrupted_by)
    if all(row.status is Status.FAILED for row in report.rows):
        raise InputError(next((row.message for row in report.rows), "there was nothing to do."))
    return report
