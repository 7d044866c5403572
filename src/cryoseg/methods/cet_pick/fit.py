"""Network, learning rate and loss of CET-pick's training."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from cryoseg.config.cet_pick import CetPickConfig, Contrast, Risk
from cryoseg.config.train import LoopConfig
from cryoseg.methods.cet_pick import losses
from cryoseg.methods.cet_pick import network as cet_pick
from cryoseg.methods.cet_pick.samples import CropSampler

AVERAGE_WARMUP = 11


def new_network(config: CetPickConfig) -> nn.Module:
    """Build an untrained network with initialized heads; its weights follow from torch's seed."""
    network = cet_pick.build(config.arch)
    cet_pick.initialize_heads(network)
    return network


def schedule(step: int, config: LoopConfig) -> float:
    """Return the learning rate of a step: a linear warm-up times a cosine that ends at zero."""
    warmup = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    return config.learning_rate * warmup * (1 + math.cos(math.pi * step / config.steps)) / 2


def loss_of_crops(
    network: nn.Module, sampler: CropSampler, config: CetPickConfig, device: torch.device
) -> Callable[[int], dict[str, Tensor]]:
    """Return the function from the number of a step to its loss and the terms of this weighted sum."""

    def loss(step: int) -> dict[str, Tensor]:
        batch = sampler.batch(step)
        crops = torch.from_numpy(batch.crops).to(device)
        target = torch.from_numpy(batch.targets).to(device)
        # The second view and the contrastive samples use this generator in this order.
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        risk, contrast, consistency = _terms(network, crops, target, config, generator)
        total = risk + config.contrast_weight * contrast + config.consistency_weight * consistency
        return {"loss": total, "risk": risk, "contrast": contrast, "consistency": consistency}

    return loss


def _terms(
    network: nn.Module, crops: Tensor, target: Tensor, config: CetPickConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return risk, contrastive term and consistency of one batch as scalars without their factors."""
    logits, features = network(crops)
    p = losses.probabilities(logits[:, 0])
    if config.risk is Risk.PU:
        risk = losses.pu_risk(p, target, prior=config.prior, positive_weight=config.positive_weight)
    else:
        risk = losses.focal_risk(p, target)
    zero = risk.detach() * 0
    if not config.needs_second_view:
        return risk, zero, zero
    # Cell (z, i, j) lies on pixel (2 i, 2 j). A flip of y or x with an even side shifts cells by a pixel,
    # which a cyclic shift of the crop corrects.
    axis = int(torch.randint(1, 4, (), generator=generator))
    other_logits, other_features = network(_flip_onto_cells(crops, axis))
    flipped_p = losses.probabilities(_flip_cells(other_logits[:, 0], axis))
    flipped_features = _flip_cells(other_features.transpose(1, 2).transpose(2, 3).transpose(3, 4), axis)
    consistency = losses.consistency(p, flipped_p)
    if config.contrast is Contrast.OFF:
        return risk, zero, consistency
    first = features.permute(0, 2, 3, 4, 1)
    both = torch.stack([first.flatten(0, 3), flipped_features.flatten(0, 3)])
    both_p = torch.stack([p.flatten(), flipped_p.flatten()])
    settings = losses.ContrastSettings(
        temperature=config.temperature,
        prior=config.prior,
        positive_above=config.contrast_positive_above,
    )
    if config.contrast is Contrast.PUBLISHED:
        supervised, unsupervised = losses.published_contrast(both, target.flatten(), both_p, settings)
    else:
        supervised, unsupervised = losses.sampled_contrast(
            both,
            target.flatten(),
            both_p,
            settings,
            samples=config.contrast_samples,
            generator=generator,
        )
    return risk, supervised + config.contrast_unsupervised_weight * unsupervised, consistency


def _flip_onto_cells(volume: Tensor, axis: int) -> Tensor:
    """Flip (batch, z, y, x) so that even pixels of y and x stay even."""
    flipped = volume.flip(axis)
    return flipped if axis == 1 else flipped.roll(1, axis)


def _flip_cells(cells: Tensor, axis: int) -> Tensor:
    """Undo `_flip_onto_cells` on (batch, z, y, x, ...) of the heat map."""
    if axis == 1:
        return cells.flip(axis)
    return cells.roll(-1, axis).flip(axis)
