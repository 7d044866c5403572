"""Losses of promptable networks on logits, each mask for itself."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from cryoseg.config.train_sam import SamLoss

# Source: yangyang-69/Prompt_sam_cryoPPP notebooks/function_token.py@d4f8b28, which takes MONAI's default.
SMOOTH = 1e-5


def squared_dice_loss(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """1 - Dice with squares in the denominator, of every mask.

    Parameters
    ----------
    logits, target
        (B, y, x); targets from 0 to 1.
    weight
        (B, y, x), 0 where nothing is known; None for 1 everywhere.

    Returns
    -------
    Tensor
        (B,).
    """
    weight = torch.ones_like(target) if weight is None else weight
    p = torch.sigmoid(logits)
    overlap = (weight * p * target).sum(dim=(1, 2))
    both = (weight * (p.square() + target.square())).sum(dim=(1, 2))
    return 1 - (2 * overlap + SMOOTH) / (both + SMOOTH)


def bce_loss(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean cross-entropy of every mask, (B,); arguments as `squared_dice_loss`."""
    weight = torch.ones_like(target) if weight is None else weight
    loss = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (loss * weight).sum(dim=(1, 2)) / weight.sum(dim=(1, 2)).clamp(min=1)


def double_sigmoid_loss(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """The released ProMISe loss, (B,): cross-entropy and Dice of a sigmoid of probabilities.

    Probabilities of 0 to 1 become 0.5 to 0.73, so that no prediction is free of loss; the smoothing
    of its Dice is inside the factor of two, and the mean over the batch is clamped.

    Source: xinkunwang111/ProMISe ProMISe/train.py@ce0cfdb.
    """
    weight = torch.ones_like(target) if weight is None else weight
    twice = torch.sigmoid(torch.sigmoid(logits))
    overlap = (weight * twice * target).sum(dim=(1, 2))
    both = (weight * (twice + target)).sum(dim=(1, 2))
    dice = (2 * (overlap + 1) / (both + 1)).mean().clamp(0, 1)
    return bce_loss(torch.sigmoid(logits), target, weight) + 1 - dice


def sam_loss(
    logits: Tensor, target: Tensor, weight: Tensor | None = None, *, kind: SamLoss = SamLoss.DICE_BCE
) -> Tensor:
    """The loss of every mask, (B,); arguments as `squared_dice_loss`."""
    if kind is SamLoss.DOUBLE_SIGMOID:
        return double_sigmoid_loss(logits, target, weight)
    dice = squared_dice_loss(logits, target, weight)
    return dice if kind is SamLoss.DICE else dice + bce_loss(logits, target, weight)


def prompted_loss(logits: Tensor, iou: Tensor, target: Tensor) -> Tensor:
    """SAM's training loss for one object per prompt: the best of several masks, and their predicted IoU.

    Parameters
    ----------
    logits
        (B, masks, y, x).
    iou
        (B, masks), the network's own judgment.
    target
        (B, y, x) of 0 and 1.

    Returns
    -------
    Tensor
        Scalar mean.

    Source: Segment Anything, 2023, training algorithm; Dice with squares and cross-entropy instead of
    its Dice and focal loss.
    """
    masks = logits.shape[1]
    flat, wanted = logits.flatten(0, 1), target.repeat_interleave(masks, dim=0)
    each = sam_loss(flat, wanted).view(-1, masks)
    with torch.no_grad():
        drawn, truth = logits > 0, target[:, None] > 0.5
        actual = (drawn & truth).sum(dim=(2, 3)) / (drawn | truth).sum(dim=(2, 3)).clamp(min=1)
    return each.min(dim=1).values.mean() + functional.mse_loss(iou, actual)
