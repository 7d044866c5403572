"""Losses of CET-pick: positive-unlabeled focal risk, debiased contrast, consistency.

A target is 1 on positives, in (0, 1) around them, -1 on unlabeled voxels and 0 on empty ones.

Source: Huang et al., ECCV 2022, doi 10.1007/978-3-031-19803-8_38, as released for MiLoPYP.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from cryoseg.config.cet_pick import CetPickConfig, Contrast, Risk
from cryoseg.config.train import LoopConfig
from cryoseg.errors import InputError
from cryoseg.methods.cet_pick.samples import CropSampler

PROBABILITY_FLOOR = 1e-4  # the publication's clamp of the sigmoid
CONFIDENT = 0.99  # unlabeled anchors above this or below 1 - this are averaged separately
FOCAL_POWER = 2  # CornerNet's alpha
SOFT_POWER = 4  # CornerNet's beta
ROWS = 1024  # anchors that are compared with all voxels at a time, which limits memory


def probabilities(logits: Tensor) -> Tensor:
    """Return the sigmoid, any shape, clamped so that its logarithm is finite."""
    return torch.sigmoid(logits).clamp(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)


def _mean(values: Tensor) -> Tensor:
    return values.mean() if values.numel() else values.sum()


def pu_risk(p: Tensor, target: Tensor, *, prior: float, positive_weight: float | None = None) -> Tensor:
    """Return the non-negative positive-unlabeled risk with focal weights.

    Parameters
    ----------
    p
        Probabilities of any shape.
    target
        Targets of the same shape; voxels below -1 are ignored. Empty voxels add a risk that the
        publication does not have.
    prior
        Fraction of unlabeled voxels that belong to particles, tau.
    positive_weight
        Weight of the positives' risk; None for the prior, as published. Since particles fill few voxels,
        the true prior gives the positives a very small weight.

    Raises
    ------
    InputError
        If the target contains no positive.
    """
    positive = target == 1
    if not positive.any():
        raise InputError("No labeled voxel in this training crop; check the labels' axis order and units.")
    soft = (target > 0) & (target < 1)
    p_hard, p_soft, g = p[positive], p[soft], target[soft]
    p_unlabeled, p_empty = p[target == -1], p[target == 0]
    as_positive = _mean(-((1 - p_hard) ** FOCAL_POWER) * p_hard.log()) + _mean(
        -((1 - g) ** SOFT_POWER) * p_soft**FOCAL_POWER * (1 - p_soft).log()
    )
    as_negative = _mean(-(p_hard**FOCAL_POWER) * (1 - p_hard).log()) + _mean(
        -(g**SOFT_POWER) * (1 - p_soft) ** FOCAL_POWER * p_soft.log()
    )
    unlabeled = _mean(-(p_unlabeled**FOCAL_POWER) * (1 - p_unlabeled).log())
    empty = _mean(-(p_empty**FOCAL_POWER) * (1 - p_empty).log())
    negative = unlabeled - prior * as_negative
    # A negative estimate is a sign of overfitting; the publication then omits the term.
    weight = prior if positive_weight is None else positive_weight
    return weight * as_positive + torch.where(negative >= 0, negative, torch.zeros_like(negative)) + empty


def focal_risk(p: Tensor, target: Tensor) -> Tensor:
    """Return CornerNet's focal loss, any shape, for tomograms in which every particle is labeled."""
    p, target = p[target >= -1], target[target >= -1]
    positive = target == 1
    g = target.clamp(min=0)
    hit = -((1 - p) ** FOCAL_POWER) * p.log()
    miss = -((1 - g) ** SOFT_POWER) * p**FOCAL_POWER * (1 - p).log()
    return (hit[positive].sum() + miss[~positive].sum()) / positive.sum().clamp(min=1)


def _debiased(positive: Tensor, negative: Tensor, prior: float, floor: float) -> Tensor:
    """Return the loss of each anchor, with the expected positives removed from the negatives."""
    noise = ((negative - prior * positive) / (1 - prior)).clamp(min=floor)
    return -(positive / (positive + noise)).log()


