"""Two processes on a CPU learn what one process learns."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cryoseg.config.train import ClipConfig
from cryoseg.errors import ConfigError, InputError
from cryoseg.io.images.mrc import write_mrc
from cryoseg.io.images.volumes import write_logits
from cryoseg.methods.membrane_tiny.clips import load_volume, sample_clip
from cryoseg.methods.membrane_tiny.network import build_stage
from cryoseg.methods.membranes import Fold, split_pairs
from cryoseg.methods.training.processes import Processes
from cryoseg.types import Geometry

GEOMETRY = Geometry(voxel_size=(12.0, 12.0, 12.0))


def write_pair(folder: Path, name: str, labels: np.ndarray) -> None:
    values = np.random.default_rng(0).normal(size=labels.shape).astype(np.float32) - 3 * (labels > 0)
    write_logits(folder / f"{name}_tomogram.mrc", values.astype(np.float32), GEOMETRY, label="test")
    write_mrc(folder / f"{name}_labels.mrc", labels, GEOMETRY, label="test", dtype="int8")


def test_two_processes_equal_one(tmp_path: Path) -> None:
    pytest.importorskip("lightning_fabric")
    for i in range(2):
        labels = np.zeros((6, 64, 64), np.int8)
        labels[:, 20 + i : 24 + i] = 1
        write_pair(tmp_path, f"v{i}", labels)

    def train(name: str, *extra: str) -> dict[str, torch.Tensor]:
        subprocess.run(
            [
                *(sys.executable, "-m", "cryoseg", "train", "membrane", str(tmp_path), "--stage", "1"),
                *("-o", str(tmp_path / name), "--steps", "3", "--validate-every", "3", "--batch", "2"),
                *("--clip-length", "2", "--crop-size", "64", *extra),
            ],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=True,
            capture_output=True,
            timeout=300,
        )
        model: dict[str, torch.Tensor] = torch.load(tmp_path / name / "last.pt", weights_only=True)["model"]
        return model

    one, two = train("one"), train("two", "--devices", "2")
    torch.manual_seed(0)
    start = build_stage(1, 64).state_dict()
    # Whole updates, not single weights: Adam's first steps turn rounding of tiny gradients into signs.
    moved = sum(float((one[key] - start[key]).square().sum()) for key in one) ** 0.5
    apart = sum(float((one[key] - two[key]).square().sum()) for key in one) ** 0.5
    assert moved > 1e-2
    assert apart < 0.01 * moved


def test_a_batch_that_cannot_be_dealt_out_is_refused() -> None:
    assert Processes(rank=1, count=2).share(4) == range(2, 4)
    with pytest.raises(ConfigError, match="multiple of the 2 processes"):
        Processes(rank=0, count=2).share(3)


def test_one_tomogram_with_a_few_labeled_slices_trains_and_validates(tmp_path: Path) -> None:
    labels = np.full((40, 64, 64), -1, np.int8)
    for z in (3, 9, 20, 30, 38):
        labels[z] = 0
        labels[z, 20:24] = 1
    write_pair(tmp_path, "few", labels)
    (training,), (judging,) = split_pairs([str(tmp_path)], [], seed=0)
    assert (training.fold, judging.fold) == (Fold.TRAINING, Fold.VALIDATION)
    taught, judged = load_volume(training), load_volume(judging)
    assert taught.labeled_slices.tolist() == [3, 20, 30, 38]
    assert judged.labeled_slices.tolist() == [9]
    labels[9] = 0  # the slice that would judge has no membrane now, so that another one does
    write_pair(tmp_path / "other", "few", labels)
    (training,), (judging,) = split_pairs([str(tmp_path / "other")], [], seed=0)
    assert load_volume(training).labeled_slices.tolist() == [3, 9, 30, 38]
    assert load_volume(judging).labeled_slices.tolist() == [20]
    labels[[20, 30, 38]] = 0
    write_pair(tmp_path / "one", "few", labels)
    (training,), _ = split_pairs([str(tmp_path / "one")], [], seed=0)
    with pytest.raises(InputError, match="1 slice has membrane; label at least two"):
        load_volume(training)
    config = ClipConfig(size=64, length=4, zoom=1.0)
    for seed in range(10):
        _, targets = sample_clip([taught], np.random.default_rng(seed), config)
        assert (targets >= 0).any()
