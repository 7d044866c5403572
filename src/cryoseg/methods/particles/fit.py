"""Trained parameters, losses and validation of promptable networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cryoseg.config.train_sam import PretrainConfig, SamLoss, TrainSamConfig, TrainView
from cryoseg.core.grids.resample import rescale_points, tile_grid
from cryoseg.methods.particles.samples import (
    TileSampler,
    TrainingMicrograph,
    draw_object_prompts,
    sample_squares,
    sample_tiles,
    tile_targets,
)
from cryoseg.methods.promise.network import PromiseSam, points_from_mask
from cryoseg.methods.prompt_sam.network import Points, PromptSam, tile_logits
from cryoseg.methods.training.ahead import ahead
from cryoseg.methods.training.learner import dice_by_threshold
from cryoseg.methods.training.run import Runtime
from cryoseg.types import FloatArray

TRUTH_STREAM = 1 << 21  # separates these random draws from all others of a step
OVERLAP = 8  # tiles overlap by an eighth of their side in validation


class TrainedPart(nn.Module):
    """A module with only the tensors that a method trains, so that checkpoints are small.

    It shares its tensors with the network.
    """

    def __init__(self, network: PromptSam) -> None:
        super().__init__()
        network.freeze()
        # The network must not become a sub-module, since this module would then include all its tensors.
        self._followers = (network.set_training,)
        self.clip_together = tuple(begin.replace(".", "/") for begin in network.clip_together)
        for name, parameter in network.named_parameters():
            if network.is_trained(name):
                self.register_parameter(name.replace(".", "/"), parameter)
        kept = network.state_dict()
        for name, buffer in network.named_buffers():
            if name in kept and network.is_trained(name):
                self.register_buffer(name.replace(".", "/"), buffer)

    def train(self, mode: bool = True) -> TrainedPart:
        """Set the training mode of this module and of the network's batch normalization."""
        super().train(mode)
        for set_training in self._followers:
            set_training(mode)
        return self


def truth_points(
    network: PromptSam, labels: NDArray[Any], key: tuple[int, ...], device: torch.device
) -> tuple[Tensor, Tensor] | None:
    """Draw points for a network that needs points from the truth; return None for any other.

    The parameters are those of `given_points`, whose results have the shapes (B, K, 2) and (B, K).
    """
    if not (isinstance(network, PromiseSam) and network.needs_truth):
        return None
    return given_points(network, labels, key, device)


