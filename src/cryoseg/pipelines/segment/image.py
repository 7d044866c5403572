"""Segment ordinary pictures."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoseg.config.pictures import ImageSettings
from cryoseg.core.masks.binarize import check_logits
from cryoseg.core.picture_frame import frame_picture, smooth_mask
from cryoseg.errors import InputError
from cryoseg.events import Note, OnEvent, Report, Warn, ignore
from cryoseg.io.images.pictures import PICTURE_SUFFIXES, read_picture_mask, read_rgb, write_picture
from cryoseg.io.inputs import output_stems, resolve_inputs
from cryoseg.io.pairs import base_name
from cryoseg.io.records import hash_file
from cryoseg.methods.device import describe
from cryoseg.methods.particles.model import ParticleModel
from cryoseg.methods.particles.picture_samples import picture_logits
from cryoseg.pipelines.batches.finished import Done, Job, named_outputs, own_file
from cryoseg.pipelines.batches.run import Batch, run_batch
from cryoseg.types import BoolArray, FloatArray
from cryoseg.view.previews import draw_mask

UPPER_BOUND = "the points are taken from the truth, so the masks are an upper bound and not a prediction."
OWN_OUTPUTS = re.compile(r"_(mask|overlay)\.png$", re.I)


def segment_picture(
    rgb: NDArray[np.uint8],
    model: ParticleModel,
    *,
    crop_black: bool | None = None,
    truth: BoolArray | None = None,
) -> FloatArray:
    """Compute the logits of a picture.

    Parameters
    ----------
    rgb
        Picture (y, x, 3) in 8 bits; it is padded to a square with black.
    model
        Model from `load_particle_model`.
    crop_black
        Whether a black border is left out; None uses the setting of the training.
    truth
        True mask (y, x), from which the points of a ProMISe model are drawn; None lets the model prompt
        itself.

    Returns
    -------
    FloatArray
        Logits (y, x); minus infinity in a border that was left out.
    """
    crop = model.recipe.crop_black if crop_black is None else crop_black
    frame = frame_picture(rgb, crop_black=crop)
    side = model.network.geometry.image_size
    square = np.rint(frame.square(rgb, side)).clip(0, 255).astype(np.uint8)
    given = None if truth is None else model.points_of(frame.square(truth, side) > 0.5)
    logits = picture_logits(model.network, square, given, model.device)
    return frame.restore(logits, outside=-np.inf)


def _points_by_picture(points: Path | None, pictures: Sequence[Path]) -> dict[Path, Path]:
    """Return the true masks of pictures by name; a single mask belongs to the only picture."""
    if points is None:
        return {}
    if points.is_file():
        if len(pictures) > 1:
            raise InputError(f"--points {points}: one mask, and {len(pictures)} pictures. Give a folder.")
        return dict.fromkeys(pictures, points)
    items = resolve_inputs([points], suffixes=PICTURE_SUFFIXES, leave_out=re.compile(r"_overlay\.png$", re.I))
    masks: dict[str, Path] = {}
    for item in items:
        if item.error is not None:
            raise InputError(f"--points {item.error}")
        name = base_name(item.path, PICTURE_SUFFIXES)
        if name in masks:
            raise InputError(f"{item.path}: {masks[name].name} is of the same picture; keep one of them.")
        masks[name] = item.path
    return {path: masks[name] for path in pictures if (name := base_name(path, PICTURE_SUFFIXES)) in masks}


def _read_truth(path: Path, points: Path, masks: Mapping[Path, Path], shape: tuple[int, ...]) -> BoolArray:
    """Read the true mask (y, x) of a picture."""
    if path not in masks:
        found = ", ".join(sorted(one.name for one in points.iterdir() if one.is_file())[:4]) or "nothing"
        name = base_name(path, PICTURE_SUFFIXES)
        raise InputError(f"{path}: no mask of the name {name} in {points}, which holds {found}, ...")
    truth = read_picture_mask(masks[path])
    if truth.shape != shape:
        raise InputError(
            f"{masks[path]}: is {truth.shape[1]} x {truth.shape[0]} px, its picture {shape[1]} x {shape[0]}; "
            "both must have the same size."
        )
    return truth


def segment_images(
    inputs: Sequence[str | Path],
    output_dir: Path,
    model: ParticleModel,
    settings: ImageSettings = ImageSettings(),
    *,
    batch: Batch = Batch(),
    on_event: OnEvent = ignore,
) -> Report:
    """Segment every picture and write its mask.

    The outputs in `output_dir` are `<stem>_mask.png`, its record `<stem>_mask.json`, and
    `<stem>_overlay.png`. `model` comes from `load_particle_model`, and `settings` holds threshold, smoothing,
    points, and the outputs to write. The other parameters, the rows and the errors are those of
    `segment_files`.
    """
    threshold, crop = settings.logit_threshold, settings.crop_black
    threshold = model.recipe.logit_threshold if threshold is None else threshold
    crop = model.recipe.crop_black if crop is None else crop
    on_event(Note(text=f"Model: {model.name} (logit threshold {threshold:g})."))
    if settings.points is None:
        model.require_prompter()
    else:
        on_event(Warn(text=f"--points {settings.points}: {UPPER_BOUND}"))
    items = resolve_inputs(inputs, suffixes=PICTURE_SUFFIXES, leave_out=OWN_OUTPUTS)
    good = [item.path for item in items if item.is_new]
    stems = output_stems(good, suffixes=PICTURE_SUFFIXES)
    points = _points_by_picture(settings.points, good)
    identity = {
        "command": "segment-image",
        "model": {"sha256": model.hashes},
        "logit_threshold": threshold,
        "smoothing": settings.smoothing.to_dict(),
        "crop_black": crop,
    }

    def plan(path: Path) -> Job:
        endings = {"mask": (True, "_mask.png"), "overlay": (settings.overlay, "_overlay.png")}
        paths = named_outputs(output_dir / stems[path], {**endings, "record": (True, "_mask.json")})
        options: dict[str, Any] = {"inputs": [path.absolute()], "model": own_file(model.name)}
        own = identity
        if path in points:
            options["points"] = points[path].absolute()
            own = {**identity, "points": {"sha256": hash_file(points[path])}}
        return Job(path=path, outputs=paths, identity=own, options=options)

    def read(path: Path) -> tuple[NDArray[np.uint8], BoolArray | None]:
        rgb = read_rgb(path)
        if settings.points is None:
            return rgb, None
        return rgb, _read_truth(path, settings.points, points, rgb.shape[:2])

    def work(path: Path, outputs: Mapping[str, Path]) -> Done:
        begun = time.monotonic()
        rgb, truth = read(path)
        logits = segment_picture(rgb, model, crop_black=crop, truth=truth)
        check_logits(logits, path)
        mask = smooth_mask(logits > threshold, settings.smoothing)
        write_picture(outputs["mask"], mask)
        if "overlay" in outputs:
            write_picture(outputs["overlay"], draw_mask(rgb, mask))
        height, width = mask.shape
        marked = float(mask.mean())
        record = {
            "input": {"shape_yx": mask.shape},
            "model": {"name": model.name, "recipe": asdict(model.recipe)},
            "fraction_marked": marked,
            "upper_bound": truth is not None,
            "device": describe(model.device),
            "seconds": round(time.monotonic() - begun, 2),
        }
        remarks = ["upper bound: points from the truth"] * (truth is not None)
        remarks += ["nothing above the threshold"] * (not mask.any())
        columns = {"size": f"{width} x {height}", "marked": f"{100 * marked:.1f} %"}
        return Done(record=record, columns=columns, message="; ".join(remarks))

    return run_batch(
        items, work, plan=plan, examine=read, batch=replace(batch, folder=output_dir), on_event=on_event
    )
