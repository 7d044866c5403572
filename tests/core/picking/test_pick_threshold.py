"""The threshold falls between two populations, however unequal."""

from __future__ import annotations

import numpy as np
import pytest

from cryoseg.core.picking.pick_threshold import expected_f1_threshold


@pytest.mark.parametrize(("particles", "background"), [(80, 400), (300, 60), (15, 900)])
@pytest.mark.parametrize("labels", [4, 20])
def test_separate_populations_are_separated(particles: int, background: int, labels: int) -> None:
    rng = np.random.default_rng(particles + labels)
    good, bad = rng.normal(3, 0.5, particles), rng.normal(-2.5, 0.8, background)
    threshold = expected_f1_threshold(np.concatenate([good, bad]), rng.normal(3, 0.5, labels))
    hit, false = (good > threshold).sum(), (bad > threshold).sum()
    assert 2 * hit / (hit + false + particles) > 0.96


def test_overlapping_populations_get_nearly_the_best_f1() -> None:
    rng = np.random.default_rng(1)
    good, bad = rng.normal(1.5, 0.7, 200), rng.normal(-1, 0.8, 400)
    threshold = expected_f1_threshold(np.concatenate([good, bad]), rng.normal(1.5, 0.7, 10))

    def f1(at: float) -> float:
        hit = (good > at).sum()
        return float(2 * hit / (hit + (bad > at).sum() + 200))

    assert f1(threshold) > max(f1(at) for at in np.linspace(-2, 3, 100)) - 0.03


def test_nothing_to_learn_from_is_neutral() -> None:
    assert expected_f1_threshold(np.array([1.0, 2, 3]), np.array([])) == 0.0
    assert expected_f1_threshold(np.array([]), np.array([1.0])) == 0.0
