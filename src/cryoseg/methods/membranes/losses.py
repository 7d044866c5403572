"""Losses on logits that ignore voxels with a label of -1."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from cryoseg.methods.training.processes import ALONE, Processes


def known_voxels(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return target (1 where a label is above 0) and weight (0 where it is -1), of the shape of `labels`."""
    return (labels > 0).float(), (labels >= 0).float()


def soft_dice_loss(logits: Tensor, labels: Tensor, *, processes: Processes = ALONE) -> Tensor:
    """Return 1 - soft Dice over all voxels of the batch with a label of 0 or more.

    Parameters
    ----------
    logits, labels
        Tensors of one shape; labels are 1, 0 or -1 (ignored).
    processes
        Processes whose batches form one batch.
    """
    target, weight = known_voxels(labels)
    probability = torch.sigmoid(logits) * weight
    target = target * weight
    sums = torch.stack([(probability * target).sum(), probability.sum() + target.sum()])
    overlap, both = processes.total(sums)
    # The added 1 gives an empty batch without false positives a loss of 0.
    return 1 - (2 * overlap + 1) / (both + 1)


def weighted_bce_loss(logits: Tensor, labels: Tensor, *, processes: Processes = ALONE) -> Tensor:
    """Return the mean binary cross-entropy over the voxels with a label of 0 or more; any shape."""
    target, weight = known_voxels(labels)
    loss = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    summed, count = processes.total(torch.stack([(loss * weight).sum(), weight.sum()]))
    return summed / count.clamp(min=1)


def membrane_loss(logits: Tensor, labels: Tensor, *, processes: Processes = ALONE) -> Tensor:
    """Return the sum of cross-entropy and soft Dice loss; any shape."""
    return weighted_bce_loss(logits, labels, processes=processes) + soft_dice_loss(
        logits, labels, processes=processes
    )
