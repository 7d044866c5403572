"""Blank regions of a tomogram in the scoring of a detector."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from cryoseg.core.grids.blank import BLANK_LOGIT
from cryoseg.core.grids.working_grid import normalize_volume, plan_grid
from cryoseg.methods.cet_pick.inference import BlockShape, score_volume

CPU = torch.device("cpu")


class Brightness(nn.Module):
    """Gives the grey values as logits and counts its blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = 0

    def forward(self, block: Tensor) -> list[Tensor]:
        """(1, z, y, x) to a list of (1, 1, z, y / 2, x / 2)."""
        self.blocks += 1
        return [block[:, None, :, ::2, ::2]]


def test_padding_changes_no_score_of_the_signal_and_is_not_computed() -> None:
    signal = np.random.default_rng(0).normal(100, 5, (6, 64, 64)).astype(np.float32)
    padded = np.zeros((8, 64, 200), np.float32)
    padded[1:7, :, :64] = signal
    blocks = BlockShape(slices=8, tile=32, halo=8)
    scored = {}
    for name, volume in (("bare", signal), ("padded", padded)):
        network = Brightness()
        shape = volume.shape
        grid = plan_grid((shape[0], shape[1], shape[2]), scale=(1.0, 1.0, 1.0))
        normalized = normalize_volume(volume, grid)
        scored[name] = score_volume(network, normalized, device=CPU, symmetric=False, blocks=blocks)
        assert network.blocks == 4
    np.testing.assert_allclose(scored["padded"][1:7, :, :32], scored["bare"], atol=1e-5)
    scored["padded"][1:7, :, :32] = BLANK_LOGIT
    assert (scored["padded"] == BLANK_LOGIT).all()


def test_a_constant_tomogram_is_blank_everywhere() -> None:
    network = Brightness()
    volume = np.full((4, 32, 32), 7.0, np.float32)
    normalized = normalize_volume(volume, plan_grid((4, 32, 32), scale=(1.0, 1.0, 1.0)))
    scores = score_volume(network, normalized, device=CPU)
    assert network.blocks == 0
    assert (scores == BLANK_LOGIT).all()


def test_blank_voxels_take_the_median_on_a_coarser_grid_too() -> None:
    volume = np.random.default_rng(0).normal(100, 5, (6, 60, 90)).astype(np.float32)
    volume[:, :, 60:] = -1000
    grid = plan_grid((6, 60, 90), scale=(1.0, 1.5, 1.5), z_compression=2, maximum=True)
    normalized = normalize_volume(volume, grid)
    assert normalized.blank is not None
    assert normalized.blank[:, :, 40:].all()
    assert not normalized.blank[:, :, :40].any()
    assert abs(normalized.intensity.center - 101) < 2
    assert normalized.slices.load().min() > 80
