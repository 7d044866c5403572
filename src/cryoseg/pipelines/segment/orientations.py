"""Segment a tomogram in one or several orientations, and average the logits."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from cryoseg.core.grids.orientations import ORIENTATIONS, OrientationMean
from cryoseg.events import OnEvent, StageProgress
from cryoseg.methods.device import release_memory
from cryoseg.methods.segmenter import Execution, SegmentInput
from cryoseg.pipelines.batches.memory import step_down
from cryoseg.pipelines.segment.model import SegmentRun
from cryoseg.types import SegmentResult


def segment_orientations(
    volume: SegmentInput,
    run: SegmentRun,
    *,
    name: str,
    memory_level: int,
    keep_stages: bool,
    on_event: OnEvent,
) -> SegmentResult:
    """Segment a tomogram in the first `run.config.tta` orientations, without post-processing.

    Parameters
    ----------
    volume
        Tomogram to segment.
    run
        Model and settings.
    name
        Name of the tomogram, for progress.
    memory_level
        First memory level; it rises if memory does not suffice.
    keep_stages
        Whether the result contains the logits of stage 1, in the first orientation.
    on_event
        Callback for warnings and progress.

    Returns
    -------
    SegmentResult
        With several orientations, the mean of the logits and its mask.
    """
    config, level = run.config, memory_level
    orientations = ORIENTATIONS[: config.tta]
    mean = OrientationMean(with_spread=config.uncertainty)
    first: SegmentResult | None = None

    def segment(memory_level: int, *, number: int) -> SegmentResult:
        nonlocal level
        level = memory_level
        turn = orientations[number].apply
        place = f", orientation {number + 1} of {len(orientations)}" if len(orientations) > 1 else ""
        return run.model.method.segment(
            replace(
                volume,
                data=turn(volume.data),
                blank=None if volume.blank is None else turn(volume.blank),
            ),
            config,
            run.model.files,
            Execution(
                device=run.device,
                precision=run.precision,
                memory_level=memory_level,
                keep_stages=keep_stages and number == 0,
            ),
            lambda stage, done, total: on_event(
                StageProgress(name=name, stage=f"{stage}{place}", done=done, total=total)
            ),
        )

    for number, orientation in enumerate(orientations):
        result = step_down(
            partial(segment, number=number),
            name=name,
            first=level,
            on_event=on_event,
            release=partial(release_memory, run.device),
        )
        if len(orientations) == 1:
            return result
        mean.add(orientation.undo(result.logits))
        first = first or result
        del result  # frees the logits before the next orientation
    assert first is not None
    assert config.logit_threshold is not None
    np.greater(mean.logits, np.float32(config.logit_threshold), out=first.mask)
    return replace(first, logits=mean.logits, uncertainty=mean.spread())
