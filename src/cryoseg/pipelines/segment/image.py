"""`cryoseg segment-image`: masks of ordinary pictures."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryoseg.config.pictures import ImageSettings
from cryoseg.core.masks.binarize import check_logits
from cryoseg.core.picture_frame import frame_picture, smooth_mask
from cryoseg.events import Note, OnEvent, Report, ignore
from cryoseg.io.images.pictures import PICTURE_SUFFIXES, read_rgb, write_picture
from cryoseg.io.inputs import output_stems, resolve_inputs
from cryoseg.io.outputs import make_folder
from cryoseg.methods.device import describe
from cryoseg.methods.particles.model import ParticleModel
from cryoseg.methods.particles.picture_samples import picture_logits
from cryoseg.pipelines.batches.finished import Job
from cryoseg.pipelines.batches.records import Done, own_file
from cryoseg.pipelines.batches.run import Batch, run_batch
from cryoseg.types import FloatArray
from cryoseg.view.picture_overlay import draw_mask

OWN_OUTPUTS = re.compile(r"_(mask|overlay)\.png$", re.I)


def segment_picture(
    rgb: NDArray[np.uint8], model: ParticleModel, *, crop_black: bool | None = None
) -> FloatArray:
    """Logits of a picture on its own grid.

    Parameters
    ----------
    rgb
        (y, x, 3), 8 bit; it is filled to a square with black.
    model
        From `load_particle_model`.
    crop_black
        Leave out a black border; None does as the model was trained.

    Returns
    -------
    FloatArray
        (y, x); minus infinity where a border was cut off.
    """
    crop = model.recipe.crop_black if crop_black is None else crop_black
    frame = frame_picture(rgb, crop_black=crop)
    side = model.network.geometry.image_size
    square = np.rint(frame.square(rgb, side)).clip(0, 255).astype(np.uint8)
    logits = picture_logits(model.network, square, None, model.device)
    return frame.restore(logits, outside=-np.inf)


def segment_images(
    inputs: Sequence[str | Path],
    output_dir: Path,
    model: ParticleModel,
    settings: ImageSettings = ImageSettings(),
    *,
    batch: Batch = Batch(),
    overwrite: bool = False,
    on_event: OnEvent = ignore,
) -> Report:
    """Segment every picture and write its mask.

    Parameters
    ----------
    inputs, batch, on_event
        As in `segment_files`.
    output_dir
        Made if missing; receives `<stem>_mask.png`, its record `<stem>_mask.json`, and
        `<stem>_overlay.png`.
    model
        From `load_particle_model`.
    settings
        How, and what to write.
    overwrite
        Replace finished outputs.

    Returns
    -------
    Report
        One row per input; a broken one is a failed row.
    """
    threshold, crop = settings.logit_threshold, settings.crop_black
    threshold = model.recipe.logit_threshold if threshold is None else threshold
    crop = model.recipe.crop_black if crop is None else crop
    on_event(Note(text=f"Model: {model.name} (logit threshold {threshold:g})."))
    if not batch.is_dry:
        make_folder(output_dir)
    items = resolve_inputs(inputs, suffixes=PICTURE_SUFFIXES, leave_out=OWN_OUTPUTS)
    stems = output_stems([item.path for item in items if item.is_new], suffixes=PICTURE_SUFFIXES)
    identity = {
        "command": "segment-image",
        "model": {"sha256": model.hashes},
        "logit_threshold": threshold,
        "smoothing": settings.smoothing.to_dict(),
        "crop_black": crop,
    }

    def plan(path: Path) -> Job:
        paths = {"mask": output_dir / f"{stems[path]}_mask.png"}
        if settings.overlay:
            paths["overlay"] = output_dir / f"{stems[path]}_overlay.png"
        paths["record"] = output_dir / f"{stems[path]}_mask.json"
        options = {"inputs": [path.absolute()], "model": own_file(model.name)}
        return Job(path=path, outputs=paths, identity=identity, options=options)

    def work(path: Path, outputs: Mapping[str, Path]) -> Done:
        begun = time.monotonic()
        rgb = read_rgb(path)
        logits = segment_picture(rgb, model, crop_black=crop)
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
            "device": describe(model.device),
            "seconds": round(time.monotonic() - begun, 2),
        }
        return Done(
            record=record,
            columns={"size": f"{width} x {height}", "marked": f"{100 * marked:.1f} %"},
            message="" if mask.any() else "nothing above the threshold",
        )

    return run_batch(items, work, plan=plan, batch=batch, overwrite=overwrite, on_event=on_event)
