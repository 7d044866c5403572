"""Apply a CET-pick detector to a tomogram in overlapping blocks.

Only the score map (a quarter of the working grid, float32) and one block are in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cryoseg.core.grids.blank import BLANK_LOGIT
from cryoseg.core.grids.working_grid import NormalizedVolume
from cryoseg.methods.cet_pick.network import XY_STRIDE, Z_HALO
from cryoseg.types import FloatArray


@dataclass(frozen=True, kw_only=True)
class BlockShape:
    """Size of the blocks in voxels of the working grid.

    Attributes
    ----------
    slices
        Number of slices of a block, without the three on either side that the heads need.
    tile
        Side of a block in y and x, without the margin.
    halo
        Width of the margin around a block, whose scores are discarded.
    """

    slices: int = 24
    tile: int = 256
    halo: int = 32


def _spans(size: int, core: int, halo: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (begin, end, padded begin, padded end) of pieces that cover `size`; one piece if it is small."""
    if size <= core + 2 * halo:
        yield 0, size, 0, size
        return
    for begin in range(0, size, core):
        end = min(begin + core, size)
        yield begin, end, max(0, begin - halo), min(size, end + halo)


def _symmetric_logits(network: nn.Module, block: Tensor) -> Tensor:
    """Return the mean of a block's logits and those of its point reflection.

    A systematic shift of the network changes sign with the reflection and cancels in the mean.
    """
    logits = network(block)[0][:, 0]
    # Only with odd sides do the cells of the reflection lie on the cells of the block.
    pad = [1 - side % 2 for side in block.shape[-2:]]
    odd = functional.pad(block, (0, pad[1], 0, pad[0]), mode="replicate")
    mirrored = network(odd.flip(1, 2, 3))[0][:, 0].flip(1, 2, 3)
    return (logits + mirrored[..., : logits.shape[-2], : logits.shape[-1]]) / 2


def score_volume(
    network: nn.Module,
    volume: NormalizedVolume,
    *,
    device: torch.device,
    symmetric: bool = True,
    blocks: BlockShape | None = None,
    on_block: Callable[[int, int], None] | None = None,
) -> FloatArray:
    """Compute the heat-map logits of a whole volume.

    Parameters
    ----------
    network
        Network from `cet_pick.build` in evaluation mode on `device`.
    volume
        Tomogram on its working grid. Blocks without signal are not computed.
    device
        Device to compute on.
    symmetric
        Whether to average with the point reflection, which takes twice the time and cancels systematic
        shifts.
    blocks
        Size of the blocks; None for the default.
    on_block
        Function to call with the numbers of blocks done and of all blocks.

    Returns
    -------
    FloatArray
        (z, y / 2, x / 2), odd sides rounded up; cell (z, i, j) lies on voxel (z, 2 i, 2 j). Blank cells
        have `BLANK_LOGIT`.
    """
    blocks = blocks or BlockShape()
    depth, height, width = volume.slices.shape
    shape = (depth, math.ceil(height / XY_STRIDE), math.ceil(width / XY_STRIDE))
    scores = np.full(shape, BLANK_LOGIT, np.float32)
    slabs = list(_spans(depth, blocks.slices, Z_HALO))
    tiles = [
        (y, x)
        for y in _spans(height, blocks.tile, blocks.halo)
        for x in _spans(width, blocks.tile, blocks.halo)
    ]
    done = 0
    with torch.inference_mode():
        for z0, z1, zp0, zp1 in slabs:
            slab = volume.intensity(volume.slices.load(zp0, zp1))
            for (y0, y1, yp0, yp1), (x0, x1, xp0, xp1) in tiles:
                where = (
                    slice(z0, z1),
                    slice(y0 // XY_STRIDE, math.ceil(y1 / XY_STRIDE)),
                    slice(x0 // XY_STRIDE, math.ceil(x1 / XY_STRIDE)),
                )
                if volume.blank is None or not volume.blank[z0:z1, y0:y1, x0:x1].all():
                    piece = np.ascontiguousarray(slab[:, yp0:yp1, xp0:xp1])
                    block = torch.from_numpy(piece)[None].to(device)
                    logits = _symmetric_logits(network, block) if symmetric else network(block)[0][:, 0]
                    inner = logits[
                        0,
                        z0 - zp0 : z1 - zp0,
                        (y0 - yp0) // XY_STRIDE : math.ceil((y1 - yp0) / XY_STRIDE),
                        (x0 - xp0) // XY_STRIDE : math.ceil((x1 - xp0) / XY_STRIDE),
                    ]
                    scores[where] = inner.float().cpu().numpy()
                done += 1
                if on_block is not None:
                    on_block(done, len(slabs) * len(tiles))
    if volume.blank is not None:
        scores[volume.blank[:, ::XY_STRIDE, ::XY_STRIDE]] = BLANK_LOGIT
    return scores
