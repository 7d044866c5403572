"""The threshold falls between two populations, however unequal."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from cryoseg.core.picking.calibration import (
    UNCALIBRATED,
    analyze_peaks,
    count_for_false_picks,
    count_for_precision,
    expected_calibration_error,
    fit_calibration,
)


def test_the_slope_and_intercept_that_made_the_data_are_found() -> None:
    rng = np.random.default_rng(0)
    raw = rng.normal(3, 2, 20_000)
    hits = rng.random(raw.size) < expit(0.7 * raw - 1.5)
    found = fit_calibration(raw, hits)
    assert found.slope == pytest.approx(0.7, abs=0.05)
    assert found.intercept == pytest.approx(-1.5, abs=0.15)
    assert expected_calibration_error(found(raw), hits) < 0.02


def test_the_error_is_what_a_hand_computes() -> None:
    scores = np.array([0.95, 0.95, 0.95, 0.95, 0.15, 0.15])
    hits = np.array([True, True, True, False, False, False])
    # Bin 0.9 to 1: |0.95 - 0.75| with 4 of 6; bin 0.1 to 0.2: |0.15 - 0| with 2 of 6.
    assert expected_calibration_error(scores, hits) == pytest.approx(0.2 * 4 / 6 + 0.15 * 2 / 6)
    assert np.isnan(expected_calibration_error(np.empty(0), np.empty(0, bool)))


@pytest.mark.parametrize("hits", [np.ones(50, bool), np.zeros(50, bool)])
def test_one_sided_data_stay_finite(hits: np.ndarray) -> None:
    raw = np.linspace(-1, 1, 50)
    found = fit_calibration(raw, hits)
    assert found.slope >= 0
    assert np.isfinite(found.intercept)
    assert abs(float(found(raw).mean()) - hits.mean()) < 0.1


def test_few_examples_give_the_base_rate() -> None:
    found = fit_calibration(np.array([2.0, 2.0]), np.array([True, True]))
    assert found(np.array([2.0]))[0] == pytest.approx(0.75)


@pytest.mark.parametrize(("particles", "background"), [(80, 400), (300, 60), (15, 900)])
@pytest.mark.parametrize("labels", [4, 20])
def test_separate_populations_are_separated(particles: int, background: int, labels: int) -> None:
    rng = np.random.default_rng(particles + labels)
    good, bad = rng.normal(3, 0.5, particles), rng.normal(-2.5, 0.8, background)
    threshold = analyze_peaks(np.concatenate([good, bad]), rng.normal(3, 0.5, labels))[0]
    hit, false = (good > threshold).sum(), (bad > threshold).sum()
    assert 2 * hit / (hit + false + particles) > 0.96


def test_overlapping_populations_get_nearly_the_best_f1() -> None:
    rng = np.random.default_rng(1)
    good, bad = rng.normal(1.5, 0.7, 200), rng.normal(-1, 0.8, 400)
    threshold = analyze_peaks(np.concatenate([good, bad]), rng.normal(1.5, 0.7, 10))[0]

    def f1(at: float) -> float:
        hit = (good > at).sum()
        return float(2 * hit / (hit + (bad > at).sum() + 200))

    assert f1(threshold) > max(f1(at) for at in np.linspace(-2, 3, 100)) - 0.03


def test_nothing_to_learn_from_is_neutral() -> None:
    assert analyze_peaks(np.array([1.0, 2, 3]), np.array([]))[0] == 0.0
    assert analyze_peaks(np.array([]), np.array([1.0]))[0] == 0.0
    assert analyze_peaks(np.array([1.0, 2, 3]), np.array([]))[1] == UNCALIBRATED


@pytest.mark.parametrize("labels", [6, 25])
def test_logits_that_saturate_low_are_calibrated_from_a_few_labels(labels: int) -> None:
    # The sigmoid of these logits is 0.27 to 0.62, as if the training took unlabeled particles for none.
    rng = np.random.default_rng(labels)
    good, bad = rng.normal(-0.25, 0.35, 200), rng.normal(-2.2, 0.7, 1000)
    known, unknown = good[:labels], np.concatenate([good[labels:], bad])
    threshold, calibration = analyze_peaks(unknown, known)
    scores = calibration(np.concatenate([good, bad]))
    is_particle = np.arange(len(scores)) < len(good)
    assert expected_calibration_error(scores, is_particle) < 0.05
    assert np.median(scores[:200]) > 0.9
    assert 0.05 < calibration(np.array([threshold]))[0] < 0.95


def test_held_out_labels_stand_for_all_labels() -> None:
    rng = np.random.default_rng(3)
    good, bad = rng.normal(0.3, 0.8, 60), rng.normal(-1.2, 0.8, 300)
    few, all_ = (analyze_peaks(np.concatenate([good[50:], bad]), good[:10], labels=n)[1] for n in (10, 50))
    # With 50 labeled particles beside 10 unlabeled ones, more peaks are particles than with 10.
    assert all_(np.array([-0.4]))[0] > few(np.array([-0.4]))[0]


def test_the_best_picks_have_the_requested_precision_or_number_of_false_ones() -> None:
    scores = np.array([1.0, 0.9, 0.8, 0.5, 0.1], np.float32)
    # Means of the best 1 to 5 scores: 1, 0.95, 0.9, 0.8, 0.66; false picks among them: 0, 0.1, 0.3, 0.8, 1.7.
    assert [count_for_precision(scores, p) for p in (1.0, 0.94, 0.85, 0.79, 0.5)] == [1, 2, 3, 4, 5]
    assert [count_for_false_picks(scores, n) for n in (0.0, 0.2, 0.5, 1.0, 2.0)] == [1, 2, 3, 4, 5]
    assert count_for_precision(np.array([0.3]), 0.5) == count_for_false_picks(np.array([0.3]), 0.5) == 0
    assert count_for_precision(np.empty(0), 0.5) == count_for_false_picks(np.empty(0), 1.0) == 0