def given_points(
    network: PromiseSam, labels: NDArray[Any], key: tuple[int, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Draw points from the truth for any ProMISe network.

    Parameters
    ----------
    network
        Network for which to draw.
    labels
        (B, y, x) labels of whole images at any resolution: above 0 particle, -1 unknown.
    key
        Seed of the random draw, together with the index in the batch.
    device
        Device of the points.

    Returns
    -------
    tuple
        (B, K, 2) points as x, y in pixels of the network's image, and (B, K) labels.
    """
    scale = network.geometry.image_size / labels.shape[-1]
    places, kinds = [], []
    for i, image in enumerate(labels):
        rng = np.random.default_rng([*key, i, TRUTH_STREAM])
        xy, kind = points_from_mask(image > 0, network.promise.points, rng, known=image >= 0)
        places.append(rescale_points(xy, scale))
        kinds.append(kind)
    return (
        torch.from_numpy(np.stack(places).astype(np.float32)).to(device),
        torch.from_numpy(np.stack(kinds)).to(device),
    )


def adaptation_loss(
    network: PromptSam, micrographs: list[TrainingMicrograph], config: TrainSamConfig, runtime: Runtime
) -> Callable[[int], Tensor]:
    """Return the function from the number of a step to the loss of an adapted network."""
    geometry, device = network.geometry, runtime.device
    seed = config.loop.seed
    draw = ahead(
        TileSampler(
            micrographs=micrographs,
            config=config.sample,
            side=geometry.image_size,
            logit_side=geometry.logit_side,
            seed=seed,
        ),
        runtime.sample_workers,
    )

    def loss(step: int) -> Tensor:
        weight: Tensor | None
        if config.sample.view is TrainView.WHOLE:
            images, target = sample_squares(micrographs, config.sample, seed=seed, step=step)
            labels, weight = (target > 0.5).int(), None
        else:
            grey, labels, target, weight = (torch.from_numpy(values) for values in draw(step))
            images, weight = network.from_grey(grey), weight.to(device)
        given = truth_points(network, labels.numpy(), (seed, step), device)
        logits = network(images.to(device), given)[0][:, 0]
        each = sam_loss(logits.float(), target.to(device), weight, kind=config.loss)
        return config.loss_scale * each.mean()

    return loss


def pretraining_loss(
    network: PromptSam, micrographs: list[TrainingMicrograph], config: PretrainConfig, device: torch.device
) -> Callable[[int], Tensor]:
    """Return the function from the number of a step to the loss of a whole SAM.

    The grid of points prompts all particles; single points and boxes prompt one particle.
    """
    geometry = network.geometry

    def loss(step: int) -> Tensor:
        grey, labels = sample_tiles(
            micrographs, config.sample, side=geometry.image_size, seed=config.loop.seed, step=step
        )
        embeddings = network.sam.image_encoder(network.from_grey(grey.to(device)))
        target, weight = (value.to(device) for value in tile_targets(labels, geometry.logit_side))
        grid = network.grid_points(network.config.grid_side, len(embeddings), device)
        logits, _ = network.decode(embeddings, points=grid)
        total = sam_loss(logits[:, 0], target, weight).mean()
        rng = np.random.default_rng([config.loop.seed, step, 1 << 20])
        prompts = draw_object_prompts(labels, rng, each=config.prompts)
        if prompts is None:
            return total
        prompted = embeddings[prompts.image.to(device)]
        masks = (tile_targets(prompts.masks, geometry.logit_side)[0] > 0.5).float().to(device)
        points = (prompts.points.to(device), prompts.labels.to(device))
        three, scores = network.decode(prompted, points=points, multimask=True)
        single, box_scores = network.decode(prompted, boxes=prompts.boxes.to(device))
        return total + 0.5 * (prompted_loss(three, scores, masks) + prompted_loss(single, box_scores, masks))

    return loss


def micrograph_logits(network: PromptSam, micrograph: TrainingMicrograph, device: torch.device) -> FloatArray:
    """Compute the (y, x) logits of a micrograph, with tiles and blending as in picking.

    A network that needs points from the truth gets them from the micrograph's labels.
    """
    grey = micrograph.grey
    side = network.geometry.image_size
    grid = tile_grid((grey.shape[0], grey.shape[1]), side, side // OVERLAP)
    tiles = grid.cut(grey[None].astype(np.float32))[:, 0]
    labels = grid.cut(micrograph.labels[None].astype(np.float32))[:, 0]

    def points(begin: int, end: int) -> Points:
        return truth_points(network, labels[begin:end], (begin,), device)

    return grid.stitch(tile_logits(network, tiles, device, points=points))


def validation_curves(
    network: PromptSam, micrographs: list[TrainingMicrograph], device: torch.device
) -> list[NDArray[np.float64]]:
    """Return the Dice curve, (bins,), of every micrograph from `dice_by_threshold`.

    A micrograph with `square` is segmented as a whole, any other in tiles.
    """
    network.eval()
    curves = []
    for micrograph in micrographs:
        if micrograph.square is not None:
            assert micrograph.square_labels is not None
            image = torch.from_numpy(micrograph.square.astype(np.float32))[None].to(device)
            labels = (micrograph.square_labels > 0.5).astype(np.int8)
            with torch.inference_mode():
                given = truth_points(network, labels[None], (0,), device)
                logits = network(image, given)[0][0, 0].float().cpu().numpy()
            curves.append(dice_by_threshold(logits, labels))
        else:
            logits = micrograph_logits(network, micrograph, device)
            curves.append(dice_by_threshold(logits, micrograph.labels))
    return curves


# Default of MONAI, as in the publication.
# Source: yangyang-69/Prompt_sam_cryoPPP notebooks/function_token.py@d4f8b28.
SMOOTH = 1e-5


def squared_dice_loss(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return 1 - Dice with squares in the denominator for every mask, (B,).

    `logits` are (B, y, x), `target` has values from 0 to 1, and `weight` is 0 where the target is unknown.
    """
    p = torch.sigmoid(logits)
    overlap = (weight * p * target).sum(dim=(1, 2))
    both = (weight * (p.square() + target.square())).sum(dim=(1, 2))
    return 1 - (2 * overlap + SMOOTH) / (both + SMOOTH)


def bce_loss(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return the mean cross-entropy of every mask, (B,), with the parameters of `squared_dice_loss`."""
    loss = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (loss * weight).sum(dim=(1, 2)) / weight.sum(dim=(1, 2)).clamp(min=1)


def double_sigmoid_loss(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return the released loss of ProMISe, (B,): cross-entropy and Dice of a sigmoid of probabilities.

    The second sigmoid maps probabilities to 0.5 to 0.73, so that no prediction has a loss of 0. The factor of
    two of the Dice includes its smoothing term, and the mean over the batch is clamped.

    Source: xinkunwang111/ProMISe ProMISe/train.py@ce0cfdb.
    """
    twice = torch.sigmoid(torch.sigmoid(logits))
    overlap = (weight * twice * target).sum(dim=(1, 2))
    both = (weight * (twice + target)).sum(dim=(1, 2))
    dice = (2 * (overlap + 1) / (both + 1)).mean().clamp(0, 1)
    return bce_loss(torch.sigmoid(logits), target, weight) + 1 - dice


def sam_loss(
    logits: Tensor, target: Tensor, weight: Tensor | None = None, *, kind: SamLoss = SamLoss.DICE_BCE
) -> Tensor:
    """Return the loss of every mask, (B,), with the parameters of `squared_dice_loss`.

    Without `weight`, all pixels have the same weight.
    """
    weight = torch.ones_like(target) if weight is None else weight
    if kind is SamLoss.DOUBLE_SIGMOID:
        return double_sigmoid_loss(logits, target, weight)
    dice = squared_dice_loss(logits, target, weight)
    return dice if kind is SamLoss.DICE else dice + bce_loss(logits, target, weight)


def prompted_loss(logits: Tensor, iou: Tensor, target: Tensor) -> Tensor:
    """Return SAM's training loss for one object per prompt: the best of several masks, and their IoU.

    The result is the mean loss, a scalar, of (B, masks, y, x) logits and the (B, masks) IoU that the network
    predicts for (B, y, x) targets of 0 and 1.

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
