"""Segment tomograms and write masks, logits, previews and records."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from cryoseg.config import (
    Mode0,
    ModelName,
    Naming,
    Precision,
    Preset,
    SegmentConfig,
    SegmentOutputs,
    SegmentRequest,
)
from cryoseg.core.masks.postprocess import find_components
from cryoseg.events import Note, OnEvent, Report, ignore, warn_of
from cryoseg.io.images.pixel_size import PixelSize
from cryoseg.io.images.volumes import made_by, read_mask, read_tomogram, write_logits, write_mask
from cryoseg.io.inputs import listed_pixel_sizes, output_stems, resolve_inputs, stem
from cryoseg.io.outputs import ANNOTATION_SUFFIX, folder_of
from cryoseg.io.picks.chimerax import Scene, write_scene
from cryoseg.io.picks.copick_project import copick_output
from cryoseg.io.picks.portal_annotation import MEMBRANE, PortalAnnotation
from cryoseg.io.records import hash_file
from cryoseg.methods.device import describe, peak_device_memory
from cryoseg.pipelines.batches.finished import Done, Job, Stopwatch, named_outputs, peak_bytes
from cryoseg.pipelines.batches.memory import choose_memory_level, tell_plan
from cryoseg.pipelines.batches.run import Batch, run_batch
from cryoseg.pipelines.batches.workers import run_workers
from cryoseg.pipelines.segment.model import SegmentRun, prepare_run
from cryoseg.pipelines.segment.tomogram import check_tomogram, segment_in_run
from cryoseg.types import BoolArray, SegmentResult, Tomogram
from cryoseg.view.previews import draw_preview
from cryoseg.view.sections import write_png

LABELS = 127  # components with a color of their own, which int8 limits
_PRESET_NOTES = {
    Preset.V1: "Preset: v1, the settings of ETSAM's first release. ETSAM 2.x itself uses v2 by default; "
    "--preset v2 selects it.",
    Preset.V2: "Preset: v2, the default of ETSAM 2.x itself.",
}


def output_paths(folder: Path, stem: str, config: SegmentConfig, outputs: SegmentOutputs) -> dict[str, Path]:
    """Return the output files of one input by kind; the record is the last one."""
    base = f"{stem}_membrane"
    if outputs.naming is Naming.ETSAM:
        # Source: jianlin-cheng/ETSAM etsam.py@9ad0d23.
        base = f"{stem}_etsam_predicted{'_split_processing' if config.split_processing else ''}"
    suffix = outputs.output_format.suffix
    return named_outputs(
        folder / base,
        {
            "mask": (True, f"_mask{suffix}"),
            "logits": (outputs.store_logits, f"_logits{suffix}"),
            "uncertainty": (config.uncertainty, f"_uncertainty{suffix}"),
            "post_processed_mask": (bool(config.postprocess), f"_post_processed_mask{suffix}"),
            "preview": (outputs.preview, "_preview.png"),
            "components": (outputs.chimerax, "_components.mrc"),
            "scene": (outputs.chimerax, ".cxc"),
            "annotation": (outputs.portal_annotation is not None, ANNOTATION_SUFFIX),
        },
    )


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
    project = copick_output(
        request.outputs.copick, inputs, kind="segmentation", overwrite=request.outputs.overwrite
    )
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
                "portal-annotation": None if metadata is None else metadata.absolute(),
            },
        )

    def examine(path: Path) -> None:
        _open(path, own(path), mode0=request.outputs.mode0, workers=batch.workers, on_event=on_event)

    def work(path: Path, outputs: Mapping[str, Path]) -> Done:
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
        batch=replace(batch, overwrite=request.outputs.overwrite, folder=output_dir, project=project),
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
    warn_of(path.name, tomogram.warnings, on_event)
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
    final = _write_outputs(outputs, tomogram, result, run, written, pixel_size)
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


def _write_outputs(
    outputs: Mapping[str, Path],
    tomogram: Tomogram,
    result: SegmentResult,
    run: SegmentRun,
    written: SegmentOutputs,
    pixel_size: PixelSize,
) -> BoolArray:
    """Write all outputs but the record, and return the final (z, y, x) mask, filtered if there are steps."""
    final = result.mask if result.post_processed is None else result.post_processed
    for kind, write, volume in (
        ("mask", write_mask, result.mask),
        ("logits", write_logits, result.logits),
        ("uncertainty", write_logits, result.uncertainty),
        ("post_processed_mask", write_mask, final),
    ):
        if kind in outputs and volume is not None:
            write(
                outputs[kind],
                volume,
                tomogram.geometry,
                label=made_by("segment"),
                output_format=written.output_format,
            )
    if "preview" in outputs:
        picture = draw_preview(
            tomogram.data,
            final,
            pixel_size=pixel_size.angstrom,
            logits=result.logits,
            logit_threshold=run.config.logit_threshold,
        )
        write_png(outputs["preview"], picture)
    if "scene" in outputs:
        ranked = find_components(final).ranked(LABELS)
        write_mask(outputs["components"], ranked, tomogram.geometry, label=made_by("segment"))
        folder = folder_of(outputs["scene"])
        scene = Scene(
            tomogram=tomogram,
            mask=folder / outputs.get("post_processed_mask", outputs["mask"]).name,
            labels=folder / outputs["components"].name if final.any() else None,
        )
        write_scene(outputs["scene"], scene, folder)
    if written.portal_annotation is not None:
        PortalAnnotation.read(written.portal_annotation, target=MEMBRANE).write_mask(
            outputs["annotation"],
            stem(tomogram.source),
            tomogram,
            final,
            method=f"cryoseg segment with the model {run.model.name}",
        )
    return final


def _words(value: object) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)
