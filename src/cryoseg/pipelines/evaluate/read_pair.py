"""Read the volumes of a pair and refuse what cannot be scored."""

from __future__ import annotations

import numpy as np

from cryoseg.config import EvaluateConfig, Metric
from cryoseg.core.grids.axes import (
    can_exchange_axes,
    find_exchanged_axes,
    shape_mismatch,
    voxel_size_mismatch,
)
from cryoseg.core.masks.binarize import to_mask
from cryoseg.core.metrics.masks import split_truth
from cryoseg.errors import InputError
from cryoseg.events import OnEvent, Warn
from cryoseg.io.images.pixel_size import contradiction
from cryoseg.io.images.volumes import improbable_voxel_size, read_mask, read_tomogram
from cryoseg.pipelines.batches.memory import choose_memory_level
from cryoseg.pipelines.evaluate.pairs import ScoredPair
from cryoseg.types import BoolArray, Tomogram


def bytes_needed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the bytes that scoring a pair of shape (z, y, x) needs, without memory-mapped files."""
    # Measured; see docs/results/evaluate-speed.md.
    return (300 * 2**20 + 4 * int(np.prod(shape, dtype=np.int64)),)


def read_pair(
    pair: ScoredPair, config: EvaluateConfig, pixel_size: float | None, on_event: OnEvent
) -> tuple[Tomogram, Tomogram, Tomogram | None, tuple[float, float, float] | None]:
    """Read a pair and check that it can be scored.

    Parameters
    ----------
    pair
        Pair from `match_predictions`.
    config
        Settings, with the labels of membrane.
    pixel_size
        Pixel size in angstrom; overrides the headers.
    on_event
        Callback for warnings.

    Returns
    -------
    tuple
        Prediction, truth, region or None, and voxel size (z, y, x) in angstrom or None.

    Raises
    ------
    InputError
        If a file cannot be read, shapes or voxel sizes differ, or a label of the truth is unknown.
    """
    if pair.error is not None or pair.pred is None or pair.truth is None:
        raise InputError(pair.error or f"{pair.name}: a file is missing.")
    pred, truth = read_tomogram(pair.pred, mode0=config.mode0), read_mask(pair.truth, mode0=config.mode0)
    for volume in (pred, truth):
        for warning in volume.warnings:
            on_event(Warn(text=f"{volume.source.name}: {warning}"))
    choose_memory_level(pair.pred, bytes_needed(pred.data.shape))
    _check_labels(truth, config)
    voxel_size = _check_pair(pred, truth, pixel_size)
    if pixel_size is not None and (doubt := contradiction(truth.geometry, pixel_size)):
        on_event(Warn(text=f"{truth.source.name}: {doubt}"))
    doubt = improbable_voxel_size(truth.geometry)
    if voxel_size is None and doubt and Metric.SURFACE in config.metrics:
        on_event(Warn(text=f"{truth.source.name}: {doubt} Distances are in voxels."))
    region = None
    if pair.region is not None:
        region = read_mask(pair.region, mode0=config.mode0)
        if problem := shape_mismatch(region.data.shape, truth.data.shape):
            raise InputError(f"{pair.region}: {problem.replace('prediction', 'region')}")
    _refuse_turned(pred, truth, config)
    if not config.allow_empty:
        _refuse_empty(pred, truth, config)
    return pred, truth, region, voxel_size


def _check_pair(
    pred: Tomogram, truth: Tomogram, pixel_size: float | None
) -> tuple[float, float, float] | None:
    """Check shapes and voxel sizes; return the voxel size in angstrom, or None if it is unknown."""
    if problem := shape_mismatch(pred.data.shape, truth.data.shape):
        raise InputError(f"{pred.source}: {problem}")
    if pixel_size is not None:
        return (pixel_size, pixel_size, pixel_size)
    sizes = [volume.geometry for volume in (truth, pred) if improbable_voxel_size(volume.geometry) is None]
    problem = voxel_size_mismatch(pred.geometry.voxel_size, truth.geometry.voxel_size)
    if problem and len(sizes) == 2:
        raise InputError(f"{pred.source}: {problem}")
    return sizes[0].voxel_size if sizes else None


def _refuse_empty(pred: Tomogram, truth: Tomogram, config: EvaluateConfig) -> None:
    """Refuse a truth without membrane if the prediction marks some: its labels may have been misread."""
    if any(split_truth(image, config)[0].any() for image in truth.data):
        return
    marked = int(_marked(pred, config).sum())
    if marked:
        raise InputError(
            f"{truth.source}: no voxel is membrane, and {pred.source.name} marks {marked}. Check the labels, "
            "--truth-label, and how their bytes are read (--mode0), or pass --allow-empty."
        )


def _marked(pred: Tomogram, config: EvaluateConfig) -> BoolArray:
    try:
        return to_mask(pred.data, logit_threshold=config.logit_threshold)
    except InputError as error:
        raise InputError(f"{pred.source}: {error}") from error


def _refuse_turned(pred: Tomogram, truth: Tomogram, config: EvaluateConfig) -> None:
    if not can_exchange_axes(pred.data.shape):
        return
    membrane, _ = split_truth(truth.data, config)
    if order := find_exchanged_axes(_marked(pred, config), membrane):
        raise InputError(
            f"{pred.source}: the axes are exchanged: it fits {truth.source.name} only with its axes taken in "
            f"the order {order}. Write it in the order z, y, x of the truth."
        )


def _check_labels(truth: Tomogram, config: EvaluateConfig) -> None:
    """Refuse a truth with several positive labels, unless one was chosen."""
    if config.truth_label is not None:
        return
    label: int | None = None
    for z, image in enumerate(truth.data):
        label = int(image.max()) if label is None and image.max() > 0 else label
        expected = (image == 0) | (image == config.ignore_label)
        if label is not None:
            expected |= image == label
        if not expected.all():
            found = np.unique(image[~expected])
            raise InputError(
                f"{truth.source}: slice {z} holds {', '.join(map(str, found[:4]))} beside 0, {label or 1} "
                f"and the ignore label {config.ignore_label}. Say with --truth-label which value is membrane."
            )
