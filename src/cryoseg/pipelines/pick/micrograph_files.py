"""Pick particles in micrographs and write coordinates, masks, pictures and records."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

from cryoseg.config.common import OutputFormat, Precision
from cryoseg.config.pick import PickFormat
from cryoseg.config.pick_micrograph import MicrographPickConfig, MicrographPickOptions
from cryoseg.events import Note, OnEvent, Report, Warn, ignore
from cryoseg.io.images.micrographs import MICROGRAPH_SUFFIXES
from cryoseg.io.images.tiff import TIFF_SUFFIXES
from cryoseg.io.images.volumes import made_by, planned_shape, write_logits, write_mask
from cryoseg.io.inputs import InputItem, listed_pixel_sizes, output_stems, resolve_inputs
from cryoseg.io.picks.picks import PICKS_TAG, write_picks
from cryoseg.methods.device import describe, peak_device_memory, select_device
from cryoseg.methods.particles import model as particle_model
from cryoseg.methods.particles.model import ParticleModel
from cryoseg.pipelines.batches.finished import Done, Job, named_outputs, own_file, peak_bytes, why_no_picks
from cryoseg.pipelines.batches.memory import choose_memory_level, tell_plan
from cryoseg.pipelines.batches.run import Batch, run_batch
from cryoseg.pipelines.batches.workers import run_workers
from cryoseg.pipelines.pick.joint import write_joint_files
from cryoseg.pipelines.pick.micrograph import (
    MicrographPickResult,
    pick_micrograph,
    read_for_picking,
    score_threshold,
)
from cryoseg.pipelines.pick.micrograph_checks import check_micrograph
from cryoseg.types import Micrograph
from cryoseg.view.previews import draw_overlay
from cryoseg.view.sections import write_png

# For micrographs, `csv` is the table of CryoPPP.
_MICROGRAPH_FORMAT = {PickFormat.CSV: PickFormat.CRYOPPP}
PROGRAM_BYTES = 600 * 2**20
BYTES_PER_PIXEL = 24  # float32: the image, its flattened copy, logits, and what finds picks in them
_FLIPPED_ROWS = (
    "Coordinates count rows in the order of the TIFF file; RELION and EMAN reverse it. For these, use MRC "
    "images, --relion for RELION, or `cryoseg convert --flip-y --image FILE.tif`."
)
OWN_OUTPUTS = re.compile(r"_particles_(mask|logits|overlay|heat_map|preview)\.|_labels\.mrc", re.I)


@dataclass(frozen=True, kw_only=True)
class MicrographPickRequest:
    """Request to pick particles in micrographs.

    Attributes
    ----------
    model
        Model from `load_particle_model`, or its name or file.
    config, outputs
        Settings, and the outputs to write.
    """

    model: ParticleModel | str
    config: MicrographPickConfig
    outputs: MicrographPickOptions = field(default_factory=MicrographPickOptions)


def pick_micrograph_files(
    inputs: Sequence[str | Path],
    output_dir: Path,
    request: MicrographPickRequest,
    *,
    batch: Batch = Batch(),
    on_event: OnEvent = ignore,
) -> Report:
    """Pick every micrograph and write its outputs.

    With several devices, the model of the request is a name or a file. The other parameters, the rows and the
    errors are those of `segment_files`.
    """
    outputs = request.outputs
    items = resolve_inputs(inputs, suffixes=MICROGRAPH_SUFFIXES, leave_out=OWN_OUTPUTS)
    good = [item.path for item in items if item.is_new]
    stems = output_stems(good, suffixes=MICROGRAPH_SUFFIXES)
    paths = {path: _paths(output_dir, stems[path], outputs) for path in good}
    if batch.devices:
        alone = partial(pick_micrograph_files, inputs, output_dir, request)
        report = run_workers(alone, batch, on_event=on_event)
    else:
        batch = replace(batch, folder=output_dir)
        if any(path.suffix.lower() in TIFF_SUFFIXES for path in good):
            on_event(Warn(text=_FLIPPED_ROWS))
        report = _pick_here(items, paths, request, batch=batch, on_event=on_event)
    write_joint_files(output_dir, items, report, paths, outputs, batch=batch)
    return report


def _pick_here(
    items: Sequence[InputItem],
    outputs: Mapping[Path, Mapping[str, Path]],
    request: MicrographPickRequest,
    *,
    batch: Batch,
    on_event: OnEvent,
) -> Report:
    """Pick in this process; `outputs` holds the output files of every input by kind."""
    model, config = request.model, request.config
    if isinstance(model, str):
        model = particle_model.load_particle_model(model, select_device(batch.device), mode=config.mode)
    model.require_prompter()
    _note_settings(model, config, on_event)
    need = partial(bytes_needed, model=model)
    tell_plan(items, need, workers=batch.workers, on_event=on_event)
    identity = {
        "command": "pick",
        "model": {"sha256": model.hashes, "recipe": asdict(model.recipe)},
        "output_format": request.outputs.output_format,
    }
    model_file = own_file(model.name)
    sizes = listed_pixel_sizes(items)

    def own(path: Path) -> MicrographPickConfig:
        return replace(config, pixel_size=config.pixel_size or sizes.get(path))

    def plan(path: Path) -> Job:
        settings = own(path)
        return Job(
            path=path,
            outputs=outputs[path],
            identity={**identity, "settings": asdict(settings)},
            options={
                "inputs": [path.absolute()],
                "model": model_file,
                "pixel-size": settings.pixel_size,
            },
        )

    def check_memory(path: Path) -> None:
        if (shape := planned_shape(path)) is not None:
            choose_memory_level(path, need(shape), workers=batch.workers)

    def examine(path: Path) -> None:
        check_memory(path)
        settings = own(path)
        micrograph = read_for_picking(path, settings, on_event)
        check_micrograph(micrograph, model.recipe, settings, on_event=on_event)

    def work(path: Path, outputs: Mapping[str, Path]) -> Done:
        check_memory(path)
        settings = own(path)
        micrograph = read_for_picking(path, settings, on_event)
        return _pick_one(micrograph, outputs, model, settings, request.outputs.output_format, on_event)

    return run_batch(
        items,
        work,
        plan=plan,
        examine=examine,
        batch=replace(batch, overwrite=request.outputs.overwrite),
        on_event=on_event,
    )


def bytes_needed(shape: tuple[int, ...], *, model: ParticleModel) -> tuple[int, ...]:
    """Return the bytes that a micrograph of a shape needs.

    Activations are not included, since smaller batches of tiles are used if they do not fit.
    """
    return (PROGRAM_BYTES + model.weight_bytes + BYTES_PER_PIXEL * math.prod(shape),)


def _note_settings(model: ParticleModel, config: MicrographPickConfig, on_event: OnEvent) -> None:
    recipe = model.recipe
    threshold = recipe.logit_threshold if config.logit_threshold is None else config.logit_threshold
    if config.precision is not None:
        rule = f"expected precision {config.precision:g}"
    elif config.false_picks is not None:
        rule = f"at most {config.false_picks:g} expected false picks per micrograph"
    else:
        best = recipe.score_threshold
        recommended = f", on its validation micrographs {best:g} was best" if best else ""
        rule = f"score threshold {score_threshold(config, recipe):g}{recommended}"
    on_event(
        Note(
            text=f"Model: {model.name} (tiles of {recipe.image_size} pixels, particles of "
            f"{recipe.particle_pixels:g}, logit threshold {threshold:g}, {rule})."
        )
    )
    for remark in model.remarks:
        on_event(Warn(text=f"{model.name}: {remark}."))
    for key, value in asdict(config).items():
        on_event(Note(text=f"{key}: {value}", detail=True))


def _paths(folder: Path, name: str, outputs: MicrographPickOptions) -> dict[str, Path]:
    """Return the output files of one input by kind; the record is the last one."""
    formats = [_MICROGRAPH_FORMAT.get(one, one) for one in outputs.written]
    return named_outputs(
        folder / f"{name}{PICKS_TAG}",
        {
            **{
                one.value: (True, ".csv" if one is PickFormat.CRYOPPP else f"{one.tag}{one.suffix}")
                for one in formats
            },
            "mask": (outputs.mask, f"_mask{outputs.output_format.suffix}"),
            "logits": (outputs.logits, f"_logits{outputs.output_format.suffix}"),
            "overlay": (outputs.overlay, "_overlay.png"),
        },
    )


def _pick_one(
    micrograph: Micrograph,
    outputs: Mapping[str, Path],
    model: ParticleModel,
    config: MicrographPickConfig,
    output_format: OutputFormat,
    on_event: OnEvent,
) -> Done:
    begun, path = time.monotonic(), micrograph.source
    result = pick_micrograph(micrograph, model, config, on_event=on_event)
    for rule, count in result.dropped.items():
        on_event(Note(text=f"{path.name}: --{rule} dropped {count} picks.", detail=True))
    picked = time.monotonic()
    _write(outputs, micrograph, result, output_format)
    peak = peak_bytes() + peak_device_memory(model.device)
    picks = result.picks
    mean = float(picks.scores.mean()) if picks.scores is not None and len(picks) else 0.0
    record = {
        "input": {"shape_yx": result.shape, "pixel_size": picks.pixel_size},
        "model": {"name": model.name},
        "logit_threshold": result.logit_threshold,
        "score_threshold": result.score_threshold,
        "recommended_score_threshold": model.recipe.score_threshold or None,
        "particle_diameter_px": result.diameter_px,
        "scale": None if result.scale is None else asdict(result.scale),
        "view_shape_yx": result.logits.shape,
        "picks": len(picks),
        "candidates": result.candidates,
        "dropped": result.dropped,
        "mean_score": mean,
        "device": describe(model.device),
        "precision": Precision.FLOAT32,
        "seconds": {"pick": round(picked - begun, 2), "write": round(time.monotonic() - picked, 2)},
        "peak_memory_bytes": peak,
        "warnings": list(micrograph.warnings),
    }
    columns = {
        "picks": str(len(picks)),
        "mean score": f"{mean:.2f}" if len(picks) else "-",
        "particle": f"{result.diameter_px:.0f} px",
        "peak memory": f"{peak / 2**30:.2f} GiB",
    }
    return Done(record=record, columns=columns, message="" if len(picks) else why_no_picks(result.dropped))


def _write(
    outputs: Mapping[str, Path],
    micrograph: Micrograph,
    result: MicrographPickResult,
    output_format: OutputFormat,
) -> None:
    label, geometry = made_by("pick"), micrograph.geometry
    if "mask" in outputs:
        write_mask(outputs["mask"], result.mask()[None], geometry, label=label, output_format=output_format)
    if "logits" in outputs:
        logits = result.native_logits()[None]
        write_logits(outputs["logits"], logits, geometry, label=label, output_format=output_format)
    for flavor in PickFormat:
        if flavor.value in outputs:
            sets = {micrograph.source.as_posix(): result.picks}
            write_picks(outputs[flavor.value], sets, flavor=flavor)
    if "overlay" in outputs:
        write_png(outputs["overlay"], draw_overlay(micrograph.data, result.picks))
