"""Losses on logits, with voxels left out by a label of -1."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from cryoseg.methods.training.processes import ALONE, Processes


def known_voxels(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Float target (label above 0) and float weight (0 where the label is -1), of the shape of `labels`."""
    return (labels > 0).float(), (labels >= 0).float()


def soft_dice_loss(
    logits: Tensor, labels: Tensor, *, smooth: float = 1.0, processes: Processes = ALONE
) -> Tensor:
    """1 - soft Dice over all voxels of the batch with a label of 0 or more.

    Parameters
    ----------
    logits, labels
        Same shape; labels are 1, 0 or -1 (ignored).
    smooth
        Added to numerator and denominator, so that an empty batch without false positives costs 0.
    processes
        Those whose batches count as one.
    """
    target, weight = known_voxels(labels)
    probability = torch.sigmoid(logits) * weight
    target = target * weight
    sums = torch.stack([(probability * target).sum(), probability.sum() + target.sum()])
    overlap, both = processes.total(sums)
    return 1 - (2 * overlap + smooth) / (both + smooth)


def weighted_bce_loss(logits: Tensor, labels: Tensor, *, processes: Processes = ALONE) -> Tensor:
    """Mean binary cross-entropy, any shape, over the voxels with a label of 0 or more."""
    target, weight = known_voxels(labels)
    loss = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    summed, count = processes.total(torch.stack([(loss * weight).sum(), weight.sum()]))
    return summed / count.clamp(min=1)


def membrane_loss(logits: Tensor, labels: Tensor, *, processes: Processes = ALONE) -> Tensor:
    """Cross-entropy plus soft Dice, any shape, in equal parts."""
    return weighted_bce_loss(logits, labels, processes=processes) + soft_dice_loss(
        logits, labels, processes=processes
    )
