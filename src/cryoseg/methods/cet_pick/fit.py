"""The training loop of CET-pick: few labels, a fixed number of steps, averaged weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cryoseg.config.cet_pick import CetPickConfig, Contrast, Risk
from cryoseg.errors import InputError
from cryoseg.methods.cet_pick import losses as losses
from cryoseg.methods.cet_pick import network as cet_pick
from cryoseg.methods.cet_pick.samples import CropSampler

EMA_WARMUP = 10.0


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What one optimizer step reports.

    Attributes
    ----------
    step
        Steps done, from 1.
    loss, risk, contrast, consistency
        The sum, and its parts without their factors.
    """

    step: int
    loss: float
    risk: float
    contrast: float
    consistency: float


class Trainer:
    """A detector, its optimizer and its averaged weights.

    Every random choice of a step follows from the seed and the step's number, so that `state` and
    `restore` resume exactly.

    Parameters
    ----------
    sampler
        Gives the crops.
    config
        Architecture, losses, schedule.
    device
        Where to compute.
    """

    def __init__(self, sampler: CropSampler, config: CetPickConfig, device: torch.device) -> None:
        self._sampler = sampler
        self._config = config
        self._device = device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            network = cet_pick.build(config.arch)
            cet_pick.initialize_heads(network)
        self.network = network.to(device).train()
        self._optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self._average = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.step = 0

    def averaged_weights(self) -> dict[str, Tensor]:
        """Weights to keep: the running average, or the last ones where averaging is off."""
        return {name: value.clone() for name, value in self._average.items()}

    def averaged_network(self) -> nn.Module:
        """A network of its own with the averaged weights, in eval mode."""
        network = cet_pick.build(self._config.arch)
        network.load_state_dict(self._average)
        return network.to(self._device).eval()

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs, on the CPU."""
        return {
            "step": self.step,
            "network": {name: value.cpu() for name, value in self.network.state_dict().items()},
            "average": {name: value.cpu() for name, value in self._average.items()},
            "optimizer": self._optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        self.step = int(state["step"])
        self.network.load_state_dict(state["network"])
        self._average = {name: value.to(self._device).clone() for name, value in state["average"].items()}
        self._optimizer.load_state_dict(state["optimizer"])

    def run(self) -> Iterator[StepResult]:
        """Take the remaining steps, one for every result asked for.

        Raises
        ------
        InputError
            If the loss stops being a number.
        """
        while self.step < self._config.steps:
            yield self._advance()

    def _rate(self) -> float:
        warmup = min(1.0, (self.step + 1) / max(self._config.warmup_steps, 1))
        return (
            self._config.learning_rate * warmup * (1 + math.cos(math.pi * self.step / self._config.steps)) / 2
        )

    def _advance(self) -> StepResult:
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate()
        batch = self._sampler.batch(self.step)
        crops = torch.from_numpy(batch.crops).to(self._device)
        target = torch.from_numpy(batch.targets).to(self._device)
        risk, contrast, consistency = self._losses(crops, target)
        weight = self._config.contrast_weight
        loss = risk + weight * contrast + self._config.consistency_weight * consistency
        if not torch.isfinite(loss):
            raise InputError(
                f"The loss is {loss.item()} at step {self.step + 1}. Lower --learning-rate, and look at the "
                "tomograms' grey values."
            )
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        self.step += 1
        self._update_average()
        return StepResult(
            step=self.step,
            loss=loss.item(),
            risk=risk.item(),
            contrast=contrast.item(),
            consistency=consistency.item(),
        )

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = (
            min(self._config.ema_decay, self.step / (self.step + EMA_WARMUP))
            if self._config.ema_decay
            else 0.0
        )
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                self._average[name].lerp_(value, 1 - decay)
            else:
                self._average[name].copy_(value)

    def _losses(self, crops: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        config = self._config
        logits, features = self.network(crops)
        p = losses.probabilities(logits[:, 0])
        if config.risk is Risk.PU:
            risk = losses.pu_risk(p, target, prior=config.prior, positive_weight=config.positive_weight)
        else:
            risk = losses.focal_risk(p, target)
        zero = risk.detach() * 0
        if not config.needs_second_view:
            return risk, zero, zero
        # Cell (z, i, j) lies on pixel (2 i, 2 j). Flipping z keeps cells on cells; flipping y or x
        # of an even side would shift them by a pixel, so that the first row or column rolls round.
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + self.step)
        axis = int(torch.randint(1, 4, (), generator=generator))
        other_logits, other_features = self.network(_flip_onto_cells(crops, axis))
        flipped_p = losses.probabilities(_flip_cells(other_logits[:, 0], axis))
        flipped_features = _flip_cells(other_features.transpose(1, 2).transpose(2, 3).transpose(3, 4), axis)
        consistency = losses.consistency(p, flipped_p)
        if config.contrast is Contrast.OFF:
            return risk, zero, consistency
        first = features.permute(0, 2, 3, 4, 1)
        both = torch.stack([first.flatten(0, 3), flipped_features.flatten(0, 3)])
        both_p = torch.stack([p.flatten(), flipped_p.flatten()])
        settings: dict[str, Any] = {
            "temperature": config.temperature,
            "prior": config.prior,
            "positive_above": config.contrast_positive_above,
        }
        if config.contrast is Contrast.PUBLISHED:
            supervised, unsupervised = losses.published_contrast(both, target.flatten(), both_p, **settings)
        else:
            supervised, unsupervised = losses.sampled_contrast(
                both,
                target.flatten(),
                both_p,
                samples=config.contrast_samples,
                generator=generator,
                **settings,
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
