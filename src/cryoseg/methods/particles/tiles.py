"""Tiles through a particle network, in batches that the memory of the device allows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cryoseg.config.common import Precision
from cryoseg.methods.device import autocast, is_out_of_memory, release_memory
from cryoseg.methods.prompt_sam.network import PromptSam
from cryoseg.types import FloatArray

TILES_AT_ONCE = {"cpu": 2}  # more were no faster on a CPU and cost memory
TILES_AT_ONCE_ELSEWHERE = 16

# Points for the images from one index to another, and their labels; see `particles.fit.truth_points`.
Points = tuple[Tensor, Tensor] | None
PointsOfBatch = Callable[[int, int], Points]


def _no_points(begin: int, end: int) -> Points:
    return None


def _ignore(done: int) -> None:
    pass


@torch.inference_mode()
def image_logits(
    network: PromptSam,
    images: Tensor,
    device: torch.device,
    *,
    precision: Precision = Precision.FLOAT32,
    points: PointsOfBatch = _no_points,
    on_done: Callable[[int], None] = _ignore,
) -> Tensor:
    """Logits of images at the resolution of the network's decoder.

    Where memory does not suffice, the batches are halved.

    Parameters
    ----------
    network
        Network on `device`.
    images
        (n, C, S, S), as the network takes them.
    device, precision
        Where and how to compute.
    points
        Points of a batch, for a network that is prompted by the truth.
    on_done
        Receives the number of images that are done.

    Returns
    -------
    Tensor
        (n, side, side) float32 on the CPU.

    Raises
    ------
    MemoryError
        If a single image does not fit into memory.
    """
    at_once = TILES_AT_ONCE.get(device.type, TILES_AT_ONCE_ELSEWHERE)
    parts: list[Tensor] = []
    begin = 0
    while begin < len(images):
        batch = images[begin : begin + at_once]
        end = begin + len(batch)
        try:
            with autocast(device, precision):
                logits = network(batch.to(device), points(begin, end))[0]
            parts.append(logits[:, 0].float().cpu())
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(batch) == 1:
                raise MemoryError(str(error)) from error
            at_once = len(batch) // 2
            release_memory(device)
            continue
        begin = end
        on_done(end)
    return torch.cat(parts)


@torch.inference_mode()
def tile_logits(
    network: PromptSam,
    tiles: FloatArray,
    device: torch.device,
    *,
    precision: Precision = Precision.FLOAT32,
    points: PointsOfBatch = _no_points,
    on_done: Callable[[int], None] = _ignore,
) -> FloatArray:
    """Logits (n, S, S) of tiles (n, S, S) with grey values of zero mean and unit deviation.

    The other parameters are those of `image_logits`.
    """
    images = network.from_grey(torch.from_numpy(np.ascontiguousarray(tiles, np.float32)))
    raw = image_logits(network, images, device, precision=precision, points=points, on_done=on_done)
    return enlarged(raw, network.geometry.image_size)


def enlarged(logits: Tensor, side: int) -> FloatArray:
    """Logits (n, a, a) at the size of the tiles, (n, side, side)."""
    full = functional.interpolate(logits[:, None], (side, side), mode="bilinear", align_corners=False)
    return full[:, 0].numpy()
