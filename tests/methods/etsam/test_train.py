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

pytest.importorskip("tensordict")
pytest.importorskip("tensorboard")

from cryoseg.config.segment import Polarity
from cryoseg.config.train import ClipPrompts, Part, Sam2ClipConfig, TrainSam2Config, etsam_loop
from cryoseg.errors import InputError
from cryoseg.io.images.volumes import write_logits, write_mask
from cryoseg.methods.etsam.train import SliceVolume, sample_slice_clip, sample_slice_clips, train_sam2_stage
from cryoseg.methods.etsam.training_network import (
    ClipBatch,
    build_clip_network,
    clip_loss,
    etsam_loss,
    layered_groups,
)
from cryoseg.methods.membranes import TrainingPairs, split_pairs
from cryoseg.types import Geometry

STILL = Sam2ClipConfig(length=3, batch=2, flip=0, rotation=0, shear=0, brightness=0, contrast=0)
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def volume(labels: np.ndarray, *, prompted: bool = False) -> SliceVolume:
    return SliceVolume(
        name="v",
        plane=lambda z: np.full(labels.shape[1:], z, np.float32) + 10 * (labels[z] > 0),
        labels=labels,
        prompt=(lambda z: np.eye(labels.shape[1], dtype=bool)) if prompted else lambda z: None,
    )


def painted(*slices: int, depth: int = 8) -> np.ndarray:
    labels = np.zeros((depth, 32, 32), np.int8)
    labels[list(slices), 8:24, 8:24] = 1
    return labels


def test_a_clip_begins_with_membrane_and_goes_on_slice_by_slice() -> None:
    for seed in range(5):
        images, labels, prompt = sample_slice_clip(
            [volume(painted(2, 4))], np.random.default_rng(seed), STILL, 32
        )
        assert images.shape == (3, 3, 32, 32)
        grey = images[:, :, 0, 0] * STD + MEAN  # a corner holds the number of the slice
        assert grey[0, 0].item() == pytest.approx(2, abs=1e-4) or grey[0, 0].item() == pytest.approx(
            4, abs=1e-4
        )
        np.testing.assert_allclose(grey.diff(dim=0).numpy(), 1, atol=1e-4)
        assert (labels[0] > 0).sum() == 16 * 16
        assert prompt is None


def test_a_short_volume_ends_with_unknown_copies() -> None:
    images, labels, _ = sample_slice_clip([volume(painted(1, depth=2))], np.random.default_rng(0), STILL, 32)
    assert len(images) == 3
    assert (labels[0] >= 0).all()
    assert (labels[1:] == -1).all()


def test_stage_2_inputs_above_1_are_not_clamped() -> None:
    config = Sam2ClipConfig(length=2, rotation=0, shear=0, flip=0)
    images, _, _ = sample_slice_clip([volume(painted(0, 1, 2))], np.random.default_rng(1), config, 32)
    assert (images[:, 0].amax() * STD[0] + MEAN[0]) > 8


def test_warped_corners_are_unknown_and_grey() -> None:
    config = Sam2ClipConfig(length=2, flip=0, shear=0, rotation=25, brightness=0, contrast=0)
    labels = np.zeros((4, 32, 32), np.int8)
    labels[:, 12:20, 12:20] = 1
    for seed in range(4):
        images, warped, prompt = sample_slice_clip(
            [volume(labels, prompted=True)], np.random.default_rng(seed), config, 32
        )
        corner = warped[:, 0, 0]
        assert set(np.unique(warped)) <= {-1, 0, 1}
        if (corner == -1).all():
            break
    else:
        pytest.fail("no clip was turned far enough")
    grey = images * STD[:, None, None] + MEAN[:, None, None]
    assert 0 < grey[0, 0, 0, 0] < 10
    assert prompt is not None
    assert prompt.dtype == torch.bool


def test_processes_draw_the_clips_that_one_process_would() -> None:
    volumes = [volume(painted(1, 3, 5))]
    config = Sam2ClipConfig(length=2, batch=4)
    whole = sample_slice_clips(volumes, config, side=32, seed=3, step=7, part=range(4))
    parts = [
        sample_slice_clips(volumes, config, side=32, seed=3, step=7, part=range(i, i + 2)) for i in (0, 2)
    ]
    torch.testing.assert_close(torch.cat([p.images for p in parts]), whole.images, rtol=0, atol=0)
    assert whole.flat_obj_to_img_idx.tolist() == [[0, 2, 4, 6], [1, 3, 5, 7]]


def test_a_volume_without_membrane_is_named() -> None:
    with pytest.raises(InputError, match="v: no slice"):
        sample_slice_clip([volume(painted())], np.random.default_rng(0), STILL, 32)


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


@pytest.mark.parametrize("known", [[0, 1], [0]])
def test_a_clip_whose_known_slices_could_all_be_prompted_with_masks_has_a_gradient(known: list[int]) -> None:
    network = build_clip_network(NANO, prompts=ClipPrompts.SAM2)
    network.prob_to_use_pt_input_for_train = 0.0
    side = network.image_size
    labels = torch.full((1, 2, side, side), -1, dtype=torch.int8)
    labels[:, known] = 0
    labels[:, known, 40:80, 40:80] = 1
    clips = ClipBatch(images=torch.zeros(1, 2, 3, side, side), labels=labels)
    assert clips.known_slices == known
    for seed in range(4):  # one slice is prompted, or both
        network.reseed([seed])
        assert clip_loss(etsam_loss(), network(clips), clips).requires_grad
    assert network.prob_to_use_pt_input_for_train == 0.0


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
