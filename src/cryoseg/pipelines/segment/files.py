"""Segment tomograms and write masks, logits, previews and records."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np

from cryoseg.config import (
    Mode0,
    ModelChoice,
    ModelName,
    Precision,
    Preset,
    SegmentConfig,
    SegmentOutputs,
    SegmentRequest,
)
from cryoseg.core.grids.blank import BLANK_LOGIT, find_blank
from cryoseg.core.masks.binarize import check_logits
from cryoseg.core.masks.postprocess import postprocess_mask, why_emptied
from cryoseg.events import Note, OnEvent, Report, Warn, ignore
from cryoseg.io.images.pixel_size import PixelSize, settle_pixel_size
from cryoseg.io.images.volumes import (
    check_finite,
    read_mask,
    read_tomogram,
)
from cryoseg.io.inputs import listed_pixel_sizes, output_stems, resolve_inputs
from cryoseg.io.outputs import make_folder
from cryoseg.io.picks.copick_project import copick_output
from cryoseg.io.picks.portal_annotation import MEMBRANE, PortalAnnotation
from cryoseg.io.records import hash_file
from cryoseg.methods.device import describe, peak_device_memory
from cryoseg.methods.segmenter import SegmentInput
from cryoseg.pipelines.batches.finished import Done, Job, Stopwatch, peak_bytes
from cryoseg.pipelines.batches.memory import choose_memory_level, tell_plan
from cryoseg.pipelines.batches.run import Batch, run_batch
from cryoseg.pipelines.batches.workers import run_workers
from cryoseg.pipelines.segment.model import ResolvedModel, SegmentRun, prepare_run
from cryoseg.pipelines.segment.orientations import segment_orientations
from cryoseg.pipelines.segment.outputs import output_paths, write_outputs
from cryoseg.types import SegmentResult, Tomogram

_PRESET_NOTES = {
    Preset.V1: "Preset: v1, the settings of ETSAM's first release. ETSAM 2.x itself uses v2 by default; "
    "--preset v2 selects it.",
    Preset.V2: "Preset: v2, the default of ETSAM 2.x itself.",
}


def segment_tomogram(
    tomogram: Tomogram,
    config: SegmentConfig = SegmentConfig(),
    *,
    model: ResolvedModel | ModelChoice = ModelChoice(),
    device: str = "auto",
    precision: Precision = Precision.AUTO,
    on_event: OnEvent = ignore,
) -> SegmentResult:
    """Segment one tomogram.

    Parameters
    ----------
    tomogram
        Tomogram (z, y, x) of any real type.
    config
        Settings; fields that are None are set by the model.
    model
        Model from `resolve_model`, or a choice for it.
    device
        Device, as in `select_device`.
    precision
        Precision of the networks; `auto` is bfloat16 on CUDA, otherwise float32.
    on_event
        Callback for warnings and progress.

    Returns
    -------
    SegmentResult
        Mask and logits (z, y, x); `post_processed` is None if `config.postprocess` is empty, and
        `uncertainty` without `config.uncertainty`.

    Raises
    ------
    CryosegError
        If the data are not finite, or settings, weights or device cannot be used.
    MemoryError
        If memory does not suffice.
    """
    run = prepare_run(config, model, device=device, precision=precision)
    return segment_in_run(tomogram, run, check_tomogram(tomogram, run, on_event), on_event=on_event)


def check_tomogram(tomogram: Tomogram, run: SegmentRun, on_event: OnEvent = ignore) -> PixelSize:
    """Return the pixel size at which a tomogram is segmented, and warn if it is doubtful.

    Raises
    ------
    InputError
        If the data are not finite.
    """
    check_finite(tomogram)
    assumed = run.model.method.assumed_pixel_size(run.model.files)
    pixel_size, warning = settle_pixel_size(tomogram, override=run.config.pixel_size, assumed=assumed)
    if warning:
        on_event(Warn(text=warning))
    return pixel_size


def segment_in_run(
    tomogram: Tomogram,
    run: SegmentRun,
    pixel_size: PixelSize,
    *,
    memory_level: int = 0,
    keep_stages: bool = False,
    on_event: OnEvent = ignore,
) -> SegmentResult:
    """Segment one tomogram with the model and settings of a run.

    Parameters
    ----------
    tomogram
        Tomogram (z, y, x) of any real type, with finite data.
    run
        Model and settings from `prepare_run`.
    pixel_size
        Pixel size from `check_tomogram`.
    memory_level
        First memory level: 0, 1 or 2. Higher levels use smaller batches, which need less memory and give
        the same result; the level rises if memory does not suffice.
    keep_stages
        Whether the logits of stage 1 are kept.
    on_event
        Callback for warnings and progress.

    Raises
    ------
    MemoryError
        If memory does not suffice.
    """
    name, config = tomogram.source.name, run.config
    blank = find_blank(tomogram.data)
    if blank is not None and blank.all():
        on_event(Warn(text=f"{name}: every voxel has the same value, so nothing is marked."))
        logits = np.full(blank.shape, BLANK_LOGIT, np.float32)
        nothing = np.zeros(blank.shape, bool)
        return SegmentResult(
            mask=nothing,
            logits=logits,
            stage1_logits=logits if keep_stages else None,
            post_processed=nothing if config.postprocess else None,
            uncertainty=np.zeros_like(logits) if config.uncertainty else None,
        )
    if blank is not None:
        on_event(
            Note(
                text=f"{name}: {100 * blank.mean():.1f} % of the volume is blank (regions of one repeated "
                "value); nothing is marked there."
            )
        )

    result = segment_orientations(
        SegmentInput(data=tomogram.data, pixel_size=pixel_size.angstrom, blank=blank),
        run,
        name=name,
        memory_level=memory_level,
        keep_stages=keep_stages,
        on_event=on_event,
    )
    check_logits(result.logits, tomogram.source)
    if blank is not None:
        result.mask[blank] = False  # the threshold may be below the logit of blank voxels
    if not config.postprocess:
        return result
    processed = postprocess_mask(result.mask, config.postprocess, config)
    if reason := why_emptied(result.mask, processed, config):
        on_event(Warn(text=f"{name}: {reason}"))
    return replace(result, post_processed=processed)


def segment_files(
    inputs: Sequence[str | Path],
    output_dir: Path,
    request: SegmentRequest = SegmentRequest(),
    *,
    batch: Batch = Batch(),
    on_event: OnEvent = ignore,
) -> Report:
    """Segment every input and write its outputs.

    Parameters
    ----------
    inputs
        Files, folders, globs or lists of files.
    output_dir
        Output folder, which is made if it is missing.
    request
        Settings, weights, and the outputs to write.
    batch
        Part of the inputs to process, and the devices.
    on_event
        Callback for notes, warnings, progress and rows.

    Returns
    -------
    Report
        One row per input; an input that cannot be processed is a failed row.

    Raises
    ------
    CryosegError
        If no input can be processed, because weights, device or output folder are missing or the model
        does not support the settings.
    """
    if batch.devices:
        return run_workers(partial(segment_files, inputs, output_dir, request), batch, on_event=on_event)
    run = prepare_run(request.config, request.choice, device=batch.device, precision=request.precision)
    _note_settings(run, on_event)
    if not batch.is_dry:
        make_folder(output_dir)
    items = resolve_inputs(inputs)
    stems = output_stems([item.path for item in items if item.is_new], naming=request.outputs.naming)
    tell_plan(items, run.bytes_needed, workers=batch.workers, on_event=on_event)
    model_file = request.choice.model_file
    sizes = listed_pixel_sizes(items)
    identity = {
        "command": "segment",
        "model": {
            "name": run.model.name,
            "sha256": {path.name: hash_file(path) for path in run.model.files.stages},
            "sam2_config": run.model.files.sam2_config,
        },
        "reading": {"mode0": request.outputs.mode0},
        "output_format": request.outputs.output_format,
    }
    if (metadata := request.outputs.portal_annotation) is not None:
        PortalAnnotation.read(metadata, target=MEMBRANE)
        identity["portal_annotation"] = {"sha256": hash_file(metadata)}
    project = copick_output(request.outputs.copick, inputs, overwrite=request.outputs.overwrite)
    stored = None if project is None else project.uri("segmentation")
    if stored is not None:
        identity["copick"] = stored
    if request.precision is not Precision.AUTO:
        # `auto` depends on the device, and a batch may be repeated on another one.
        identity["precision"] = request.precision

    def own(path: Path) -> SegmentRun:
        size = run.config.pixel_size or sizes.get(path)
        return replace(run, config=replace(run.config, pixel_size=size))

    def plan(path: Path) -> Job:
        config = own(path).config
        return Job(
            path=path,
            outputs=output_paths(output_dir, stems[path], config, request.outputs),
            identity={**identity, "settings": asdict(config)},
            options={
                "inputs": [path.absolute()],
                "model": model_file.resolve() if model_file is not None else run.model.name,
                "precision": run.precision,
                "pixel-size": config.pixel_size,
                "copick": stored,
                "portal-annotation": None if metadata is None else metadata.absolute(),
            },
        )

    def examine(path: Path) -> None:
        if project is not None:
            project.check(path, "segmentation")
        _open(path, own(path), mode0=request.outputs.mode0, workers=batch.workers, on_event=on_event)

    def work(path: Path, outputs: Mapping[str, Path]) -> Done:
        if project is not None:
            project.check(path, "segmentation")
        done = _segment_file(
            path, outputs, own(path), written=request.outputs, workers=batch.workers, on_event=on_event
        )
        if project is not None:
            final = outputs.get("post_processed_mask", outputs["mask"])
            project.write_segmentation(path, read_mask(final).data > 0)
        return done

    return run_batch(
        items,
        work,
        plan=plan,
        examine=examine,
        batch=replace(batch, overwrite=request.outputs.overwrite),
        on_event=on_event,
    )


def _note_settings(run: SegmentRun, on_event: OnEvent) -> None:
    on_event(Note(text=f"Model: {run.model.name} ({run.model.reason})."))
    if run.model.name is ModelName.ETSAM:
        on_event(Note(text=_PRESET_NOTES[run.config.preset]))
    for stage, path in enumerate(run.model.files.stages, start=1):
        on_event(Note(text=f"Weights {stage}: {path}", detail=True))
    for key, value in asdict(run.config).items():
        on_event(Note(text=f"{key}: {_words(value)}", detail=True))


def _open(
    path: Path, run: SegmentRun, *, mode0: Mode0, workers: int, on_event: OnEvent
) -> tuple[Tomogram, PixelSize, int]:
    """Read a tomogram, refuse what cannot be segmented, and choose the memory level."""
    tomogram = read_tomogram(path, mode0=mode0)
    for warning in tomogram.warnings:
        on_event(Warn(text=f"{path.name}: {warning}"))
    memory_level = choose_memory_level(path, run.bytes_needed(tomogram.data.shape), workers=workers)
    return tomogram, check_tomogram(tomogram, run, on_event), memory_level


def _segment_file(
    path: Path,
    outputs: Mapping[str, Path],
    run: SegmentRun,
    *,
    written: SegmentOutputs,
    workers: int,
    on_event: OnEvent,
) -> Done:
    begun = time.monotonic()
    tomogram, pixel_size, memory_level = _open(
        path, run, mode0=written.mode0, workers=workers, on_event=on_event
    )
    watch = Stopwatch(on_event)
    result = segment_in_run(tomogram, run, pixel_size, memory_level=memory_level, on_event=watch)
    segmented = time.monotonic()
    final = write_outputs(outputs, tomogram, result, run, written, pixel_size)
    fraction, peak = float(final.mean()), peak_bytes() + peak_device_memory(run.device)
    record = {
        "input": {"shape_zyx": tomogram.data.shape},
        "model": {"reason": run.model.reason},
        "pixel_size": asdict(pixel_size),
        "device": describe(run.device),
        "precision": run.precision,
        "seconds": {
            **watch.seconds(),
            "segment": round(segmented - begun, 2),
            "write": round(time.monotonic() - segmented, 2),
        },
        "peak_memory_bytes": peak,
        "fraction_marked": fraction,
        "warnings": list(tomogram.warnings),
    }
    columns = {"membrane": f"{100 * fraction:.2f} %", "peak memory": f"{peak / 2**30:.2f} GiB"}
    return Done(record=record, columns=columns)


def _words(value: object) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)
