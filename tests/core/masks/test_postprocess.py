from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from skimage.morphology import skeletonize

from cryoseg.config import PostprocessStep
from cryoseg.config.segment import PostprocessLengths
from cryoseg.core.masks.postprocess import (
    STEPS,
    postprocess_mask,
    remove_bridges,
    remove_thin_noise,
    why_emptied,
)
from cryoseg.errors import ConfigError, InputError

VECTORS = sorted((Path(__file__).parents[2] / "conformance").glob("etsam_*.npz"))


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_recorded_masks_are_reproduced(path: Path) -> None:
    with np.load(path) as vector:
        meta = json.loads(str(vector["meta"]))
        mask, expected = vector["mask"], vector["post_processed"] > 0
    options = meta["options"]
    min_slices = int(options[options.index("--post-process-min-slices") + 1])
    steps = list(PostprocessStep) if meta["publication_state"] == "head" else [PostprocessStep.THIN_NOISE]
    np.testing.assert_array_equal(postprocess_mask(mask, steps, min_slices=min_slices), expected)


def test_every_step_is_in_the_table() -> None:
    assert set(STEPS) == set(PostprocessStep)


def test_no_step_returns_a_copy() -> None:
    mask = np.ones((2, 3, 4), bool)
    result = postprocess_mask(mask, ())
    assert result.all()
    assert result is not mask


def test_a_component_on_exactly_min_slices_stays() -> None:
    mask = np.zeros((40, 6, 6), bool)
    mask[3:13, 1, 1] = True  # ten slices
    mask[3:12, 4, 4] = True  # nine slices
    result = remove_thin_noise(mask, min_slices=10)
    assert result[:, 1, 1].sum() == 10
    assert result[:, 4, 4].sum() == 0
    assert mask[:, 4, 4].sum() == 9


def test_components_join_over_corners() -> None:
    mask = np.zeros((12, 12, 12), bool)
    mask[np.arange(12), np.arange(12), np.arange(12)[::-1]] = True  # touches by corners only
    mask[4:7, 0:2, 0:2] = True
    result = remove_thin_noise(mask, min_slices=12)
    assert result.sum() == 12
    assert not result[:, :2, :2].any()


def _two_walls(gap: int) -> np.ndarray:
    image = np.zeros((1, 61, 30 + gap), bool)
    image[0, :, 10] = True
    image[0, :, 11 + gap] = True
    image[0, 30, 10 : 12 + gap] = True
    return image


def test_a_short_link_between_parallel_walls_is_cut_and_a_long_one_stays() -> None:
    # A link of `gap` pixels: the ones next to the walls are junctions, the rest is the segment.
    short = remove_bridges(_two_walls(6), max_bridge_length=5)
    assert short[0, 30, 12:16].sum() == 0
    assert short[0, :, 10].all()
    assert short[0, :, 17].all()
    long = remove_bridges(_two_walls(12), max_bridge_length=5)
    np.testing.assert_array_equal(long, _two_walls(12))


def test_spurs_are_cut_only_on_request() -> None:
    wall = np.zeros((1, 41, 30), bool)
    wall[0, :, 10] = True
    wall[0, 20, 10:15] = True
    np.testing.assert_array_equal(remove_bridges(wall, max_bridge_length=5), wall)
    cut = remove_bridges(wall, max_bridge_length=5, max_spur_length=5)
    assert not cut[0, 20, 12:].any()
    assert cut[0, :, 10].all()


def _bridges_plainly(image: np.ndarray, max_bridge_length: int, max_spur_length: int) -> np.ndarray:
    """The published rule, one segment after another, with the distance transform of the whole slice."""
    eight = np.ones((3, 3), int)
    skeleton = skeletonize(image)
    degree = ndimage.convolve(skeleton.astype(int), eight, mode="constant") - 1
    junctions, _ = ndimage.label(skeleton & (degree >= 3), eight)
    segments, count = ndimage.label(skeleton & (junctions == 0), eight)
    bad = []
    for label in range(1, count + 1):
        segment = segments == label
        touched = set(junctions[ndimage.binary_dilation(segment, eight)]) - {0}
        is_spur = len(touched) == 1 and bool((segment & (degree == 1)).any())
        if (len(touched) >= 2 and segment.sum() <= max_bridge_length) or (
            is_spur and segment.sum() <= max_spur_length
        ):
            bad.append(label)
    nearest = ndimage.distance_transform_edt(~skeleton, return_distances=False, return_indices=True)
    return image & ~np.isin(segments[tuple(nearest)], bad)


@pytest.mark.parametrize(("bridge", "spur"), [(5, 0), (0, 4), (9, 3)])
@pytest.mark.parametrize(("smooth", "width"), [(1.5, 0.15), (1.5, 0.8), (4.0, 0.3), (4.0, 1.5)])
def test_windows_give_the_same_as_whole_slices(smooth: float, width: float, bridge: int, spur: int) -> None:
    field = ndimage.gaussian_filter(
        np.random.default_rng(3).standard_normal((2, 90, 110)), (0, smooth, smooth)
    )
    mask = np.abs(field / field.std()) < width
    expected = np.stack([_bridges_plainly(image, bridge, spur) for image in mask])
    np.testing.assert_array_equal(
        remove_bridges(mask, max_bridge_length=bridge, max_spur_length=spur), expected
    )


def test_degenerate_masks() -> None:
    for value in (False, True):
        mask = np.full((3, 8, 8), value)
        result = postprocess_mask(mask, list(PostprocessStep), min_slices=2)
        assert result.shape == mask.shape
        assert result.dtype == np.bool_
        assert bool(result.any()) is value


def test_bad_settings_and_shapes_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        postprocess_mask(np.ones((1, 2, 2)), (), min_slices=0)
    with pytest.raises(ConfigError, match="at least 0"):
        postprocess_mask(np.ones((1, 2, 2)), (), max_bridge_length=-1)
    with pytest.raises(InputError, match="volume"):
        postprocess_mask(np.ones((2, 2)), ())


@pytest.mark.parametrize("depth", [1, 8])
def test_a_component_on_all_slices_of_a_thin_volume_stays(depth: int) -> None:
    mask = np.zeros((depth, 4, 4), bool)
    mask[:, 1, 1] = True
    mask[1:, 3, 3] = True
    result = postprocess_mask(mask, [PostprocessStep.THIN_NOISE])
    assert result[:, 1, 1].all()
    assert not result[:, 3, 3].any()
    # ETSAM's own step, with which conformance is tested, removes everything here.
    assert not remove_thin_noise(mask, min_slices=10).any()


def test_a_mask_that_is_emptied_is_told_with_the_number_of_slices() -> None:
    mask = np.zeros((8, 4, 4), bool)
    mask[1:, 1, 1] = True
    lengths = PostprocessLengths()
    reason = why_emptied(mask, postprocess_mask(mask, [PostprocessStep.THIN_NOISE], lengths), lengths)
    assert reason is not None
    assert "fewer than 8 slices, and the volume has 8" in reason
    assert why_emptied(mask, mask, lengths) is None
    assert why_emptied(np.zeros_like(mask), np.zeros_like(mask), lengths) is None
