from __future__ import annotations

import math

import pytest
import torch

from cryoseg.methods.membranes.losses import membrane_loss, soft_dice_loss, weighted_bce_loss


def test_unknown_voxels_cost_nothing_and_pull_nothing() -> None:
    labels = torch.tensor([1, 0, -1, -1], dtype=torch.int8)
    logits = torch.tensor([1.0, -2.0, 9.0, -9.0], requires_grad=True)
    loss = membrane_loss(logits, labels)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[2:].tolist() == [0, 0]
    assert loss.item() == pytest.approx(membrane_loss(logits[:2], labels[:2]).item())


def test_values_by_hand() -> None:
    labels = torch.tensor([1, 0], dtype=torch.int8)
    logits = torch.zeros(2)
    assert weighted_bce_loss(logits, labels).item() == pytest.approx(math.log(2))
    # overlap 0.5, sums 1 and 1: (2 * 0.5 + 1) / (1 + 1 + 1)
    assert soft_dice_loss(logits, labels).item() == pytest.approx(1 - 2 / 3)


def test_an_empty_batch_without_false_positives_is_free_of_dice_loss() -> None:
    loss = soft_dice_loss(torch.full((4,), -40.0), torch.zeros(4, dtype=torch.int8))
    assert loss.item() == pytest.approx(0)
