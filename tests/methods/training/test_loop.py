from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cryoseg.config.train import LoopConfig
from cryoseg.methods.training.loop import BEST, CHECKPOINT, LOG, TrainingError, fit, learning_rate

CONFIG = LoopConfig(steps=12, warmup_steps=3, checkpoint_every=4, validate_every=6, learning_rate=0.05)


def line(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Linear(3, 1)


def loss_for(model: nn.Module) -> object:
    def loss(step: int) -> Tensor:
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        return (model(x)[:, 0] - x.sum(dim=1)).square().mean()

    return loss


def run(folder: Path, config: LoopConfig, model: nn.Module, stop_after: int | None = None) -> nn.Module:
    def score(trained: nn.Module) -> float:
        return -float(trained.weight.detach().sub(1).norm())

    for result in fit(model, loss_for(model), config, folder, validate=score):
        if stop_after is not None and result.step >= stop_after:
            break  # as a kill between two checkpoints: what came after the last one is lost
    return model


def test_a_run_cut_in_pieces_ends_with_the_same_weights(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = run(tmp_path / "a", CONFIG, line())
    run(tmp_path / "b", CONFIG, line(), stop_after=8)
    resumed = run(tmp_path / "b", CONFIG, line(seed=9))  # another start: the checkpoint must win
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name])
    first, second = (torch.load(tmp_path / f / CHECKPOINT, weights_only=True) for f in "ab")
    assert first["step"] == second["step"] == 12
    assert all(torch.equal(first["average"][k], second["average"][k]) for k in first["average"])


def test_the_best_weights_and_the_log_are_kept(tmp_path: Path) -> None:
    run(tmp_path, CONFIG, line())
    best = torch.load(tmp_path / BEST, weights_only=True)
    assert best["step"] == 12
    with (tmp_path / LOG).open() as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["step"]) for row in rows] == [4, 6, 8, 12]
    assert [bool(row["score"]) for row in rows] == [False, True, False, True]


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    model = line()
    results = list(fit(model, loss_for(model), replace(CONFIG, steps=200), tmp_path))
    assert results[-1].loss < 0.2 * results[0].loss


def test_a_loss_that_is_not_finite_stops_with_advice(tmp_path: Path) -> None:
    model = line()
    with pytest.raises(TrainingError, match="learning-rate"):
        list(fit(model, lambda step: model.weight.sum() * float("nan"), CONFIG, tmp_path))


def test_another_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    model = line()
    list(fit(model, loss_for(model), CONFIG, tmp_path, fingerprint={"a": 1}))
    with pytest.raises(TrainingError, match="other settings"):
        list(fit(model, loss_for(model), CONFIG, tmp_path, fingerprint={"a": 2}))


def test_the_learning_rate_rises_then_falls_to_the_stated_fraction() -> None:
    config = LoopConfig(steps=100, warmup_steps=10, learning_rate=1.0, final_learning_rate_fraction=0.1)
    assert learning_rate(0, config) == pytest.approx(0.1)
    assert learning_rate(9, config) == pytest.approx(1.0)
    assert learning_rate(55, config) == pytest.approx(0.55)
    assert learning_rate(100, config) == pytest.approx(0.1)
