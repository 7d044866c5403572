from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cryoseg.config.train import ClipConfig
from cryoseg.methods.membrane_tiny.clips import TrainingVolume, sample_clips

PLAIN = ClipConfig(length=3, size=32, batch=2, zoom=1.0, noise=0.0, blur=0.0, empty_fraction=0.0)


def ball(shape: tuple[int, int, int] = (9, 48, 40), *, logits: bool = False) -> TrainingVolume:
    rng = np.random.default_rng(3)
    _, y, x = np.mgrid[: shape[0], : shape[1], : shape[2]]
    labels = (np.hypot(y - shape[1] / 2, x - shape[2] / 2) < 12).astype(np.int8)
    return TrainingVolume(
        name="ball",
        data=rng.normal(size=shape).astype(np.float16),
        labels=labels,
        stage1_logits=np.where(labels, 3, -3).astype(np.float16) if logits else None,
    )


def test_the_same_step_gives_the_same_clips_and_another_step_others() -> None:
    volumes = [ball()]
    first, again = (sample_clips(volumes, ClipConfig(size=32), seed=1, step=5) for _ in range(2))
    other = sample_clips(volumes, ClipConfig(size=32), seed=1, step=6)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_shapes_for_both_stages() -> None:
    images, labels = sample_clips([ball()], PLAIN, seed=0, step=0)
    assert images.shape == (2, 3, 5, 32, 32)
    assert labels.shape == (2, 3, 32, 32)
    images, _ = sample_clips([ball(logits=True)], PLAIN, seed=0, step=0)
    assert images.shape == (2, 3, 16, 32, 32)


def test_images_logits_and_labels_stay_in_register_through_every_flip() -> None:
    # The third channel of the logits is the slice itself: it must be positive exactly on the labels.
    for step in range(12):
        images, labels = sample_clips([ball(logits=True)], PLAIN, seed=2, step=step)
        assert torch.equal(images[:, :, 7] > 0, labels > 0)


def test_neighbors_of_consecutive_slices_overlap() -> None:
    for step in range(6):
        config = ClipConfig(length=4, size=32, batch=1, zoom=1.0, noise=0.0, blur=0.0)
        images, _ = sample_clips([ball()], config, seed=4, step=step)
        assert torch.equal(images[0, 0, 1:], images[0, 1, :-1])


def test_a_volume_smaller_than_the_crop_is_padded_with_unknown_labels() -> None:
    images, labels = sample_clips([ball((5, 20, 26))], PLAIN, seed=0, step=1)
    assert images.shape[-2:] == (32, 32)
    assert (labels == -1).any()
    assert set(labels.unique().tolist()) <= {-1, 0, 1}


def wide(*, logits: bool) -> TrainingVolume:
    """A volume with membrane on its left, flat background in the middle and blobs on its right."""
    shape = (4, 64, 256)
    data = np.zeros(shape, np.float16)
    _, y, x = np.mgrid[: shape[0], : shape[1], : shape[2]]
    blobs = (x >= 192) & (((y // 8) + (x // 8)) % 2 == 0)
    data[blobs] = -3
    return TrainingVolume(
        name="wide",
        data=data,
        labels=(x < 40).astype(np.int8),
        stage1_logits=np.where(blobs, 3, -3).astype(np.float16) if logits else None,
    )


@pytest.mark.parametrize("logits", [False, True])
def test_hard_negatives_have_no_membrane_and_more_blobs_than_a_clip_at_random(logits: bool) -> None:
    config = replace(PLAIN, empty_fraction=1.0, hard_negatives=1.0)
    hard = [sample_clips([wide(logits=logits)], config, seed=0, step=step) for step in range(10)]
    usual = [
        sample_clips([wide(logits=logits)], replace(config, hard_negatives=0.0), seed=0, step=step)
        for step in range(10)
    ]
    assert not any((labels > 0).any() for _, labels in hard)
    assert any((labels > 0).any() for _, labels in usual)
    hardness, other = (
        np.mean([float(images[:, :, 2].std(dim=(-2, -1)).mean()) for images, _ in clips])
        for clips in (hard, usual)
    )
    assert hardness > 1.2 > 2 * other
