"""`cryoseg pick` on micrographs: files in; masks, coordinates, pictures and provenance out."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from cryoseg.config.pick import PickFormat
from cryoseg.config.pick_micrograph import MicrographPickConfig, MicrographPickOptions
from cryoseg.events import Note, OnEvent, Report, Row, Status, Warn, ignore
from cryoseg.io.images.micrographs import MICROGRAPH_SUFFIXES, read_micrograph
from cryoseg.io.images.tiff import TIFF_SUFFIXES
from cryoseg.io.images.volumes import made_by, write_logits, write_mask
from cryoseg.io.inputs import output_stems, resolve_inputs
from cryoseg.io.names import distinct_names
from cryoseg.io.outputs import make_folder
from cryoseg.io.picks.picks import PICKS_TAG, SUFFIXES, write_picks
from cryoseg.io.provenance import describe_input
from cryoseg.methods.device import describe, peak_device_memory, select_device
from cryoseg.methods.particles import model as particle_model
from cryoseg.methods.particles.model import ParticleModel
from cryoseg.pipelines.batches.finished import Job
from cryoseg.pipelines.batches.memory import choose_economy, mapped_shape, tell_plan
from cryoseg.pipelines.batches.records import own_file, peak_bytes, why_no_picks, write_record
from cryoseg.pipelines.batches.run import Batch, run_batch
from cryoseg.pipelines.batches.workers import run_workers
from cryoseg.pipelines.pick.micrograph import MicrographPickResult, pick_micrograph
from cryoseg.pipelines.pick.tomogram_files import existing_stars, write_combined_star
from cryoseg.types import Micrograph
from cryoseg.view.micrograph_overlay import write_overlay

# What `csv` means for a micrograph: the table of its own that CryoPPP has.
_MICROGRAPH_FORMAT = {PickFormat.CSV: PickFormat.CRYOPPP}
COMBINED_NAME = "particles"
PROGRAM_BYTES = 600 * 2**20
BYTES_PER_PIXEL = 24  # float32: the image, its flattened copy, logits, and what finds picks in them
OWN_OUTPUTS = re.compile(r"_particles_(mask|logits|overlay|heat_map|preview)\.|_labels\.mrc", re.I)


def pick_micrograph_files(
    inputs: Sequence[str | Path],
    output_dir: Path,
    model: ParticleModel | str,
    config: MicrographPickConfig,
    *,
    outputs: MicrographPickOptions | None = None,
    device: str = "auto",
    batch: Batch = Batch(),
    on_event: OnEvent = ignore,
) -> Report:
    """Pick every micrograph and write its outputs.

    Parameters
    ----------
    inputs, output_dir, on_event
        As in `segment_files`.
    model
        From `load_particle_model`, or a name or file for it.
    config, outputs
        How, and what to write.
    device, batch
        As in `segment_files`, with a model given by name.

    Returns
    -------
    Report
        One row per input; a broken one is a failed row.
    """
    outputs = outputs or MicrographPickOptions()
    items = resolve_inputs(inputs, suffixes=MICROGRAPH_SUFFIXES, leave_out=OWN_OUTPUTS)
    good = [item.path for item in items if item.is_new]
    stems = output_stems(good, suffixes=MICROGRAPH_SUFFIXES)
    if batch.devices:
        alone = partial(pick_micrograph_files, inputs, output_dir, model, config, outputs=outputs)
        report = run_workers(alone, batch, on_event=on_event)
    else:
        if isinstance(model, str):
            model = particle_model.load_particle_model(model, select_device(device), mode=config.mode)
        network = model
        _tell_settings(network, config, on_event)
        if not batch.is_dry:
            make_folder(output_dir)
        _warn_of_flipped_rows(good, on_event)
        need = partial(bytes_needed, model=network)
        tell_plan(items, need, workers=batch.workers, on_event=on_event)
        identity = {
            "command": "pick",
            "model": {"sha256": network.hashes, "recipe": asdict(network.recipe)},
            "settings": asdict(config),
        }

        def plan(path: Path) -> Job:
            return Job(
                path=path,
                outputs=_paths(output_dir, stems[path], outputs),
                identity=identity,
                options={"inputs": [path.resolve()], "model": own_file(network.name)},
            )

        def one(path: Path) -> Row:
            if (shape := mapped_shape(path)) is not None:
                choose_economy(path, need(shape), workers=batch.workers)
            return _pick_one(plan(path), network, config, on_event)

        report = run_batch(items, one, plan=plan, batch=batch, overwrite=outputs.overwrite, on_event=on_event)
    if outputs.combined and batch.is_whole and report.interrupted_by is None:
        failed = {row.path for row in report.rows if row.status is Status.FAILED}
        rest = {
            name: _paths(output_dir, stems[path], outputs)
            for name, path in zip(distinct_names(good), good, strict=True)
            if path not in failed
        }
        for flavor in outputs.formats:
            if SUFFIXES[flavor] == ".star":
                middle = flavor.value.removeprefix("star")
                name = f"{COMBINED_NAME}_{middle}.star" if middle else f"{COMBINED_NAME}.star"
                write_combined_star(output_dir / name, partial(existing_stars, rest, flavor))
    return report


def bytes_needed(shape: tuple[int, ...], *, model: ParticleModel) -> tuple[int, ...]:
    """Memory that one micrograph takes: program, network, the image and its views.

    Activations are not counted; where they do not fit, tiles go through the network in smaller batches.

    Parameters
    ----------
    shape
        Of the micrograph.
    model
        Loaded.
    """
    return (PROGRAM_BYTES + model.weight_bytes + BYTES_PER_PIXEL * math.prod(shape),)


def _tell_settings(model: ParticleModel, config: MicrographPickConfig, on_event: OnEvent) -> None:
    recipe = model.recipe
    threshold = recipe.logit_threshold if config.logit_threshold is None else config.logit_threshold
    on_event(
        Note(
            text=f"Model: {model.name} (tiles of {recipe.image_size} pixels, particles of "
            f"{recipe.particle_pixels:g}, logit threshold {threshold:g})."
        )
    )
    for remark in model.remarks:
        on_event(Warn(text=f"{model.name}: {remark}."))
    for key, value in asdict(config).items():
        on_event(Note(text=f"{key}: {value}", detail=True))


def _warn_of_flipped_rows(paths: Sequence[Path], on_event: OnEvent) -> None:
    if any(path.suffix.lower() in TIFF_SUFFIXES for path in paths):
        on_event(
            Warn(
                text="Coordinates count rows as the TIFF stores them; RELION and EMAN read TIFF upside down. "
                "For these, use MRC images, or `cryoseg convert --flip-y --image FILE.tif`."
            )
        )


def _paths(folder: Path, name: str, outputs: MicrographPickOptions) -> dict[str, Path]:
    """Every file of one input, by kind; the record comes last."""
    base = f"{name}{PICKS_TAG}"
    paths: dict[str, Path] = {}
    for chosen in outputs.formats:
        flavor = _MICROGRAPH_FORMAT.get(chosen, chosen)
        middle = "_cryosparc" if flavor is PickFormat.CRYOSPARC else ""
        paths[flavor.value] = folder / f"{base}{middle}{SUFFIXES[flavor]}"
    for kind, wanted, ending in (
        ("mask", outputs.mask, "mask.mrc"),
        ("logits", outputs.logits, "logits.mrc"),
        ("overlay", outputs.overlay, "overlay.png"),
    ):
        if wanted:
            paths[kind] = folder / f"{base}_{ending}"
    paths["record"] = folder / f"{base}.json"
    return paths


def _pick_one(job: Job, model: ParticleModel, config: MicrographPickConfig, on_event: OnEvent) -> Row:
    path, paths = job.path, job.outputs
    begun = time.monotonic()
    source = describe_input(path)
    micrograph = read_micrograph(path, pixel_size=config.pixel_size)
    if config.particle_diameter_px is None or config.border_angstrom or config.min_distance_angstrom:
        for warning in micrograph.warnings:
            on_event(Warn(text=f"{path.name}: {warning}"))
    result = pick_micrograph(micrograph, model, config, on_event=on_event)
    for rule, count in result.dropped.items():
        on_event(Note(text=f"{path.name}: --{rule} dropped {count} picks.", detail=True))
    picked = time.monotonic()
    _write(paths, micrograph, result, path)
    peak = peak_bytes() + peak_device_memory(model.device)
    picks = result.picks
    mean = float(picks.scores.mean()) if picks.scores is not None and len(picks) else 0.0
    record = {
        "input": {**source, "shape_yx": result.shape, "pixel_size": picks.pixel_size},
        "model": {**job.identity["model"], "name": model.name},
        "logit_threshold": result.logit_threshold,
        "particle_diameter_px": result.diameter_px,
        "view_shape_yx": result.logits.shape,
        "picks": len(picks),
        "candidates": result.candidates,
        "dropped": result.dropped,
        "mean_score": mean,
        "device": describe(model.device),
        "precision": model.precision,
        "seconds": {"pick": round(picked - begun, 2), "write": round(time.monotonic() - picked, 2)},
        "peak_memory_bytes": peak,
        "warnings": list(micrograph.warnings),
    }
    write_record(job, record)
    return Row(
        name=path.name,
        status=Status.DONE,
        figures={
            "picks": str(len(picks)),
            "mean score": f"{mean:.2f}" if len(picks) else "-",
            "particle": f"{result.diameter_px:.0f} px",
            "peak memory": f"{peak / 2**30:.2f} GiB",
        },
        outputs=tuple(paths.values()),
        message="" if len(picks) else why_no_picks(result.dropped),
    )


def _write(
    paths: Mapping[str, Path], micrograph: Micrograph, result: MicrographPickResult, path: Path
) -> None:
    # The record is the mark of completion: without it, older pieces of this output are replaced.
    paths["record"].unlink(missing_ok=True)
    label = made_by("pick")
    if "mask" in paths:
        write_mask(paths["mask"], result.mask()[None], micrograph.geometry, label=label, overwrite=True)
    if "logits" in paths:
        logits = result.native_logits()
        write_logits(paths["logits"], logits[None], micrograph.geometry, label=label, overwrite=True)
    for kind, file in paths.items():
        if kind in tuple(PickFormat):
            write_picks(file, {path.as_posix(): result.picks}, flavor=PickFormat(kind), overwrite=True)
    if "overlay" in paths:
        write_overlay(paths["overlay"], micrograph.data, result.picks, overwrite=True)
