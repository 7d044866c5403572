"""Loss and validation score of one stage of the membrane network on labeled volumes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from cryoseg.config.train import TrainMembraneConfig
from cryoseg.core.grids.resample import tile_grid
from cryoseg.core.grids.robust import IntensityMap
from cryoseg.core.grids.slicestack import CHANNELS
from cryoseg.errors import WeightsError
from cryoseg.methods.membrane_tiny.propagation import TiledVolume, propagate
from cryoseg.methods.membranes.clips import TrainingVolume, sample_clips
from cryoseg.methods.membranes.losses import membrane_loss
from cryoseg.methods.sam.fine_sam2 import FineSam2
from cryoseg.methods.training.processes import ALONE, Processes
from cryoseg.methods.training.threshold import best_threshold, dice_by_threshold

IDENTITY = IntensityMap(center=0.0, spread=1.0)  # training volumes are normalized when they are read


def volume_logits(
    model: FineSam2, volume: TrainingVolume, *, window: int, reverse: bool = False
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Compute the (z, y, x) logits of a training volume as inference does."""
    out = np.empty(volume.data.shape, np.float32)
    stage1 = None if volume.stage1_logits is None else volume.stage1_logits.astype(np.float32)
    grid = tile_grid((volume.data.shape[1], volume.data.shape[2]), model.image_size, model.image_size // 8)
    tiled = TiledVolume(data=volume.data, intensity=IDENTITY, grid=grid, window=window)
    propagate(model, tiled, out, stage1=stage1, reverse=reverse)
    return out


def validation_score(
    network: FineSam2, volumes: Sequence[TrainingVolume], *, window: int, reverse: bool = False
) -> float:
    """Return the mean Dice over volumes at the threshold with the highest mean."""
    curves = [
        dice_by_threshold(volume_logits(network, volume, window=window, reverse=reverse), volume.labels)
        for volume in volumes
    ]
    return best_threshold(curves)[1]


def loss_of_clips(
    network: FineSam2,
    volumes: list[TrainingVolume],
    config: TrainMembraneConfig,
    processes: Processes = ALONE,
) -> Callable[[int], Tensor]:
    """Return the function from the number of a step to the membrane loss over its batch of clips."""
    part = processes.share(config.clip.batch)
    device = next(network.parameters()).device

    def loss(step: int) -> Tensor:
        images, labels = sample_clips(volumes, config.clip, seed=config.loop.seed, step=step, part=part)
        return membrane_loss(network.track_clip(images.to(device)), labels.to(device), processes=processes)

    return loss


STEM = "image_encoder.stem.to_full.0.weight"


def widen_input(state: dict[str, Tensor], in_channels: int) -> dict[str, Tensor]:
    """Return the weights of stage 1 as a start for stage 2, with zeros for the new input channels.

    Raises
    ------
    WeightsError
        If the weights have neither the channels of stage 1 nor `in_channels`.
    """
    kernel = state[STEM]
    given = kernel.shape[1]
    if given not in (CHANNELS[1], in_channels):
        raise WeightsError(
            f"the weights to start with take {given} input channels, not {CHANNELS[1]} or {in_channels}; "
            "they are of another version. Start with membrane-tiny or with stage 1."
        )
    wide = torch.zeros(kernel.shape[0], in_channels, *kernel.shape[2:])
    wide[:, :given] = kernel
    return {**state, STEM: wide}
