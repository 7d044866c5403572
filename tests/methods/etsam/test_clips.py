from __future__ import annotations

import numpy as np
import pytest
import torch

from cryoseg.config.train_sam2 import Sam2ClipConfig
from cryoseg.errors import InputError
from cryoseg.methods.etsam.clips import SliceVolume, sample_slice_clip, sample_slice_clips

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
