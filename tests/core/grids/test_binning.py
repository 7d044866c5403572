import numpy as np
import pytest

from cryoseg.core.grids.binning import (
    bin_mask,
    bin_volume,
    binned_shape,
    logit_step,
    quantize_logits,
    to_greys,
)


def test_means_of_blocks_and_of_the_smaller_rest() -> None:
    volume = np.arange(3 * 2 * 5, dtype=np.int16).reshape(3, 2, 5)
    binned = bin_volume(volume, (2, 2, 2))
    assert binned.shape == binned_shape(volume.shape, (2, 2, 2)) == (2, 1, 3)
    assert binned[0, 0, 0] == volume[:2, :2, :2].mean()
    assert binned[1, 0, 2] == volume[2:, :2, 4:].mean()


def test_no_binning_changes_nothing() -> None:
    volume = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    np.testing.assert_array_equal(bin_volume(volume, (1, 1, 1)), volume)


def test_a_block_is_marked_from_its_share_on() -> None:
    mask = np.zeros((2, 2, 4), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[0, 0, 2] = True
    np.testing.assert_array_equal(bin_mask(mask, (2, 2, 2), share=0.25), [[[True, False]]])


@pytest.mark.parametrize("step", [1 / 16, 1 / 64])
def test_rounded_logits_pass_the_same_thresholds(step: float) -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(scale=100 * step, size=5000).astype(np.float32)
    logits[:40] = np.arange(-20, 20) * step
    rounded = quantize_logits(logits, step)
    for multiple in range(-128, 127):
        np.testing.assert_array_equal(rounded > multiple, logits > np.float32(multiple * step))


@pytest.mark.parametrize(
    ("largest", "step"), [(0.0, 1 / 16), (30.0, 1 / 16), (7.9, 1 / 16), (1.0, 1 / 64), (0.9, 1 / 128)]
)
def test_the_step_is_a_power_of_two_that_reaches_over_the_logits(largest: float, step: float) -> None:
    assert logit_step(np.array([[[0.0, -largest]]], np.float32)) == step


def test_greys_come_back_within_half_a_step() -> None:
    volume = np.random.default_rng(2).uniform(-3, 9, (4, 5, 6)).astype(np.float32)
    greys = to_greys(volume)
    inside = (volume > greys.low) & (volume < greys.low + 255 * greys.step)
    back = greys.low + greys.step * greys.data.astype(np.float64)
    assert np.abs(back - volume)[inside].max() <= 0.51 * greys.step
    assert inside.mean() > 0.95


def test_a_constant_volume_has_one_grey() -> None:
    assert set(to_greys(np.full((2, 3, 3), 5.0, np.float32)).data.ravel()) == {0}
