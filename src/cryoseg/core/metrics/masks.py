"""Score a segmentation with all metrics of `cryoseg evaluate segmentation`."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cryoseg.config import EvaluateConfig, Metric
from cryoseg.core.masks.binarize import VoxelKind, to_mask, voxel_kind
from cryoseg.core.masks.postprocess import find_components
from cryoseg.core.metrics.distance import (
    ComponentRecall,
    PlaneDistance,
    measure_component_recall,
    measure_plane_distance,
    near_hits,
)
from cryoseg.core.metrics.overlap import (
    RATIOS,
    Overlap,
    PaperScore,
    PlaneCounts,
    ThresholdSweep,
    count_overlap,
    count_planes,
    prompt_sam_score,
    require_one_shape,
    sweep_thresholds,
)
from cryoseg.core.metrics.surface import (
    CenterlineScore,
    SurfaceScore,
    ThetaBin,
    compare_centerlines,
    compare_surfaces,
    measure_theta,
)
from cryoseg.core.metrics.width import Widths, compare_widths
from cryoseg.errors import InputError
from cryoseg.types import BoolArray


@dataclass(frozen=True, kw_only=True)
class Score:
    """Result of `evaluate_mask`; metrics that were not requested are None.

    Attributes
    ----------
    overlap
        Numbers of voxels with Dice, IoU, precision and recall, where the truth is known.
    near
        Recall with a tolerance in the slice plane, and shares of predicted voxels.
    widths
        Mean widths of prediction and truth.
    components
        Recall of each annotated component.
    surface
        Surface Dice and distances.
    cldice
        Centerline Dice of the slices.
    planes
        Numbers of voxels of every xy, xz and yz slice.
    theta
        Metrics by the angle between the membrane normal and the beam.
    sweep
        Histograms of logits; None if the prediction is a mask.
    prompt_sam
        Dice and IoU of the Prompt-SAM paper; None if the prediction is a mask.
    """

    overlap: Overlap
    near: PlaneDistance | None = None
    widths: Widths | None = None
    components: ComponentRecall | None = None
    surface: SurfaceScore | None = None
    cldice: CenterlineScore | None = None
    planes: dict[str, PlaneCounts] | None = None
    theta: tuple[ThetaBin, ...] | None = None
    sweep: ThresholdSweep | None = None
    prompt_sam: PaperScore | None = None

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
    voxel_size: tuple[float, float, float] | None = None,
) -> Score:
    """Score one prediction.

    Parameters
    ----------
    pred
        (z, y, x) mask (0 and one positive value), or logits with `config.logit_threshold`.
    truth
        (z, y, x) labels: `config.truth_label` (by default any positive value) is membrane,
        `config.ignore_label` is not annotated, and all other values are no membrane.
    config
        Metrics to compute and their settings; None uses the defaults.
    region
        (z, y, x) array that is non-zero in the region to score; None scores the whole volume.
    voxel_size
        (z, y, x) voxel size in angstrom; None measures surface distances in voxels.

    Returns
    -------
    Score
        Requested metrics. Undefined ratios are NaN.

    Raises
    ------
    InputError
        If the shapes differ, the arrays are not 3D, the prediction is neither a mask nor logits with a
        threshold, or a tolerance in angstrom lacks a voxel size.
    """
    config = config or EvaluateConfig()
    require_one_shape(pred, truth)
    if pred.ndim != 3:
        raise InputError(f"The arrays have shape {pred.shape}; give volumes (z, y, x), also for one slice.")
    if region is not None:
        require_one_shape(region, truth)
    marked = to_mask(pred, logit_threshold=config.logit_threshold)
    membrane, known = split_truth(truth, config, region)
    overlap = count_overlap(marked, membrane, known)
    found: dict[str, Any] = {}
    if {Metric.NEAR, Metric.COMPONENTS} & set(config.metrics):
        hits = near_hits(marked, membrane, distance_px=config.near_distance_px)
    for metric in config.metrics:
        match metric:
            case Metric.NEAR:
                found["near"] = measure_plane_distance(
                    find_components(marked),
                    membrane,
                    known,
                    hits,
                    distance_px=config.near_distance_px,
                    largest_components=config.largest_components,
                )
            case Metric.WIDTH:
                found["widths"] = compare_widths(marked, membrane, known, voxel_size=voxel_size)
            case Metric.COMPONENTS:
                found["components"] = measure_component_recall(hits, find_components(membrane))
            case Metric.SURFACE:
                spacing, tolerances, unit = surface_lengths(config, voxel_size)
                found["surface"] = compare_surfaces(
                    marked, membrane, known, tolerances=tolerances, spacing=spacing, unit=unit
                )
            case Metric.CLDICE:
                found["cldice"] = compare_centerlines(marked, membrane, known)
            case Metric.PLANES:
                found["planes"] = count_planes(marked, membrane, known)
            case Metric.THETA:
                found["theta"] = measure_theta(
                    marked, membrane, known, edges_deg=config.theta_edges_deg, seed=config.seed
                )
            case Metric.AUPRC if voxel_kind(pred) is VoxelKind.LOGITS:
                logits = cast("NDArray[np.floating[Any]]", pred)
                found["sweep"] = sweep_thresholds(logits, membrane, known)
            case Metric.PROMPT_SAM if voxel_kind(pred) is VoxelKind.LOGITS:
                logits = cast("NDArray[np.floating[Any]]", pred)
                found["prompt_sam"] = prompt_sam_score(logits, membrane, known)
    return Score(overlap=overlap, **found)


def surface_lengths(
    config: EvaluateConfig, voxel_size: tuple[float, float, float] | None
) -> tuple[tuple[float, float, float], tuple[float, ...], str]:
    """Return spacing, tolerances and unit of surface distances: angstrom, or voxels without a voxel size."""
    if voxel_size is None:
        if angstrom := [str(length) for length in config.tolerances if length.is_angstrom]:
            raise InputError(
                f"A tolerance of {angstrom[0]} needs the voxel size. Pass --pixel-size in angstrom, "
                "or tolerances such as 2vox."
            )
        return (1.0, 1.0, 1.0), tuple(length.value for length in config.tolerances), "vox"
    tolerances = (
        length.value if length.is_angstrom else length.value * min(voxel_size) for length in config.tolerances
    )
    return voxel_size, tuple(tolerances), "A"


def split_truth(
    truth: NDArray[np.generic], config: EvaluateConfig, region: NDArray[np.generic] | None = None
) -> tuple[BoolArray, BoolArray]:
    """Return the (z, y, x) masks of membrane and of annotated voxels within the region."""
    membrane, known = np.empty(truth.shape, np.bool_), np.empty(truth.shape, np.bool_)
    # The temporary arrays of single slices fit into the cache of the processor.
    for z, image in enumerate(truth):
        np.not_equal(image, config.ignore_label, out=known[z])
        if region is not None:
            known[z] &= region[z] != 0
        found = np.greater(image, 0) if config.truth_label is None else image == config.truth_label
        np.logical_and(found, known[z], out=membrane[z])
    return membrane, known


def metrics_of(score: Score, config: EvaluateConfig) -> dict[str, float]:
    """Return the computed metrics by column name, in the order of the tables.

    The names of lengths contain their unit; all other metrics are ratios or counts. Undefined values are NaN.
    """
    metrics = _overlap(score.overlap)
    if score.near is not None:
        metrics |= _near(score.near)
    if (widths := score.widths) is not None:
        metrics |= {f"width_{widths.unit}": widths.pred, f"truth_width_{widths.unit}": widths.truth}
    if (parts := score.components) is not None:
        metrics |= {
            "components": float(parts.components),
            "components_found": parts.found,
            "component_recall": parts.mean,
        }
    if (surface := score.surface) is not None:
        for length, dice in zip(config.tolerances, surface.dice, strict=True):
            metrics[f"surface_dice_{length}"] = dice
        metrics |= {
            f"surface_distance_mean_{surface.unit}": surface.mean_distance,
            f"surface_distance_95_{surface.unit}": surface.hausdorff_95,
        }
    if (lines := score.cldice) is not None:
        metrics |= {
            "cldice": lines.cldice,
            "cl_precision": lines.precision,
            "cl_sensitivity": lines.sensitivity,
        }
    for plane, counts in (score.planes or {}).items():
        ours, etsam = counts.means(), counts.means(undefined=0.0)
        metrics |= {f"{plane}_{name}": ours[name] for name in RATIOS}
        metrics |= {f"{plane}_{name}_etsam": etsam[name] for name in RATIOS}
    for part in score.theta or ():
        name = f"theta_{part.low_deg:g}_{part.high_deg:g}"
        metrics |= {f"{name}_{metric}": getattr(part, metric) for metric in RATIOS}
    if score.sweep is not None:
        metrics |= _sweep(score.sweep)
    if (paper := score.prompt_sam) is not None:
        metrics |= {"dice_prompt_sam": paper.dice, "iou_prompt_sam": paper.iou}
    return metrics


def micro_metrics(scores: Sequence[Score]) -> dict[str, float]:
    """Return the metrics of all files together whose counts can be added: overlap, near and sweep."""
    metrics = _overlap(reduce(operator.add, (score.overlap for score in scores)))
    nears = [score.near for score in scores if score.near is not None]
    if len(nears) == len(scores):
        metrics |= _near(reduce(operator.add, nears))
    sweeps = [score.sweep for score in scores if score.sweep is not None]
    if len(sweeps) == len(scores):
        metrics |= _sweep(reduce(operator.add, sweeps))
    return metrics


def _near(near: PlaneDistance) -> dict[str, float]:
    within = f"{near.distance_px:g}px"
    return {
        f"recall_{within}": near.recall,
        f"recall_{within}_largest_{near.largest_components}": near.recall_by_largest,
        "clear_marked": near.clear_fraction,
        "volume_marked": near.volume_fraction,
    }


def _overlap(overlap: Overlap) -> dict[str, float]:
    return {name: getattr(overlap, name) for name in RATIOS}


def _sweep(sweep: ThresholdSweep) -> dict[str, float]:
    threshold, dice = sweep.best_dice
    return {"auprc": sweep.average_precision, "best_threshold": threshold, "best_dice": dice}
