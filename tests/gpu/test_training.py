"""Ten training steps of every method on the device (four on a CPU), and the same training in two parts."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

pytest.importorskip("tensordict")

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]

METHODS = ("membrane", "etsam", "prompted-sam", "promise", "cet-pick")


def losses(folder: Path) -> list[float]:
    with (folder / "log.csv").open(newline="") as stream:
        return [float(row["loss"]) for row in csv.DictReader(stream)]


def weights(path: Path) -> torch.Tensor:
    """All floating-point weights of a checkpoint in one vector."""
    model = torch.load(path, map_location="cpu", weights_only=True)["model"]
    return torch.cat([value.double().flatten() for value in model.values() if value.is_floating_point()])


@pytest.mark.parametrize("method", METHODS)
def test_losses_are_those_of_the_cpu_and_a_resumed_training_ends_like_an_undisturbed_one(
    method: str,
    device: torch.device,
    train: Callable[..., Path],
    trained_on_cpu: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A finished training of CET-pick deletes its checkpoint, which is compared here.
    monkeypatch.setattr("cryoseg.pipelines.train_cet_pick.CHECKPOINT", "other.pt")
    whole = train(method, tmp_path / "whole", device)
    expected = losses(trained_on_cpu(method))
    assert len(expected) >= 1
    assert losses(whole) == pytest.approx(expected, rel=0.02)
    cut = train(method, tmp_path / "cut", device, "--max-minutes", 1e-6)  # one step
    assert torch.load(cut / "last.pt", weights_only=True)["step"] == 1
    shutil.copy(cut / "last.pt", tmp_path / "first_step.pt")
    train(method, cut, device)
    end, resumed = weights(whole / "last.pt"), weights(cut / "last.pt")
    if device.type == "cpu":
        assert torch.equal(end, resumed)
    # Sums of CUDA have no fixed order, so that two runs differ by a small part of what was learned.
    learned = (end - weights(tmp_path / "first_step.pt")).norm()
    assert learned > 0
    assert (end - resumed).norm() <= 0.02 * learned
