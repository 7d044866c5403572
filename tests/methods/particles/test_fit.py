from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cryoseg.config.prompt_sam import InputScale, PromptConfig, PromptMethod
from cryoseg.config.train_sam import PretrainConfig, SamLoss, SampleConfig, TrainSamConfig
from cryoseg.methods.particles.fit import (
    TrainedPart,
    adaptation_loss,
    bce_loss,
    pretraining_loss,
    prompted_loss,
    sam_loss,
    squared_dice_loss,
)
from cryoseg.methods.particles.samples import (
    TileSampler,
    TrainingMicrograph,
    draw_object_prompts,
    sample_squares,
    sample_tiles,
    tile_targets,
)
from cryoseg.methods.prompt_sam.network import PromptSam
from cryoseg.methods.sam.geometry import SamGeometry
from cryoseg.methods.training.ahead import ahead
from cryoseg.methods.training.learner import dice_by_threshold
from cryoseg.methods.training.run import Runtime

PROMPTS = (PromptMethod.HEAD, PromptMethod.PREFIX, PromptMethod.ENCODER, PromptMethod.FINETUNE)
CPU = torch.device("cpu")


def discs(seed: int = 0, side: int = 120) -> TrainingMicrograph:
    rng = np.random.default_rng(seed)
    centers = np.array([[y, x] for y in range(20, side, 30) for x in range(20, side, 30)], float)
    labels = np.zeros((side, side), np.int32)
    y, x = np.mgrid[:side, :side]
    for number, (cy, cx) in enumerate(centers, start=1):
        labels[np.hypot(y - cy, x - cx) < 9] = number
    grey = rng.normal(0, 0.5, labels.shape) - 2.0 * (labels > 0)
    labels[:, :4] = -1
    return TrainingMicrograph(name="discs", grey=grey.astype(np.float16), labels=labels, centers=centers)


def test_steps_that_processes_prepare_ahead_have_the_same_tiles() -> None:
    config = SampleConfig(batch=2, zoom=1.4)
    draw = TileSampler(micrographs=[discs(), discs(1)], config=config, side=64, logit_side=16, seed=3)
    prepared = ahead(draw, 2)
    for step in range(7, 13):  # a resumed training begins later
        expected, found = draw(step), prepared(step)
        assert [values.shape for values in found] == [(2, 64, 64), (2, 64, 64), (2, 16, 16), (2, 16, 16)]
        assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))
    grey, labels = sample_tiles(draw.micrographs, config, side=64, seed=3, step=7)
    assert np.array_equal(draw(7)[0], grey.numpy())
    assert np.array_equal(draw(7)[1] > 0, labels.numpy() > 0)


def test_squared_dice_and_entropy_are_what_a_hand_computes() -> None:
    logits = torch.zeros(1, 1, 2)
    target = torch.tensor([[[1.0, 0.0]]])
    # p = 1/2: overlap 1/2; squares 1/4 + 1/4 + 1.
    assert squared_dice_loss(logits, target, torch.ones(1, 1, 2)).item() == pytest.approx(
        1 - 1 / 1.5, abs=1e-4
    )
    assert bce_loss(logits, target, torch.ones(1, 1, 2)).item() == pytest.approx(np.log(2))
    known = torch.tensor([[[1.0, 0.0]]])
    assert squared_dice_loss(logits, target, known).item() == pytest.approx(1 - 1 / 1.25, abs=1e-4)
    assert bce_loss(torch.tensor([[[0.0, 50.0]]]), target, known).item() == pytest.approx(np.log(2))
    both = sam_loss(logits, target, kind=SamLoss.DICE_BCE) - sam_loss(logits, target, kind=SamLoss.DICE)
    assert both.item() == pytest.approx(np.log(2))


def test_the_best_of_three_masks_counts_and_the_judgment_is_trained() -> None:
    target = torch.zeros(1, 4, 4)
    target[:, :2] = 1
    right, wrong = 40 * target - 20, 20 - 40 * target
    logits = torch.stack([wrong, right, wrong], dim=1)
    assert prompted_loss(logits, torch.tensor([[0.0, 1.0, 0.0]]), target).item() == pytest.approx(0, abs=1e-4)
    assert prompted_loss(logits, torch.ones(1, 3), target).item() == pytest.approx(2 / 3, abs=1e-4)


