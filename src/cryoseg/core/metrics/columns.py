"""Metrics of a score by name, as columns of tables."""

from __future__ import annotations

from collections.abc import Sequence

from cryoseg.config import EvaluateConfig
from cryoseg.core.metrics.masks import Score
from cryoseg.core.metrics.overlap import Overlap
from cryoseg.core.metrics.planes import RATIOS
from cryoseg.core.metrics.threshold import ThresholdSweep


def metrics_of(score: Score, config: EvaluateConfig) -> dict[str, float]:
    """Return the computed metrics by column name, in the order of the tables.

    The names of lengths contain their unit; all other metrics are ratios or counts. Undefined values are NaN.
    """
    metrics = _overlap(score.overlap)
    if (near := score.near) is not None:
        within = f"{near.distance_px:g}px"
        metrics |= {
            f"recall_{within}": near.recall,
            f"recall_{within}_largest_{near.largest_components}": near.recall_by_largest,
            "clear_marked": near.clear_fraction,
            "volume_marked": near.volume_fraction,
        }
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
    first, *others = scores
    overlap, sweep = first.overlap, first.sweep
    for other in others:
        overlap = overlap + other.overlap
        sweep = None if sweep is None or other.sweep is None else sweep + other.sweep
    metrics = _overlap(overlap)
    nears = [score.near for score in scores if score.near is not None]
    if len(nears) == len(scores):
        within = f"{nears[0].distance_px:g}px"
        for name, part, whole in (
            (f"recall_{within}", "membrane_found", "membrane"),
            (
                f"recall_{within}_largest_{nears[0].largest_components}",
                "membrane_found_by_largest",
                "membrane",
            ),
            ("clear_marked", "clear_marked", "clear"),
            ("volume_marked", "volume_marked", "volume"),
        ):
            total = sum(getattr(near, whole) for near in nears)
            metrics[name] = sum(getattr(near, part) for near in nears) / total if total else float("nan")
    if sweep is not None:
        metrics |= _sweep(sweep)
    return metrics


def _overlap(overlap: Overlap) -> dict[str, float]:
    return {name: getattr(overlap, name) for name in RATIOS}


def _sweep(sweep: ThresholdSweep) -> dict[str, float]:
    threshold, dice = sweep.best_dice
    return {"auprc": sweep.average_precision, "best_threshold": threshold, "best_dice": dice}
