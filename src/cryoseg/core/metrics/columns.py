"""Metrics of a score by name, as columns of tables."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import reduce

from cryoseg.config import EvaluateConfig
from cryoseg.core.metrics.distance import PlaneDistance
from cryoseg.core.metrics.masks import Score
from cryoseg.core.metrics.overlap import Overlap
from cryoseg.core.metrics.planes import RATIOS
from cryoseg.core.metrics.threshold import ThresholdSweep


def metrics_of(score: Score, config: EvaluateConfig) -> dict[str, float]:
    """Return the computed metrics by column name, in the order of the tables.

    The names of lengths contain their unit; all other metrics are ratios or counts. Undefined values are NaN.
    """
    metrics = _overlap(score.overlap)
    if score.near is not None:
        metrics |= _near(score.near)
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