def test_dice_by_threshold_ignores_the_unknown() -> None:
    logits = np.array([[-7.0, 1.0], [3.0, 3.0]], np.float32)
    labels = np.array([[0, 0], [1, -1]])
    dice = dice_by_threshold(logits, labels)
    assert dice[0] == pytest.approx(2 / 3)  # at -6 two of three known pixels are drawn
    assert dice.max() == pytest.approx(1.0)  # between 1 and 3 only the particle is


def test_tiles_follow_from_seed_and_step() -> None:
    config = SampleConfig(batch=3)
    first, again, other = (sample_tiles([discs()], config, side=64, seed=1, step=s) for s in (5, 5, 6))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    grey, labels = first
    share, weight = tile_targets(labels, 32)
    assert share.shape == weight.shape == (3, 32, 32)
    assert 0 < share.mean() < 1
    # Image and labels are turned and magnified together.
    assert grey[labels > 0].mean() < grey[labels == 0].mean() - 1


def test_beyond_a_small_micrograph_nothing_is_known() -> None:
    grey, labels = sample_tiles([discs(side=40)], SampleConfig.plain(), side=64, seed=0, step=0)
    assert (labels[:, 40:] == -1).all()
    assert not grey[:, 40:].any()


def test_whole_micrographs_come_once_an_epoch() -> None:
    squares = [
        TrainingMicrograph(
            name=str(i),
            grey=np.zeros((8, 8), np.float16),
            labels=np.zeros((8, 8), np.int32),
            centers=np.empty((0, 2)),
            square=np.full((3, 8, 8), i / 8, np.float16),
            square_labels=np.zeros((2, 2), np.float16),
        )
        for i in range(4)
    ]
    config = SampleConfig.plain()
    for epoch in range(2):
        seen = [
            sample_squares(squares, config, seed=3, step=4 * epoch + i)[0].mean().item() for i in range(4)
        ]
        assert sorted(seen) == [0, 1 / 8, 2 / 8, 3 / 8]


def test_prompts_lie_where_they_say() -> None:
    _, labels = sample_tiles([discs()], SampleConfig(batch=2), side=64, seed=0, step=0)
    prompts = draw_object_prompts(labels, np.random.default_rng(0), each=2)
    assert prompts is not None
    for mask, points, kinds, box in zip(
        prompts.masks, prompts.points, prompts.labels, prompts.boxes, strict=True
    ):
        for (x, y), kind in zip(points.int().tolist(), kinds.tolist(), strict=True):
            assert kind == -1 or mask[y, x] == (kind == 1)
        y, x = torch.nonzero(mask).float().mean(dim=0)
        assert box[0] < x < box[2]
        assert box[1] < y < box[3]
    assert (
        draw_object_prompts(torch.zeros(2, 8, 8, dtype=torch.long), np.random.default_rng(0), each=2) is None
    )


def test_a_promptable_network_learns_grids_points_and_boxes(small_sam: SamGeometry) -> None:
    torch.manual_seed(0)
    config = PretrainConfig(sample=SampleConfig(batch=2, noise=0, blur=0, zoom=1.0), grid_side=4, prompts=1)
    network = PromptSam(replace(small_sam, fine_widths=(8, 8)), config.prompt)
    loss = pretraining_loss(network, [discs()], config, CPU)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    values = []
    for step in range(30):
        optimizer.zero_grad()
        value = loss(step)
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert np.mean(values[-5:]) < 0.75 * np.mean(values[:5])


@pytest.mark.parametrize("method", PROMPTS)
def test_a_step_moves_only_the_trained_part(method: PromptMethod, small_sam: SamGeometry) -> None:
    torch.manual_seed(1)
    config = TrainSamConfig.ours(
        PromptConfig(method=method, input_scale=InputScale.GREY, grid_side=4), steps=4
    )
    network = PromptSam(replace(small_sam, fine_widths=(8, 8)), config.prompt)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    part = TrainedPart(network)
    assert sum(p.numel() for p in part.parameters()) == sum(
        p.numel() for p in network.parameters() if p.requires_grad
    )
    optimizer = torch.optim.SGD(part.parameters(), lr=0.1)
    loss = adaptation_loss(network, [discs()], config, Runtime())
    for step in range(2):  # behind a layer of zeros a gradient arrives with the second step only
        optimizer.zero_grad()
        loss(step).backward()
        optimizer.step()
    moved = {n for n, v in network.state_dict().items() if not torch.equal(v, before[n])}
    assert moved
    assert all(network.is_trained(name) for name in moved)
    names = {name.replace("/", ".") for name in part.state_dict()}
    assert names == {name for name in before if network.is_trained(name)}
