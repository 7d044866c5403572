"""Pick particles in tomograms and write coordinates, heat maps, previews and records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from cryoseg.config.pick import TomogramPickConfig
from cryoseg.errors import InputError
from cryoseg.events import Note, OnEvent, Report, ignore, warn_of
from cryoseg.io.images.micrographs import is_single_image
from cryoseg.io.images.pixel_size import with_pixel_size
from cryoseg.io.images.volumes import (
    made_by,
    read_mask,
    read_tomogram,
    require_voxel_size,
    write_logits,
)
from cryoseg.io.inputs import InputItem, output_stems, resolve_inputs
from cryoseg.io.pairs import mask_file
from cryoseg.io.records import hash_file
from cryoseg.methods.cet_pick.detector import Detector, load_detector
from cryoseg.methods.device import select_device
from cryoseg.pipelines.batches.finished import Done, Job, why_no_picks
from cryoseg.pipelines.batches.memory import choose_memory_level, tell_plan
from cryoseg.pipelines.batches.run import Batch, run_batch
from cryoseg.pipelines.batches.workers import run_workers
from cryoseg.pipelines.pick.coordinates import PickedObject, PicksRequest, output_paths
from cryoseg.pipelines.pick.joint import write_joint_files
from cryoseg.pipelines.pick.tomogram import check_tomogram, pick_tomogram
from cryoseg.types import BoolArray, Tomogram
from cryoseg.view.previews import ShownPicks, draw_picks
from cryoseg.view.sections import write_png

# Peak memory on a CPU without the volumes, at each memory level; see docs/results/cet-pick.md.
HOST_BYTES = (1300 * 2**20, 900 * 2**20, 750 * 2**20)


@dataclass(frozen=True, kw_only=True)
class TomogramPickRequest(PicksRequest):
    """Request to pick particles in tomograms.

    Attributes
    ----------
    model
        Packaged detector.
    config
        Settings.
    mask
        Mask of the only tomogram, or a folder of masks named after the tomograms.
    """

    model: Path
    config: TomogramPickConfig = field(default_factory=TomogramPickConfig)
    mask: Path | None = None


def pick_files(
    inputs: Sequence[str | Path],
    output_dir: Path,
    request: TomogramPickRequest,
    *,
    batch: Batch = Batch(),
    on_event: OnEvent = ignore,
) -> Report:
    """Pick every tomogram and write its outputs.

    Parameters, rows and errors are those of `segment_files`.
    """
    request, outputs, mask = request.prepared(inputs), request.outputs, request.mask
    items = resolve_inputs(inputs)
    good = [item.path for item in items if item.is_new]
    stems = output_stems(good)
    if mask is not None and not mask.is_dir() and len(good) > 1:
        raise InputError(f"--mask {mask}: one mask, and {len(good)} tomograms. Give a folder of masks.")
    if batch.devices:
        report = run_workers(partial(pick_files, inputs, output_dir, request), batch, on_event=on_event)
    else:
        report = _pick_here(items, output_dir, request, batch=batch, on_event=on_event)
    paths = {path: output_paths(output_dir, stems[path], outputs) for path in good}
    write_joint_files(output_dir, items, report, paths, outputs, batch=batch)
    return report


def _pick_here(
    items: Sequence[InputItem],
    output_dir: Path,
    request: TomogramPickRequest,
    *,
    batch: Batch,
    on_event: OnEvent,
) -> Report:
    """Pick in this process."""
    detector = load_detector(request.model, select_device(batch.device))
    settings = detector.settings
    config = request.config
    config = replace(config, thickness_axis=config.thickness_axis or settings.thickness_axis)
    request = replace(request, config=config)
    on_event(
        Note(
            text=f"Model: {request.model} ({settings.arch}, particles of "
            f"{settings.particle_diameter_angstrom:g} A, working voxel {settings.voxel_size[2]:.2f} A, "
            f"threshold {settings.score_threshold:.3f})."
        )
    )
    tell_plan(items, bytes_needed, workers=batch.workers, on_event=on_event)
    stems = output_stems([item.path for item in items if item.is_new])
    model_identity = {"sha256": hash_file(request.model), **asdict(settings)}
    listed = {item.path: item.listed for item in items if item.listed is not None}

    def own(path: Path) -> TomogramPickRequest:
        mask = None if request.mask is None else mask_file(request.mask, stems[path])
        return replace(request.of_tomogram(path, listed.get(path)), mask=mask)

    def plan(path: Path) -> Job:
        mine = own(path)
        mask = mine.mask
        identity = {
            "command": "pick",
            "model": model_identity,
            "settings": asdict(mine.config),
            "output_format": mine.outputs.output_format,
            "mask": None if mask is None else {"sha256": hash_file(mask)},
            **mine.identity(path),
        }
        options = {
            **mine.options(path),
            "model": mine.model.absolute(),
            "mask": None if mask is None else mask.absolute(),
        }
        return Job(
            path=path,
            outputs=output_paths(output_dir, stems[path], request.outputs),
            identity=identity,
            options=options,
        )

    def work(path: Path, outputs: Mapping[str, Path]) -> Done:
        return _pick_one(path, outputs, detector, own(path), workers=batch.workers, on_event=on_event)

    def examine(path: Path) -> None:
        tomogram, mask, _ = _open(path, own(path), workers=batch.workers, on_event=on_event)
        check_tomogram(tomogram, mask)

    return run_batch(
        items,
        work,
        plan=plan,
        examine=examine,
        batch=replace(batch, overwrite=request.outputs.overwrite, folder=output_dir, project=request.project),
        on_event=on_event,
    )


def bytes_needed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the bytes that a tomogram of shape (z, y, x) needs at each memory level."""
    # The heat map on the working grid, which is not finer, and its probabilities.
    volumes = 4 * int(np.prod(shape, dtype=np.int64))
    return tuple(fixed + volumes for fixed in HOST_BYTES)


