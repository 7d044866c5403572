"""`cryoseg segment`: tomograms in; masks, logits, pictures and provenance out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np

from cryoseg.config import ModelChoice, Naming, Precision, SegmentConfig, SegmentOutputs
from cryoseg.core.blank import BLANK_LOGIT, find_blank
from cryoseg.core.masks.postprocess import postprocess_mask, why_emptied
from cryoseg.events import Event, Note, OnEvent, Report, Row, StageProgress, Status, Warn, ignore
from cryoseg.io.images.pixel_size import settle_pixel_size
from cryoseg.io.images.volumes import check_finite, made_by, read_tomogram, write_logits, write_mask
from cryoseg.io.inputs import output_stems, resolve_inputs
from cryoseg.io.outputs import make_folder
from cryoseg.io.provenance import describe_input, hash_file
from cryoseg.methods.device import (
    describe,
    peak_device_memory,
    release_memory,
    select_device,
    select_precision,
)
from cryoseg.pipelines.batches.finished import Job
from cryoseg.pipelines.batches.memory import choose_economy, step_down, tell_plan
from cryoseg.pipelines.batches.records import peak_bytes, write_record
from cryoseg.pipelines.batches.run import Batch, run_batch
from cryoseg.pipelines.batches.workers import run_workers
from cryoseg.pipelines.segment.model import ResolvedModel, bytes_needed, resolve_model
from cryoseg.types import SegmentResult, Tomogram
from cryoseg.view.preview import draw_preview
from cryoseg.view.sections import write_png


def segment_tomogram(
    tomogram: Tomogram,
    config: SegmentConfig = SegmentConfig(),
    *,
    model: ResolvedModel | ModelChoice = ModelChoice(),
    device: str = "auto",
    precision: Precision = Precision.AUTO,
    keep_stages: bool = False,
    economy: int = 0,
    on_event: OnEvent = ignore,
) -> SegmentResult:
    """Segment one tomogram; `cryoseg segment` without its files.

    Parameters
    ----------
    tomogram
        (z, y, x), any real type.
    config
        Settings; fields that are None are filled by the model.
    model
        From `resolve_model`, or a choice for it.
    device
        As in `select_device`.
    precision
        `auto` is bfloat16 on CUDA, else float32.
    keep_stages
        Keep the logits of stage 1 too.
    economy
        0, 1 or 2: smaller batches for the sake of memory, with the same result. Where memory does not
        suffice, the next step is taken by itself.
    on_event
        Told warnings and progress.

    Returns
    -------
    SegmentResult
        On the grid of the tomogram; `post_processed` is None if `config.postprocess` is empty.

    Raises
    ------
    CryosegError
        If the data are not finite, or settings, weights or device do not fit.
    MemoryError
        If memory does not suffice.
    """
    found = resolve_model(model) if isinstance(model, ModelChoice) else model
    check_finite(tomogram)
    name = tomogram.source.name
    settled = found.method.resolve(config, found.files)
    pixel_size, warning = settle_pixel_size(
        tomogram, override=config.pixel_size, assumed=found.method.assumed_pixel_size(found.files)
    )
    if warning:
        on_event(Warn(text=warning))
    blank = find_blank(tomogram.data)
    if blank is not None and blank.all():
        on_event(Warn(text=f"{name}: every voxel has the same value; there is nothing to find in it."))
        logits = np.full(blank.shape, BLANK_LOGIT, np.float32)
        nothing = np.zeros(blank.shape, bool)
        return SegmentResult(
            mask=nothing,
            logits=logits,
            stage1_logits=logits if keep_stages else None,
            post_processed=nothing if config.postprocess else None,
        )
    if blank is not None:
        on_event(
            Note(
                text=f"{name}: {100 * blank.mean():.1f} % of the volume is blank (regions of one repeated "
                "value); nothing is marked there."
            )
        )
    chosen = select_device(device)

    def run(economy: int) -> SegmentResult:
        return found.method.segment(
            tomogram.data,
            settled,
            found.files,
            pixel_size=pixel_size.angstrom,
            device=chosen,
            precision=select_precision(precision, chosen),
            blank=blank,
            on_slice=lambda stage, done, total: on_event(
                StageProgress(name=name, stage=stage, done=done, total=total)
            ),
            keep_stages=keep_stages,
            economy=economy,
        )

    result = step_down(
        run, name=name, first=economy, on_event=on_event, release=partial(release_memory, chosen)
    )
    if blank is not None:
        result.mask[blank] = False  # a threshold below the logit of blank voxels marks nothing there
    if not config.postprocess:
        return result
    processed = postprocess_mask(result.mask, config.postprocess, config)
    if reason := why_emptied(result.mask, processed, config):
        on_event(Warn(text=f"{name}: {reason}"))
    return replace(result, post_processed=processed)


def segment_files(
    inputs: Sequence[str | Path],
    output_dir: Path,
    config: SegmentConfig,
    *,
    choice: ModelChoice = ModelChoice(),
    outputs: SegmentOutputs = SegmentOutputs(),
    device: str = "auto",
    precision: Precision = Precision.AUTO,
    batch: Batch = Batch(),
    on_event: OnEvent = ignore,
) -> Report:
    """Segment every input and write its outputs.

    Other batches take `inputs`, `output_dir`, `device`, `batch` and `on_event` in the same sense.

    Parameters
    ----------
    inputs
        What the user typed: files, folders, globs, lists.
    output_dir
        Made if missing.
    config, choice, outputs
        How, with which weights, and what to write.
    device, precision
        As in `segment_tomogram`.
    batch
        The part of the inputs to do, and on which devices.
    on_event
        Told everything.

    Returns
    -------
    Report
        One row per input; a broken one is a failed row.

    Raises
    ------
    CryosegError
        If nothing can be done at all: no weights, no such device, no output folder, settings that
        the model cannot follow.
    """
    if batch.devices:
        alone = partial(
            segment_files, inputs, output_dir, config, choice=choice, outputs=outputs, precision=precision
        )
        return run_workers(alone, batch, on_event=on_event)
    select_precision(precision, select_device(device))
    model = resolve_model(choice)
    settled = model.method.resolve(config, model.files)
    on_event(Note(text=f"Model: {model.name} ({model.reason})."))
    for stage, path in enumerate(model.files.stages, start=1):
        on_event(Note(text=f"Weights {stage}: {path}", detail=True))
    for key, value in asdict(settled).items():
        on_event(Note(text=f"{key}: {_words(value)}", detail=True))
    if not batch.is_dry:
        make_folder(output_dir)
    items = resolve_inputs(inputs)
    stems = output_stems([item.path for item in items if item.is_new], naming=outputs.naming)
    identity = {
        "command": "segment",
        "model": {
            "name": model.name,
            "sha256": {path.name: hash_file(path) for path in model.files.stages},
            "sam2_config": model.files.sam2_config,
        },
        "settings": asdict(settled),
        "reading": {"mode0": outputs.mode0},
    }
    need = partial(bytes_needed, config=settled, model=model)
    tell_plan(items, need, workers=batch.workers, on_event=on_event)
    # What `auto` means depends on the device, and a batch may be repeated on another one.
    asked = {} if precision is Precision.AUTO else {"precision": precision}

    def plan(path: Path) -> Job:
        return Job(
            path=path,
            outputs=output_paths(output_dir, stems[path], config, outputs),
            identity=identity | asked,
            options={
                "inputs": [path.resolve()],
                "model": model.name if choice.model_file is None else choice.model_file.resolve(),
                "precision": select_precision(precision, select_device(device)),
            },
        )

    def one(path: Path) -> Row:
        return _segment_file(
            plan(path),
            config,
            settled,
            model,
            outputs,
            device,
            precision,
            batch.workers,
            on_event,
        )

    return run_batch(items, one, plan=plan, batch=batch, overwrite=outputs.overwrite, on_event=on_event)


def _segment_file(
    job: Job,
    config: SegmentConfig,
    settled: SegmentConfig,
    model: ResolvedModel,
    outputs: SegmentOutputs,
    device: str,
    precision: Precision,
    workers: int,
    on_event: OnEvent,
) -> Row:
    path, paths = job.path, job.outputs
    begun = time.monotonic()
    source = describe_input(path)
    tomogram = read_tomogram(path, mode0=outputs.mode0)
    for warning in tomogram.warnings:
        on_event(Warn(text=f"{path.name}: {warning}"))
    assumed = model.method.assumed_pixel_size(model.files)
    pixel_size, _ = settle_pixel_size(tomogram, override=config.pixel_size, assumed=assumed)
    needs = bytes_needed(tomogram.data.shape, config=settled, model=model)
    economy = choose_economy(path, needs, workers=workers)
    watch = _Stopwatch(on_event)
    result = segment_tomogram(
        tomogram,
        config,
        model=model,
        device=device,
        precision=precision,
        economy=economy,
        on_event=watch,
    )
    segmented = time.monotonic()
    # The record is the mark of completion: without it, older pieces of this output are replaced.
    paths["record"].unlink(missing_ok=True)
    geometry, label = tomogram.geometry, made_by("segment")
    write_mask(paths["mask"], result.mask, geometry, label=label, overwrite=True)
    if "logits" in paths:
        write_logits(paths["logits"], result.logits, geometry, label=label, overwrite=True)
    final = result.mask if result.post_processed is None else result.post_processed
    if "post_processed_mask" in paths:
        write_mask(paths["post_processed_mask"], final, geometry, label=label, overwrite=True)
    if "preview" in paths:
        picture = draw_preview(
            tomogram.data,
            final,
            pixel_size=pixel_size.angstrom,
            logits=result.logits,
            logit_threshold=settled.logit_threshold,
        )
        write_png(paths["preview"], picture, overwrite=True)
    fraction, peak = float(final.mean()), peak_bytes() + peak_device_memory(select_device(device))
    record = {
        "input": {**source, "shape_zyx": tomogram.data.shape},
        "model": {**job.identity["model"], "reason": model.reason},
        "pixel_size": asdict(pixel_size),
        "device": describe(select_device(device)),
        "precision": select_precision(precision, select_device(device)),
        "seconds": {
            **watch.seconds(),
            "segment": round(segmented - begun, 2),
            "write": round(time.monotonic() - segmented, 2),
        },
        "peak_memory_bytes": peak,
        "fraction_marked": fraction,
        "warnings": list(tomogram.warnings),
    }
    write_record(job, record)
    return Row(
        name=path.name,
        status=Status.DONE,
        figures={"membrane": f"{100 * fraction:.2f} %", "peak memory": f"{peak / 2**30:.2f} GiB"},
        outputs=tuple(paths.values()),
    )


class _Stopwatch:
    """Passes events on and notes when each stage began and ended."""

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event
        self._last = time.monotonic()
        self._spent: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, StageProgress):
            now = time.monotonic()
            self._spent[event.stage] = self._spent.get(event.stage, 0.0) + now - self._last
            self._last = now
        self._on_event(event)

    def seconds(self) -> dict[str, float]:
        """By stage; the first includes what came before it."""
        return {stage: round(spent, 2) for stage, spent in self._spent.items()}


def _words(value: object) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


def output_paths(folder: Path, stem: str, config: SegmentConfig, outputs: SegmentOutputs) -> dict[str, Path]:
    """Every file that a run writes for one input, by kind; the record comes last."""
    base = f"{stem}_membrane"
    if outputs.naming is Naming.ETSAM:
        base = f"{stem}_etsam{'_split_processing' if config.split_processing else ''}_predicted"
    paths = {"mask": folder / f"{base}_mask.mrc"}
    if outputs.store_logits:
        paths["logits"] = folder / f"{base}_logits.mrc"
    if config.postprocess:
        paths["post_processed_mask"] = folder / f"{base}_post_processed_mask.mrc"
    if outputs.preview:
        paths["preview"] = folder / f"{base}_preview.png"
    paths["record"] = folder / f"{base}.json"
    return paths
