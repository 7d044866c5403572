"""Curves through points on known curves."""

from __future__ import annotations

import numpy as np

from cryoseg.config.pick import FilamentConfig
from cryoseg.core.picking.filaments import fit_filament, group_points, trace_filaments


def arc(radius: float, count: int) -> np.ndarray:
    angle = np.linspace(0, 0.8, count)
    return np.column_stack([np.full(count, 50.0), radius * np.sin(angle), radius * np.cos(angle)])


def test_chains_of_neighbors_are_groups() -> None:
    points = np.array([[0.0, 0, 0], [0, 0, 2], [0, 0, 4], [0, 0, 9]])
    groups = group_points(points, link_distance=3)
    assert groups[0] == groups[1] == groups[2] != groups[3]


def test_straight_line_is_resampled_evenly() -> None:
    points = np.column_stack([np.zeros(11), np.zeros(11), np.arange(0, 110, 10.0)])
    filament = fit_filament(points, spacing=20)
    assert len(filament.members) == len(points)
    assert filament.residual < 1e-6
    assert filament.curvature < 1e-6
    np.testing.assert_allclose(np.sort(filament.points[:, 2]), np.linspace(0, 100, 6), atol=1e-6)


def test_arc_gives_its_curvature_and_spacing() -> None:
    filament = fit_filament(arc(1000.0, 60), spacing=40)
    assert filament.residual < 2
    assert 0.5 / 1000 < filament.curvature < 2 / 1000
    gaps = np.linalg.norm(np.diff(filament.points, axis=0), axis=1)
    np.testing.assert_allclose(gaps, gaps.mean(), rtol=0.02)


def test_an_outlier_leaves_the_fit() -> None:
    points = np.concatenate([arc(1000.0, 60), [[50.0, 400, 990]]])
    filament = fit_filament(points, spacing=40)
    assert len(points) - 1 not in filament.members
    assert filament.residual < 5


def test_noise_and_short_groups_are_left_out() -> None:
    rng = np.random.default_rng(0)
    cloud = rng.uniform(0, 60, (40, 3)) + 5000
    pair = np.array([[0.0, 0, 0], [0, 0, 10]]) - 5000
    points = np.concatenate([arc(1000.0, 60), cloud, pair])
    found = trace_filaments(points, width=25, config=FilamentConfig())
    assert len(found) == 1
    assert set(found[0].members) <= set(range(60))


def test_strong_points_are_followed_through_a_cloud_of_weak_ones() -> None:
    rng = np.random.default_rng(3)
    curve = arc(2000.0, 24) + rng.normal(0, 15, (24, 3))
    cloud = curve[rng.integers(24, size=60)] + rng.uniform(-500, 500, (60, 3))
    points = np.concatenate([cloud, curve])
    scores = np.concatenate([rng.uniform(0.15, 0.45, 60), rng.uniform(0.7, 0.95, 24)])
    found = trace_filaments(points, width=250, config=FilamentConfig(), scores=scores)
    assert len(found) == 1
    angle = np.linspace(0, 0.8, 2000)
    true = np.column_stack([np.full(2000, 50.0), 2000 * np.sin(angle), 2000 * np.cos(angle)])
    off = np.array([np.linalg.norm(true - point, axis=1).min() for point in found[0].points])
    assert (off < 42).mean() > 0.9
    missed = np.array([np.linalg.norm(found[0].points - point, axis=1).min() for point in true])
    assert (missed < 42).mean() > 0.9


def test_two_filaments_side_by_side_are_both_found() -> None:
    along = np.arange(0, 2500, 60.0)
    first = np.column_stack([np.zeros_like(along), np.zeros_like(along), along])
    points = np.concatenate([first, first + np.array([0, 300, 0])])
    scores = np.concatenate([np.linspace(0.9, 0.8, len(along)), np.linspace(0.7, 0.6, len(along))])
    found = trace_filaments(points, width=250, config=FilamentConfig(), scores=scores)
    assert len(found) == 2
    assert {round(float(f.points[:, 1].mean())) for f in found} == {0, 300}
