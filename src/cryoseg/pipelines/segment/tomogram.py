"""Segment one tomogram, in one or several orientations."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from cryoseg.config import ModelChoice, Precision, SegmentConfig
from cryoseg.core.grids.blank import BLANK_LOGIT, find_blank
from cryoseg.core.grids.orientations import ORIENTATIONS, OrientationMean
from cryoseg.core.grids.working_grid import thin_along_y
from cryoseg.core.masks.binarize import check_logits
from cryoseg.core.masks.postprocess import postprocess_mask, why_emptied
from cryoseg.events import Note, OnEvent, StageProgress, Warn, ignore
from cryoseg.io.images.pixel_size import PixelSize, settle_pixel_size
from cryoseg.io.images.volumes import check_finite
from cryoseg.methods.device import release_memory
from cryoseg.methods.segmenter import Execution, SegmentInput
from cryoseg.pipelines.batches.memory import step_down
from cryoseg.pipelines.segment.band import check_band, to_band
from cryoseg.pipelines.segment.model import ResolvedModel, SegmentRun, prepare_run
from cryoseg.types import SegmentResult, Tomogram


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
        If the data are not finite, or a band of the requested width cannot be made.
    """
    check_finite(tomogram)
    assumed = run.model.method.assumed_pixel_size(run.model.files)
    pixel_size, warning = settle_pixel_size(tomogram, override=run.config.pixel_size, assumed=assumed)
    if warning:
        on_event(Warn(text=warning))
    if thin := thin_along_y(tomogram.data.shape):
        advice = "The model segments slices along z: rotate the volume first, as `trimvol -rx` of IMOD does."
        on_event(Warn(text=f"{tomogram.source.name}: {thin}. {advice}"))
    check_band(tomogram.source, run.config.band_width_nm, pixel_size)
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
    """Segment one tomogram (z, y, x) with finite data, with the model and settings of a run.

    The pixel size is that of `check_tomogram`. Higher memory levels use smaller batches, which need less
    memory and give the same result; the level rises from `memory_level` if memory does not suffice.
    `keep_stages` keeps the logits of stage 1.

    Raises
    ------
    MemoryError
        If memory does not suffice at the last level.
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

    result = _segment_orientations(
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
    final = result.mask
    if config.postprocess:
        final = postprocess_mask(result.mask, config.postprocess, config)
        if reason := why_emptied(result.mask, final, config):
            on_event(Warn(text=f"{name}: {reason}"))
    if config.band_width_nm is not None:
        final = to_band(final, config.band_width_nm, pixel_size.angstrom, name=name, on_event=on_event)
        if blank is not None:
            final[blank] = False
    return replace(result, post_processed=final) if config.postprocess else replace(result, mask=final)


def _segment_orientations(
    volume: SegmentInput,
    run: SegmentRun,
    *,
    name: str,
    memory_level: int,
    keep_stages: bool,
    on_event: OnEvent,
) -> SegmentResult:
    """Segment a tomogram in the first `run.config.tta` orientations, without post-processing.

    The result has the mean of the logits and the mask of the mean, and the logits of stage 1 in the first
    orientation, which is that of the tomogram. Later orientations begin at the memory level that sufficed.
    """
    config, level = run.config, memory_level

    def segment(memory_level: int, *, seen: SegmentInput, place: str) -> SegmentResult:
        nonlocal level
        level = memory_level
        execution = Execution(
            device=run.device,
            precision=run.precision,
            memory_level=memory_level,
            keep_stages=keep_stages and seen is volume,
        )
        return run.model.method.segment(
            seen,
            config,
            run.model.files,
            execution,
            lambda stage, done, total: on_event(
                StageProgress(name=name, stage=f"{stage}{place}", done=done, total=total)
            ),
        )

    def segment_stepping_down(seen: SegmentInput, place: str = "") -> SegmentResult:
        return step_down(
            partial(segment, seen=seen, place=place),
            name=name,
            first=level,
            on_event=on_event,
            release=partial(release_memory, run.device),
        )

    if config.tta == 1:
        return segment_stepping_down(volume)
    mean, first = OrientationMean(with_spread=config.uncertainty), None
    for number, orientation in enumerate(ORIENTATIONS[: config.tta], start=1):
        seen = volume
        if number > 1:
            blank = None if volume.blank is None else orientation.apply(volume.blank)
            seen = replace(volume, data=orientation.apply(volume.data), blank=blank)
        result = segment_stepping_down(seen, f", orientation {number} of {config.tta}")
        mean.add(orientation.undo(result.logits))
        first = first or result
        del result  # frees the logits before the next orientation
    assert first is not None
    assert config.logit_threshold is not None
    np.greater(mean.logits, np.float32(config.logit_threshold), out=first.mask)
    return replace(first, logits=mean.logits, uncertainty=mean.spread())
