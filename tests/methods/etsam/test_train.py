"""The published recipe on a network of a few thousand parameters, through the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cryoseg.io.images.volumes import write_logits, write_mask
from cryoseg.types import Geometry

pytest.importorskip("tensordict")
pytest.importorskip("tensorboard")

from cryoseg.config.segment import Polarity
from cryoseg.config.train_sam2 import ClipPrompts, Part, Sam2ClipConfig, TrainSam2Config, etsam_loop
from cryoseg.methods.etsam.loss import clip_loss, etsam_loss
from cryoseg.methods.etsam.train import train_sam2_stage
from cryoseg.methods.etsam.training_network import ClipBatch, build_clip_network, layered_groups
from cryoseg.methods.membranes.data import TrainingPairs, split_pairs

NANO = str(Path(__file__).parents[2] / "conformance" / "sam2_nano.yaml")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    for i in range(2):
        rng = np.random.default_rng(i)
        _, y, x = np.mgrid[:6, :48, :48]
        ring = np.abs(np.hypot(y - 24, x - 24) - 14) < 2
        values = (rng.normal(size=ring.shape) * 0.3 + 3 * ring).astype(np.float32)
        geometry = Geometry(voxel_size=(12.0, 12.0, 12.0))
        write_logits(folder / f"r{i}_tomogram.mrc", values, geometry, label="test")
        write_mask(folder / f"r{i}_labels.mrc", ring, geometry, label="test")
    return folder


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cryoseg", "train", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


ETSAM = ("--sam2-config", NANO, "--clip-length", "3", "--batch", "2")


def test_two_stages_train_and_their_checkpoints_segment(data: Path, tmp_path: Path) -> None:
    common = [*ETSAM, "--steps", "2", "--validate-every", "2", "--prompts", "inference", "--tensorboard"]
    one = run("etsam-stage1", str(data), "-o", str(tmp_path / "1"), *common, "--freeze", "prompt-encoder")
    assert one.returncode == 0, one.stderr
    two = run("etsam-stage2", str(data), "--stage1", str(tmp_path / "1"), "-o", str(tmp_path / "2"), *common)
    assert two.returncode == 0, two.stderr
    assert list((tmp_path / "1").glob("events.out.tfevents*"))
    document = json.loads((tmp_path / "2" / "config.json").read_text())
    assert document["config"]["loop"]["learning_rate"] == 5e-6
    assert document["config"]["loop"]["clip_norm"] == 0.1
    segmented = subprocess.run(
        [
            *(sys.executable, "-m", "cryoseg", "segment", str(data / "r0_tomogram.mrc")),
            *("--model", "etsam", "--stage1-checkpoint", str(tmp_path / "1" / "best.pt")),
            *("--stage2-checkpoint", str(tmp_path / "2" / "best.pt"), "--sam2-config", NANO),
            *("-o", str(tmp_path / "out")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert segmented.returncode == 0, segmented.stderr
    assert "ETSAM 2.x itself uses v2 by default" in segmented.stderr
    assert (tmp_path / "out" / "r0_tomogram_membrane_mask.mrc").exists()


def test_published_prompts_resume_to_the_same_weights(data: Path, tmp_path: Path) -> None:
    training, held_out = split_pairs([str(data)], [], seed=0)
    loop = replace(etsam_loop(1), steps=3, validate_every=3, checkpoint_every=1)
    config = TrainSam2Config(sam2_config=NANO, loop=loop, clip=Sam2ClipConfig(length=3, batch=1))
    piece = replace(config, loop=replace(loop, max_minutes=0.0))  # one step per call
    pairs = TrainingPairs(training=training, held_out=held_out, polarity=Polarity.AS_IS)
    assert train_sam2_stage(config, pairs, tmp_path / "a")
    done = [train_sam2_stage(piece, pairs, tmp_path / "b") for _ in range(3)]
    assert done == [False, False, True]
    whole, cut = (torch.load(tmp_path / f / "last.pt", weights_only=True) for f in "ab")
    assert whole["step"] == cut["step"] == 3
    assert all(torch.equal(whole["model"][k], cut["model"][k]) for k in whole["model"])


def clips(labels: torch.Tensor) -> ClipBatch:
    images = torch.randn(*labels.shape[:2], 3, *labels.shape[2:], generator=torch.Generator().manual_seed(0))
    return ClipBatch(images=images, labels=labels, prompts=labels[:, 0] > 0)


def test_unknown_voxels_teach_nothing() -> None:
    torch.manual_seed(0)
    network = build_clip_network(NANO, prompts=ClipPrompts.INFERENCE)
    side = network.image_size
    labels = torch.zeros(1, 2, side, side, dtype=torch.int8)
    labels[..., : side // 2] = 1
    known = labels.clone()
    labels[:, :, : side // 3] = -1
    batch = clips(labels)
    batch = ClipBatch(images=batch.images, labels=labels, prompts=known[:, 0] > 0)
    criterion = etsam_loss()
    outputs = network(batch)
    key = "multistep_pred_multimasks_high_res"
    for out in outputs:
        for masks in out[key]:
            masks.retain_grad() if masks.requires_grad else None
    loss = clip_loss(criterion, outputs, batch)
    loss.backward()
    gradient = outputs[1][key][0].grad
    assert gradient is not None
    assert (gradient[:, :, : side // 3] == 0).all()
    assert (gradient[:, :, side // 3 :] != 0).any()
    changed = [{**out, key: [m.clone() for m in out[key]]} for out in outputs]
    for out in changed:
        for masks in out[key]:
            masks.data[:, :, : side // 3] = 7.0
    assert clip_loss(criterion, changed, batch).item() == pytest.approx(loss.item())


def test_a_clip_without_a_label_costs_nothing() -> None:
    network = build_clip_network(NANO, prompts=ClipPrompts.INFERENCE)
    side = network.image_size
    labels = torch.full((1, 2, side, side), -1, dtype=torch.int8)
    loss = clip_loss(etsam_loss(), network(clips(labels)), clips(labels))
    assert loss.item() == 0


def test_deeper_layers_learn_slower_and_frozen_parts_not_at_all() -> None:
    network = build_clip_network(NANO, prompts=ClipPrompts.SAM2, freeze=[Part.MASK_DECODER])
    groups = layered_groups(network, weight_decay=0.1, encoder_rate=0.6, layer_decay=0.9)
    places = {id(p): (g["scale"], g["weight_decay"]) for g in groups for p in g["params"]}
    named = dict(network.named_parameters())
    blocks = len(network.image_encoder.trunk.blocks)
    top = blocks + 1
    key = "image_encoder.trunk.blocks.{}.attn.qkv.weight"
    assert places[id(named[key.format(0)])] == pytest.approx((0.6 * 0.9 ** (top - 1), 0.1))
    assert places[id(named[key.format(blocks - 1)])] == pytest.approx((0.6 * 0.9, 0.1))
    assert places[id(named["image_encoder.trunk.blocks.0.norm1.weight"])][1] == 0
    assert places[id(named["image_encoder.trunk.pos_embed"])][0] == pytest.approx(0.6)
    assert places[id(named["memory_attention.layers.0.linear1.weight"])] == (1.0, 0.1)
    assert not any(id(p) in places for n, p in named.items() if n.startswith("sam_mask_decoder."))
