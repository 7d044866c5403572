"""Run a model over tomograms first, so that one command gives a method's table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cryoseg.config import ModelChoice, Precision, SegmentConfig, SegmentOutputs
from cryoseg.config.batch import ALL
from cryoseg.config.pick import PickFormat, PickOutputs
from cryoseg.config.pick_micrograph import MicrographPickConfig, MicrographPickOptions
from cryoseg.errors import InputError
from cryoseg.events import OnEvent, Report, Row, Status, ignore
from cryoseg.pipelines.batches.interrupts import Interrupted
from cryoseg.pipelines.batches.run import Batch
from cryoseg.pipelines.pick.micrograph_files import pick_micrograph_files
from cryoseg.pipelines.pick.route import Task, task_of
from cryoseg.pipelines.pick.tomogram_files import pick_files
from cryoseg.pipelines.segment.files import segment_files


def segment_first(
    tomograms: Sequence[str | Path],
    output_dir: Path,
    config: SegmentConfig,
    *,
    choice: ModelChoice,
    store_logits: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    devices: tuple[str, ...] = (),
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
    devices
        Several to use at once, instead of `device`.
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
        batch=Batch(shard=ALL, devices=devices),
        on_event=on_event,
    )
    return _refuse_nothing(report).rows


def predictions(row: Row) -> list[Path]:
    """Masks and logits of one segmented tomogram."""
    return [path for path in row.outputs if path.suffix == ".mrc"]


def pick_first(
    images: Sequence[str | Path],
    output_dir: Path,
    model: str,
    *,
    diameter_angstrom: float | None = None,
    pixel_size: float | None = None,
    overwrite: bool = False,
    device: str = "auto",
    on_event: OnEvent = ignore,
) -> list[Row]:
    """Pick particles in micrographs or tomograms, as the model can, and name what was written.

    Parameters
    ----------
    images
        Files, folders, globs, lists.
    output_dir
        Of the coordinates; finished ones are kept and used.
    model
        A name or a file, as `cryoseg pick` takes it.
    diameter_angstrom
        Of the particle; micrographs only.
    pixel_size
        In angstrom; overrides the headers.
    overwrite
        Pick again what is finished.
    device
        As in `select_device`.
    on_event
        Told everything.

    Returns
    -------
    list of Row
        One for each image, in order; see `coordinates`.

    Raises
    ------
    InputError
        If no image could be picked; with the first reason.
    CryosegError
        If there is no such model or device.
    """
    if task_of(model) is Task.TOMOGRAMS:
        report = pick_files(
            images,
            output_dir,
            Path(model),
            outputs=PickOutputs(
                formats=(PickFormat.CSV,), preview=False, combined=False, overwrite=overwrite
            ),
            pixel_size=pixel_size,
            device=device,
            batch=Batch(shard=ALL),
            on_event=on_event,
        )
    else:
        report = pick_micrograph_files(
            images,
            output_dir,
            model,
            MicrographPickConfig(particle_diameter_angstrom=diameter_angstrom, pixel_size=pixel_size),
            outputs=MicrographPickOptions(mask=False, overlay=False, combined=False, overwrite=overwrite),
            device=device,
            batch=Batch(shard=ALL),
            on_event=on_event,
        )
    return _refuse_nothing(report).rows


def coordinates(row: Row) -> list[Path]:
    """Files of coordinates of one image."""
    return [path for path in row.outputs if path.suffix in (".csv", ".star")]


def _refuse_nothing(report: Report) -> Report:
    if report.interrupted_by is not None:
        raise Interrupted(report.interrupted_by)
    if all(row.status is Status.FAILED for row in report.rows):
        raise InputError(next((row.message for row in report.rows), "there was nothing to do."))
    return report
