"""Score a segmentation: every figure of `cryoseg evaluate segmentation` for one pair of arrays.

Other modules use this one and no scorer of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoseg.config import EvaluateConfig, Metric
from cryoseg.core.components import find_components
from cryoseg.core.metrics_distance import (
    ComponentRecall,
    PlaneDistance,
    measure_component_recall,
    measure_plane_distance,
)
from cryoseg.core.metrics_overlap import Overlap, count_overlap, require_one_shape
from cryoseg.errors import InputError
from cryoseg.types import BoolArray


@dataclass(frozen=True, kw_only=True)
class Score:
    """What `evaluate_mask` gives; groups that were not asked for are None.

    Attributes
    ----------
    overlap
        Voxel counts with Dice, IoU, precision and recall, where the truth is known.
    near
        Recall with a tolerance in the slice plane, clear voxels marked, volume marked.
    components
        Recall of each annotated component.
    """

    overlap: Overlap
    near: PlaneDistance | None = None
    components: ComponentRecall | None = None

    @property
    def dice(self) -> float:
        """2 TP / (2 TP + FP + FN); 1 if prediction and truth are both empty."""
        return self.overlap.dice

    @property
    def iou(self) -> float:
        """TP / (TP + FP + FN); 1 if prediction and truth are both empty."""
        return self.overlap.iou

    @property
    def precision(self) -> float:
        """TP / (TP + FP); NaN if nothing is marked where the truth is known."""
        return self.overlap.precision

    @property
    def recall(self) -> float:
        """TP / (TP + FN); NaN if the truth is empty."""
        return self.overlap.recall


def evaluate_mask(
    pred: NDArray[np.generic],
    truth: NDArray[np.generic],
    config: EvaluateConfig | None = None,
    *,
    region: NDArray[np.generic] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Score:
    """Score one predicted mask.

    Parameters
    ----------
    pred
        (z, y, x), non-zero on predicted membrane.
    truth
        (z, y, x), `config.truth_label` (by default: positive) on membrane, 0 on clear voxels,
        `config.ignore_label` where it is not known.
    config
        Which figures, and their settings; defaults if None.
    region
        (z, y, x), non-zero where to score; all of it if None.
    on_step
        Called with groups done and groups in all.

    Returns
    -------
    Score
        Undefined ratios are NaN.

    Raises
    ------
    InputError
        If the shapes differ or the arrays are not 3D.
    """
    config = config or EvaluateConfig()
    require_one_shape(pred, truth)
    if pred.ndim != 3:
        raise InputError(f"The arrays have shape {pred.shape}; give volumes (z, y, x), also for one slice.")
    if region is not None:
        require_one_shape(region, truth)
    marked: BoolArray = np.not_equal(pred, 0)
    membrane, clear = split_truth(truth, config, region)
    wanted = [
        metric for metric in Metric if metric in config.metrics and metric in (Metric.NEAR, Metric.COMPONENTS)
    ]
    told = on_step or (lambda done, total: None)
    overlap = count_overlap(marked, membrane, membrane | clear)
    near = components = None
    for done, metric in enumerate(wanted, 1):
        told(done, len(wanted) + 1)
        match metric:
            case Metric.NEAR:
                near = measure_plane_distance(
                    find_components(marked),
                    membrane,
                    clear,
                    distance_px=config.near_distance_px,
                    largest_components=config.largest_components,
                )
            case Metric.COMPONENTS:
                components = measure_component_recall(
                    marked, find_components(membrane), distance_px=config.near_distance_px
                )
    told(len(wanted) + 1, len(wanted) + 1)
    return Score(overlap=overlap, near=near, components=components)


def split_truth(
    truth: NDArray[np.generic], config: EvaluateConfig, region: NDArray[np.generic] | None = None
) -> tuple[BoolArray, BoolArray]:
    """Where the truth says membrane and where it says clear, within the region; (z, y, x) each."""
    label = config.truth_label
    membrane: BoolArray = np.greater(truth, 0) if label is None else np.equal(truth, label)
    clear: BoolArray = ~membrane
    membrane &= truth != config.ignore_label
    clear &= truth != config.ignore_label
    if region is not None:
        inside = np.not_equal(region, 0)
        membrane &= inside
        clear &= inside
    return membrane, clear