def published_contrast(
    features: Tensor, labels: Tensor, p: Tensor, config: CetPickConfig
) -> tuple[Tensor, Tensor]:
    """Return the debiased contrast as published, including the similarity of an anchor with itself.

    The result is the supervised and the unsupervised part as scalars without factors.

    Parameters
    ----------
    features
        (2, n, channels) unit vectors of two views of the same n voxels.
    labels, p
        (n,) target values and (2, n) probabilities.
    config
        Settings, of which the temperature T, the prior tau and the limit of positives are used.
    """
    both = features.reshape(-1, features.shape[-1])
    labels2 = labels.repeat(2)
    n = labels.numel()
    limit = config.contrast_positive_above
    if limit >= 1:
        positive, lower = labels2 == 1, labels2 < 1
    else:
        positive, lower = labels2 > limit, labels2 < limit
    unlabeled = labels2 < 0
    floor = math.exp(-1 / config.temperature)
    partner = torch.arange(2 * n, device=labels.device).roll(n)
    n_positive = positive.sum()

    supervised: list[Tensor] = []
    a_parts: list[Tensor] = []
    b_parts: list[Tensor] = []
    for start in range(0, 2 * n, ROWS):
        index = torch.arange(start, min(start + ROWS, 2 * n), device=labels.device)
        similarity = both[index] @ both.T / config.temperature
        similarity = similarity - similarity.detach().amax(dim=1, keepdim=True)
        # The publication sets the diagonal to 0 after the shift, so that exp gives 1.
        diagonal = functional.one_hot(index, 2 * n).bool()
        e = similarity.masked_fill(diagonal, 0.0).exp()
        anchors = positive[index]
        if anchors.any():
            a = e[anchors][:, positive].sum(dim=1) / (n_positive - 1).clamp(min=1)
            b = e[anchors][:, lower].mean(dim=1)
            supervised.append(_debiased(a, b, config.prior, floor))
        free = unlabeled[index]
        if free.any():
            a = e[free, partner[index[free]]]
            rest = e[free].sum(dim=1) - a  # includes the anchor itself, as published
            a_parts.append(a)
            b_parts.append(rest)
    zero = features.sum() * 0
    sup = torch.cat(supervised).mean() if supervised else zero
    if not a_parts:
        return sup, zero
    a, b = torch.cat(a_parts), torch.cat(b_parts) / (2 * (n - n_positive / 2))
    q = p.reshape(-1)[unlabeled]
    as_positive = _debiased(a, b, config.prior, floor)
    as_negative = _debiased(a, b, 1 - config.prior, floor)
    return sup, _weighted_by_confidence(q, as_positive, as_negative)


def _weighted_by_confidence(q: Tensor, as_positive: Tensor, as_negative: Tensor) -> Tensor:
    high, low = q > CONFIDENT, q < 1 - CONFIDENT
    middle = ~(high | low)
    return (
        _mean(q[high] * as_positive[high])
        + _mean((1 - q[low]) * as_negative[low])
        + _mean(q[middle] * as_positive[middle])
        + _mean((1 - q[middle]) * as_negative[middle])
    )


