"""Crops, targets, losses and the training loop of CET-pick."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cryoseg.config.cet_pick import Arch, CetPickConfig, Contrast, Risk
from cryoseg.config.train import LoopConfig
from cryoseg.errors import ConfigError, InputError
from cryoseg.methods.cet_pick import losses as losses
from cryoseg.methods.cet_pick import network as cet_pick
from cryoseg.methods.cet_pick.losses import (
    AVERAGE_WARMUP,
    _flip_cells,
    _flip_onto_cells,
    loss_of_crops,
    schedule,
)
from cryoseg.methods.cet_pick.samples import CropSampler, LabeledVolume, gaussian_target
from cryoseg.methods.training.learner import Learner
from cryoseg.methods.training.loop import CHECKPOINT, LOG, TrainingLoop

DIAMETER = np.array([8.0, 8.0, 8.0])
TINY = {"crop": (2, 32, 32), "batch": 1, "steps": 3, "warmup_steps": 1, "particle_diameter_angstrom": 80.0}


def volume(labels: list[list[float]], shape: tuple[int, int, int] = (12, 48, 64)) -> LabeledVolume:
    """Every voxel holds a number that tells where it is."""
    z, y, x = np.indices(shape)
    data = (z + y / 100 + x / 10000).astype(np.float16)
    return LabeledVolume(data=data, labels=np.asarray(labels, float).reshape(-1, 3), diameter=DIAMETER)


def test_target_peaks_at_the_label_between_cells() -> None:
    target = gaussian_target(np.array([[3.0, 9.0, 20.0]]), (6, 16, 16), diameter=DIAMETER, sigma=0.25)
    # The label lies between rows 4 and 5 (pixels 8 and 10), on column 10 and slice 3.
    assert target[3, 4, 10] == target[3, 5, 10] == pytest.approx(np.exp(-((1 / 2) ** 2) / 2))
    assert target[3, 4, 10] == target.max()
    assert target[0, 0, 0] == 0


@pytest.mark.parametrize("seed", range(4))
def test_flips_move_target_and_crop_together(seed: int) -> None:
    # One bright voxel at the label: wherever the crop shows it, the target must have its maximum.
    place = np.array([6, 20, 30])
    data = np.zeros((12, 48, 64), np.float16)
    data[tuple(place)] = 100
    config = CetPickConfig(**{**TINY, "crop": (6, 32, 32), "noise": 0.0, "gain": 1.0, "seed": seed})
    sampler = CropSampler(
        volumes=[LabeledVolume(data=data, labels=place[None].astype(float), diameter=DIAMETER)],
        config=config,
    )
    for step in range(8):
        crops, targets = sampler.batch(step)
        at = np.array(np.unravel_index(crops[0].argmax(), crops[0].shape))
        hard = np.argwhere(targets[0] == 1) * [1, 2, 2]
        assert np.abs(hard.mean(0) - at).max() <= 0.5


def test_same_step_gives_the_same_crops_and_another_step_others() -> None:
    config = CetPickConfig(**TINY)
    first, second = (CropSampler(volumes=[volume([[6, 20, 30]])], config=config) for _ in range(2))
    np.testing.assert_array_equal(first.batch(7)[0], second.batch(7)[0])
    assert not np.array_equal(first.batch(7)[0], first.batch(8)[0])


def test_volume_smaller_than_a_crop_is_extended_and_not_learned_from_there() -> None:
    config = CetPickConfig(**{**TINY, "crop": (6, 64, 64), "background_fraction": 0.0})
    sampler = CropSampler(volumes=[volume([[1, 10, 10]], shape=(3, 20, 21))], config=config)
    crops, targets = sampler.batch(0)
    assert crops.shape == (1, 6, 64, 64)
    learned = targets[0] > -1.5
    assert learned.any()
    assert learned.mean() < 0.2


def test_known_empty_places_and_places_not_to_look() -> None:
    base = volume([[6, 24, 32]])
    empty = np.zeros(base.data.shape, bool)
    empty[:, :8] = True
    mask = np.ones(base.data.shape, bool)
    mask[:, 40:] = False
    config = CetPickConfig(**{**TINY, "crop": (6, 48, 64)})
    sampler = CropSampler(
        volumes=[
            LabeledVolume(data=base.data, labels=base.labels, diameter=DIAMETER, empty=empty, mask=mask)
        ],
        config=config,
    )
    _, values = sampler.batch(0)
    assert {-2.0, -1.0, 0.0, 1.0} <= set(np.unique(values))


def test_published_sets_of_the_risk() -> None:
    # One hard positive, p = 0.8; one soft g = 0.5, p = 0.6; one unlabeled, p = 0.3.
    p, g = torch.tensor([0.8, 0.6, 0.3]), torch.tensor([1.0, 0.5, -1.0])
    log = np.log
    positive = -(0.2**2) * log(0.8) - 0.5**4 * 0.6**2 * log(0.4)
    negative = -(0.8**2) * log(0.2) - 0.5**4 * 0.4**2 * log(0.6)
    unlabeled = -(0.3**2) * log(0.7)
    prior = 0.01
    expected = prior * positive + (unlabeled - prior * negative)
    assert losses.pu_risk(p, g, prior=prior).item() == pytest.approx(expected, rel=1e-5)
    # With a large prior the estimate of the negative risk is below zero and is dropped.
    assert losses.pu_risk(p, g, prior=0.4).item() == pytest.approx(0.4 * positive, rel=1e-5)


def test_left_out_voxels_do_not_count_and_known_empty_ones_do() -> None:
    p, g = torch.tensor([0.8, 0.3]), torch.tensor([1.0, -1.0])
    plain = losses.pu_risk(p, g, prior=0.1)
    more = losses.pu_risk(torch.tensor([0.8, 0.3, 0.9]), torch.tensor([1.0, -1.0, -2.0]), prior=0.1)
    assert more.item() == plain.item()
    empty = losses.pu_risk(torch.tensor([0.8, 0.3, 0.9]), torch.tensor([1.0, -1.0, 0.0]), prior=0.1)
    assert empty.item() == pytest.approx(plain.item() - 0.81 * np.log(0.1), rel=1e-5)


def test_risk_without_a_positive_is_refused() -> None:
    with pytest.raises(InputError, match="No labeled voxel"):
        losses.pu_risk(torch.tensor([0.5]), torch.tensor([-1.0]), prior=0.1)


def test_corrected_contrast_teaches_where_the_published_one_does_not() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(2, 200, 8, generator=generator), dim=-1)
    labels = torch.where(torch.arange(200) < 10, 1.0, -1.0)
    p = torch.full((2, 200), 0.5)
    config = CetPickConfig(particle_diameter_angstrom=100, prior=0.1)
    published, _ = losses.published_contrast(features, labels, p, config)
    corrected, _ = losses.sampled_contrast(features, labels, p, config, generator)
    assert corrected > 10 * published
    aligned = features.clone()
    aligned[:, :10] = torch.nn.functional.normalize(torch.ones(8), dim=0)
    better, _ = losses.sampled_contrast(aligned, labels, p, config, generator)
    assert better < corrected


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_flipped_view_comes_back_cell_by_cell(axis: int) -> None:
    x = torch.arange(4 * 8 * 8.0).reshape(1, 4, 8, 8)
    cells = _flip_onto_cells(x, axis)[:, :, ::2, ::2]
    assert torch.equal(_flip_cells(cells, axis), x[:, :, ::2, ::2])


@pytest.mark.parametrize("arch", list(Arch))
@pytest.mark.parametrize("shape", [(1, 3, 33, 50), (1, 2, 32, 48)])
def test_every_network_halves_odd_and_unequal_sides_upward(
    arch: Arch, shape: tuple[int, int, int, int]
) -> None:
    network = cet_pick.build(arch).eval()
    with torch.inference_mode():
        hm, features = network(torch.zeros(shape))
    assert hm.shape == (1, 1, shape[1], (shape[2] + 1) // 2, (shape[3] + 1) // 2)
    assert features.shape == (1, 32, *hm.shape[2:])


def test_resnet_has_the_published_number_of_parameters() -> None:
    assert sum(p.numel() for p in cet_pick.build(Arch.RESSMALL_18).parameters()) == 880_033
    assert sum(p.numel() for p in cet_pick.build(Arch.UNET_5).parameters()) == 7_828_048


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"contrast": Contrast.SAMPLED, "contrast_samples": 64, "consistency_weight": 1.0},
        {"contrast": Contrast.PUBLISHED},
        {"risk": Risk.PN, "ema_decay": 0.0},
    ],
)
def test_interrupted_training_ends_in_the_same_weights(options: dict[str, object], tmp_path: Path) -> None:
    config = CetPickConfig(**{**TINY, **options})
    sampler = CropSampler(volumes=[volume([[6, 20, 30]])], config=config)

    def train(folder: str, settings: LoopConfig) -> dict[str, Any]:
        (tmp_path / folder).mkdir(exist_ok=True)
        torch.manual_seed(config.seed)
        network = cet_pick.build(config.arch)
        learner = Learner(
            network=network,
            loss=loss_of_crops(network, sampler, config, torch.device("cpu")),
            groups=[{"params": list(network.parameters()), "weight_decay": config.weight_decay}],
            learning_rate=schedule,
            average_warmup=AVERAGE_WARMUP,
        )
        list(TrainingLoop(learner, settings, tmp_path / folder, record={}).run())
        state: dict[str, Any] = torch.load(tmp_path / folder / CHECKPOINT, weights_only=True)
        return state

    loop = replace(config.loop, checkpoint_every=1)
    whole = train("whole", loop)
    for _ in range(3):
        cut = train("cut", replace(loop, max_minutes=0.0))  # one step per call
    assert whole["step"] == cut["step"] == 3
    for part in ("model", "average"):
        assert whole[part].keys() == cut[part].keys()
        assert all(torch.equal(value, cut[part][name]) for name, value in whole[part].items())
    logs = [(tmp_path / folder / LOG).read_text().splitlines() for folder in ("whole", "cut")]
    assert logs[0][0].endswith(",risk,contrast,consistency")
    assert len(logs[0]) == 4
    for one, other in zip(*logs, strict=True):  # all columns but the seconds
        assert one.split(",")[:5] + one.split(",")[6:] == other.split(",")[:5] + other.split(",")[6:]


def test_the_rate_rises_and_falls_to_nothing() -> None:
    config = LoopConfig(steps=100, warmup_steps=10, learning_rate=2.0)
    assert schedule(0, config) == pytest.approx(0.2)
    assert schedule(50, config) == pytest.approx(1.0)
    assert schedule(100, config) == pytest.approx(0.0)


def test_settings_out_of_range() -> None:
    for bad in ({"prior": 1.0}, {"crop": (6, 60, 64)}, {"steps": 0}, {"temperature": 0.0}):
        with pytest.raises(ConfigError, match="--"):
            CetPickConfig(**{**TINY, **bad})
