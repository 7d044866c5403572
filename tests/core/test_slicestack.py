from __future__ import annotations

import numpy as np

from cryoseg.core.slicestack import neighbor_indices, slice_stack


def test_neighbors_repeat_at_both_ends() -> None:
    assert neighbor_indices(0, 10).tolist() == [0, 0, 0, 1, 2]
    assert neighbor_indices(9, 10).tolist() == [7, 8, 9, 9, 9]
    assert neighbor_indices(0, 1).tolist() == [0, 0, 0, 0, 0]


def test_logits_come_behind_clipped_to_one_and_both_turn_around() -> None:
    planes = np.arange(5, dtype=np.float32)[:, None, None]
    logits = np.array([-50, -5, 0, 2.5, 50], np.float32)[:, None, None]
    stack = slice_stack(planes, logits, reverse=True)
    assert stack.shape == (10, 1, 1)
    assert stack[:, 0, 0].tolist() == [4, 3, 2, 1, 0, 1, 0.5, 0, -1, -1]