def sampled_contrast(
    features: Tensor,
    labels: Tensor,
    p: Tensor,
    config: CetPickConfig,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Return the debiased contrast of a random sample, without the similarity of an anchor with itself.

    The publication includes this similarity, which is larger than all others and leaves the supervised part
    almost constant. Here it is left out, and the smallest noise term is exp(-2 / T), the minimum of the
    exponential of a shifted similarity of unit vectors. The cost is the square of `config.contrast_samples`,
    the largest number of anchors of each kind, instead of the square of the number of voxels.

    Parameters
    ----------
    features, labels, p, config
        The same values, with the same shapes, as in `published_contrast`.
    generator
        Random generator on the CPU.
    """
    n, samples, limit = labels.numel(), config.contrast_samples, config.contrast_positive_above
    both = features.reshape(-1, features.shape[-1])
    labels2 = labels.repeat(2)
    floor = math.exp(-2 / config.temperature)

    def some(mask: Tensor) -> Tensor:
        index = mask.nonzero()[:, 0]
        if index.numel() <= samples:
            return index
        return index[torch.randperm(index.numel(), generator=generator)[:samples].to(index.device)]

    positives = some(labels2 > limit if limit < 1 else labels2 == 1)
    lower = some((labels2 < min(limit, 1)) & (labels2 >= -1))
    zero = features.sum() * 0
    supervised = unsupervised = zero
    if positives.numel() > 1 and lower.numel():
        own = both[positives] @ both[positives].T / config.temperature
        other = both[positives] @ both[lower].T / config.temperature
        own = own.masked_fill(torch.eye(len(positives), dtype=torch.bool, device=own.device), -math.inf)
        top = torch.maximum(own.detach().amax(1), other.detach().amax(1))[:, None]
        a = (own - top).exp().sum(1) / (len(positives) - 1)
        supervised = _debiased(a.clamp(min=floor), (other - top).exp().mean(1), config.prior, floor).mean()
    anchors = some(labels2 == -1)
    if anchors.numel() and lower.numel():
        partner = (anchors + n) % (2 * n)
        pair = (both[anchors] * both[partner]).sum(1) / config.temperature
        other = both[anchors] @ both[lower].T / config.temperature
        excluded = (lower[None] == anchors[:, None]) | (lower[None] == partner[:, None])
        other = other.masked_fill(excluded, -math.inf)
        top = torch.maximum(pair.detach(), other.detach().amax(1))
        a, b = (pair - top).exp(), (other - top[:, None]).exp().sum(1) / (~excluded).sum(1).clamp(min=1)
        q = p.reshape(-1)[anchors]
        unsupervised = _weighted_by_confidence(
            q,
            _debiased(a.clamp(min=floor), b, config.prior, floor),
            _debiased(a.clamp(min=floor), b, 1 - config.prior, floor),
        )
    return supervised, unsupervised


AVERAGE_WARMUP = 11


def schedule(step: int, config: LoopConfig) -> float:
    """Return the learning rate of a step: a linear warm-up times a cosine that ends at zero."""
    warmup = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    return config.learning_rate * warmup * (1 + math.cos(math.pi * step / config.steps)) / 2


def loss_of_crops(
    network: nn.Module, sampler: CropSampler, config: CetPickConfig, device: torch.device
) -> Callable[[int], dict[str, Tensor]]:
    """Return the function from the number of a step to its loss and the terms of this weighted sum."""

    def loss(step: int) -> dict[str, Tensor]:
        crops, target = (torch.from_numpy(values).to(device) for values in sampler.batch(step))
        # The second view and the contrastive samples use this generator in this order.
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        risk, contrast, difference = _terms(network, crops, target, config, generator)
        total = risk + config.contrast_weight * contrast + config.consistency_weight * difference
        return {"loss": total, "risk": risk, "contrast": contrast, "consistency": difference}

    return loss


def _terms(
    network: nn.Module, crops: Tensor, target: Tensor, config: CetPickConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return risk, contrastive term and consistency of one batch as scalars without their factors."""
    logits, features = network(crops)
    p = probabilities(logits[:, 0])
    if config.risk is Risk.PU:
        risk = pu_risk(p, target, prior=config.prior, positive_weight=config.positive_weight)
    else:
        risk = focal_risk(p, target)
    zero = risk.detach() * 0
    if not config.needs_second_view:
        return risk, zero, zero
    # Cell (z, i, j) lies on pixel (2 i, 2 j). A flip of y or x with an even side shifts cells by a pixel,
    # which a cyclic shift of the crop corrects.
    axis = int(torch.randint(1, 4, (), generator=generator))
    other_logits, other_features = network(_flip_onto_cells(crops, axis))
    flipped_p = probabilities(_flip_cells(other_logits[:, 0], axis))
    flipped_features = _flip_cells(other_features.permute(0, 2, 3, 4, 1), axis)
    difference = functional.mse_loss(p, flipped_p)
    if config.contrast is Contrast.OFF:
        return risk, zero, difference
    first = features.permute(0, 2, 3, 4, 1)
    both = torch.stack([first.flatten(0, 3), flipped_features.flatten(0, 3)])
    both_p = torch.stack([p.flatten(), flipped_p.flatten()])
    if config.contrast is Contrast.PUBLISHED:
        supervised, unsupervised = published_contrast(both, target.flatten(), both_p, config)
    else:
        supervised, unsupervised = sampled_contrast(both, target.flatten(), both_p, config, generator)
    return risk, supervised + config.contrast_unsupervised_weight * unsupervised, difference


def _flip_onto_cells(volume: Tensor, axis: int) -> Tensor:
    """Flip (batch, z, y, x) so that even pixels of y and x stay even."""
    flipped = volume.flip(axis)
    return flipped if axis == 1 else flipped.roll(1, axis)


def _flip_cells(cells: Tensor, axis: int) -> Tensor:
    """Undo `_flip_onto_cells` on (batch, z, y, x, ...) of the heat map."""
    if axis == 1:
        return cells.flip(axis)
    return cells.roll(-1, axis).flip(axis)
