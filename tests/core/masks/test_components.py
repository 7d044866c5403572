from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cryoseg.core.masks.postprocess import find_components


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), density=st.floats(0.0, 0.5), slab=st.integers(1, 9))
def test_components_equal_labeling_the_whole_volume(seed: int, density: float, slab: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((9, 11, 7)) < density
    other = rng.random(mask.shape) < 0.4
    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    boxes = ndimage.find_objects(labels)
    expected = sorted(
        (
            boxes[i][0].start,
            boxes[i][0].stop - 1,
            (labels == i + 1).sum(),
            other[labels == i + 1].sum(),
        )
        for i in range(count)
    )
    found = find_components(mask, slab_slices=slab)
    assert len(found) == count
    ours = zip(found.bottom, found.top, found.voxels, found.count_in(other), strict=True)
    assert sorted(ours) == expected
    high = np.isin(labels, [i + 1 for i in range(count) if boxes[i][0].stop - boxes[i][0].start >= 3])
    np.testing.assert_array_equal(found.select(found.slices >= 3), high)


def test_labels_follow_the_size_and_the_last_is_shared() -> None:
    mask = np.zeros((3, 9, 9), bool)
    mask[0, 0, 0] = mask[2, 8, 8] = True
    mask[0, 4, 2:5] = mask[1, 4, 4] = True
    mask[:, 8, 0:2] = True
    labels = find_components(mask, slab_slices=1).ranked(3)
    assert labels.dtype == np.int8
    assert (labels > 0).tolist() == mask.tolist()
    assert (labels[:, 8, 0] == 1).all()
    assert labels[1, 4, 4] == labels[0, 4, 2] == 2
    assert labels[0, 0, 0] == labels[2, 8, 8] == 3


def test_the_largest_components_are_kept() -> None:
    mask = np.zeros((10, 10, 10), bool)
    mask[0:5, 1, 1] = True
    mask[0:9, 4, 4] = True
    mask[0:2, 8, 8] = True
    found = find_components(mask, slab_slices=4)
    assert sorted(found.voxels) == [2, 5, 9]
    assert found.largest(1).sum() == 9
    assert found.largest(2).sum() == 14
    assert found.largest(7).sum() == 16
    assert mask.sum() == 16


def test_an_empty_mask_has_no_component() -> None:
    found = find_components(np.zeros((5, 4, 3), bool))
    assert len(found) == 0
    assert not found.largest(1).any()
    assert found.count_in(np.ones((5, 4, 3), bool)).size == 0
