from __future__ import annotations

import numpy as np

from cryoseg.methods.membrane_tiny.propagation import (
    CHANNELS,
    LOGIT_OFFSETS,
    SLICE_OFFSETS,
    offset_indices,
    slice_stack,
)


def test_slices_repeat_at_both_ends() -> None:
    assert offset_indices(0, 10, SLICE_OFFSETS).tolist() == [0, 0, 0, 1, 2]
    assert offset_indices(9, 10, SLICE_OFFSETS).tolist() == [7, 8, 9, 9, 9]
    assert offset_indices(0, 1, SLICE_OFFSETS).tolist() == [0, 0, 0, 0, 0]
    assert offset_indices(20, 100, LOGIT_OFFSETS).tolist() == [6, 12, 16, 18, 19, 20, 21, 22, 24, 28, 34]


def test_logits_come_behind_clipped_to_one_and_both_turn_around() -> None:
    planes = np.arange(5, dtype=np.float32)[:, None, None]
    logits = np.array([-50, -5, 0, 2.5, 50, 0, 0, 0, 0, 0, 1], np.float32)[:, None, None]
    stack = slice_stack(planes, logits, reverse=True)
    assert stack.shape == (CHANNELS[2], 1, 1)
    expected = [4, 3, 2, 1, 0, 0.2, 0, 0, 0, 0, 0, 1, 0.5, 0, -1, -1]
    np.testing.assert_allclose(stack[:, 0, 0], expected, rtol=1e-6)