def _open(
    path: Path, request: TomogramPickRequest, *, workers: int, on_event: OnEvent
) -> tuple[Tomogram, BoolArray | None, int]:
    """Read a tomogram and the mask `request.mask`, and choose the memory level."""
    mode0, pixel_size = request.config.mode0, request.pixel_size
    if is_single_image(path):
        raise InputError(
            f"{path}: is a single image, and the model picks in tomograms. Give tomograms, or a --model for "
            "micrographs."
        )
    tomogram = read_tomogram(path, mode0=mode0)
    if pixel_size is not None:
        tomogram = with_pixel_size(tomogram, pixel_size)
    warn_of(path.name, tomogram.warnings, on_event)
    if pixel_size is None and len(tomogram.data) > 1:  # `check_tomogram` refuses a single image
        require_voxel_size(tomogram)
    memory_level = choose_memory_level(path, bytes_needed(tomogram.data.shape), workers=workers)
    mask = None if request.mask is None else np.asarray(read_mask(request.mask, mode0=mode0).data > 0)
    return tomogram, mask, memory_level


def _pick_one(
    path: Path,
    outputs: Mapping[str, Path],
    detector: Detector,
    request: TomogramPickRequest,
    *,
    workers: int,
    on_event: OnEvent,
) -> Done:
    tomogram, mask, memory_level = _open(path, request, workers=workers, on_event=on_event)
    result = pick_tomogram(
        tomogram, detector, request.config, mask=mask, memory_level=memory_level, on_event=on_event
    )
    picks = result.picks
    for rule, count in result.dropped.items():
        on_event(Note(text=f"{path.name}: --{rule} dropped {count} picks above the threshold."))
    size = tomogram.geometry.voxel_size
    diameter = detector.settings.particle_diameter_angstrom
    about = PickedObject(
        method=f"cryoseg pick, {detector.settings.arch}",
        diameter_angstrom=diameter,
        marker_angstrom=diameter,
        thickness_axis=request.config.thickness_axis or detector.settings.thickness_axis,
        mask=request.mask,
    )
    request.write(outputs, tomogram, picks, about)
    if "heat_map" in outputs:
        write_logits(
            outputs["heat_map"],
            result.heat_map,
            result.heat_geometry,
            label=made_by("pick"),
            output_format=request.outputs.output_format,
        )
    if "preview" in outputs:
        picture = draw_picks(
            tomogram.data,
            ShownPicks(
                centers=picks.centers,
                diameter_voxels=(diameter / size[0], diameter / size[1], diameter / size[2]),
                scores=picks.scores,
                candidate_scores=result.candidates.scores,
                score_threshold=result.threshold,
            ),
            pixel_size=size[2],
        )
        write_png(outputs["preview"], picture)
    record = {
        "input": {"shape_zyx": tomogram.data.shape, "voxel_size_zyx": size},
        "score_threshold": result.threshold,
        "picks": len(picks),
        "candidates": len(result.candidates),
        "dropped": result.dropped,
    }
    return Done(
        record=record,
        columns={"picks": str(len(picks)), "threshold": f"{result.threshold:.3f}"},
        message="" if len(picks) else why_no_picks(result.dropped),
    )
