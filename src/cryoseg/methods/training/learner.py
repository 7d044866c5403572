"""The functions and settings that a method supplies to the training loop, and its choice of a threshold."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from cryoseg.config.train import LoopConfig

AVERAGE_WARMUP = 10


def learning_rate(step: int, config: LoopConfig) -> float:
    """Return the learning rate of a step: a linear warm-up, then a cosine to a fraction of the peak."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    low = config.final_learning_rate_fraction
    return config.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


@dataclass(frozen=True, kw_only=True)
class Learner:
    """A network to train, and the functions that the training loop calls.

    Attributes
    ----------
    network
        The network, or the part of it that is trained. It is trained in place.
    loss
        Function from the number of a step (0 for the first) to its loss: a scalar with gradient, or a
        mapping that holds this scalar as `loss` beside terms for the log.
    validate
        Function from the network, in evaluation mode and with the averaged weights, and the number of
        steps done to a score (higher is better), or to a mapping that holds it as `score` beside
        values to remember. None for a training without validation.
    validate_after
        Steps after which the network is validated. None for every `validate_every` steps and the last
        one.
    score_name
        Name of the score in messages.
    tolerance
        A validation replaces the best weights if its score is higher than the best score so far minus
        `tolerance`.
    groups
        Groups of parameters for the optimizer; `scale` in a group multiplies its learning rate. None
        for all trainable parameters, with weight decay on matrices and kernels only.
    clip_together
        Prefixes of parameter names. The gradients of the parameters with one prefix are clipped by their
        own norm, so that a very large gradient of one part does not reduce those of the others. Every
        parameter has one of the prefixes.
    learning_rate
        Function from the number of a step to its learning rate.
    average_warmup
        After step n the decay of the averaged weights is at most (n + 1) / (n + `average_warmup`), so
        that the random initialization soon drops out of the average.
    """

    network: nn.Module
    loss: Callable[[int], Tensor | Mapping[str, Tensor]]
    validate: Callable[[nn.Module, int], float | Mapping[str, float]] | None = None
    validate_after: Collection[int] | None = None
    score_name: str = "Dice"
    tolerance: float = 0.0
    groups: Sequence[dict[str, Any]] | None = None
    clip_together: Sequence[str] = ("",)
    learning_rate: Callable[[int, LoopConfig], float] = learning_rate
    average_warmup: int = AVERAGE_WARMUP

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Return the parameter groups for the optimizer."""
        if self.groups is not None:
            return list(self.groups)
        trainable = [p for p in self.network.parameters() if p.requires_grad]
        return [
            {"params": [p for p in trainable if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
        ]


LOGIT_BINS = np.linspace(-6, 6, 97)  # candidate thresholds, an eighth apart


def dice_by_threshold(
    logits: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]
) -> NDArray[np.float64]:
    """Compute the Dice at each threshold of `LOGIT_BINS`.

    Parameters
    ----------
    logits, labels
        (z, y, x) or (y, x) arrays. Labels above 0 are positive, 0 is negative, -1 is ignored.

    Returns
    -------
    NDArray
        (bins,) Dice; 1 where neither labels nor prediction contain a positive.
    """
    edges = np.concatenate([[-np.inf], LOGIT_BINS, [np.inf]])
    positive = np.histogram(logits[labels > 0], edges)[0]
    negative = np.histogram(logits[labels == 0], edges)[0]
    hits = positive[::-1].cumsum()[::-1][1:]
    false = negative[::-1].cumsum()[::-1][1:]
    both = hits + false + positive.sum()
    return np.where(both > 0, 2 * hits / np.maximum(both, 1), 1.0)


def best_threshold(curves: Sequence[NDArray[np.float64]], *, tolerance: float = 0.0) -> tuple[float, float]:
    """Return the threshold with the highest mean Dice, and its mean Dice.

    Parameters
    ----------
    curves
        Dice curves of all images or volumes, (bins,) each, from `dice_by_threshold`.
    tolerance
        The lowest threshold is chosen whose mean Dice is at most this much below the highest.
    """
    mean = np.mean(curves, axis=0)
    chosen = np.flatnonzero(mean >= mean.max() - tolerance)[0]
    return float(LOGIT_BINS[chosen]), float(mean[chosen])
