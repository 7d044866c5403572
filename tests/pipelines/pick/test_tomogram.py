"""Picking with a stand-in network whose answer is known: brightness at every second pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cryoseg.config.cet_pick import Arch, Specimen, ZPool
from cryoseg.config.pick import FilamentConfig, Side, ThicknessAxis, TomogramPickConfig
from cryoseg.errors import InputError
from cryoseg.events import Warn
from cryoseg.methods.cet_pick.detector import Detector, DetectorSettings
from cryoseg.methods.cet_pick.inference import BlockShape
from cryoseg.pipelines.pick.tomogram import pick_tomogram
from cryoseg.types import Geometry, Tomogram

PLACES = np.array([[8.0, 20.0, 30.0], [14.0, 41.0, 12.0], [10.0, 33.0, 57.0]])
SHAPE = (20, 54, 71)


class Brightness(nn.Module):
    """Logit of a cell: five times the mean of the 3 x 5 x 5 voxels around it, less 5."""

    def forward(self, volume: Tensor) -> tuple[Tensor, Tensor]:
        """As a CET-pick network."""
        logits = 5 * nn.functional.avg_pool3d(
            volume[:, None], (3, 5, 5), stride=(1, 2, 2), padding=(1, 2, 2), count_include_pad=False
        )
        logits = logits - 5
        return logits, logits


def detector(**changes: Any) -> Detector:
    settings: dict[str, Any] = {
        "arch": Arch.UNET_4,
        "specimen": Specimen.GLOBULAR,
        "particle_diameter_angstrom": 80.0,
        "voxel_size": (10.0, 10.0, 10.0),
        "z_compression": 1,
        "z_pool": ZPool.MEAN,
        "score_threshold": 0.5,
        **changes,
    }
    return Detector(
        network=Brightness().eval(), settings=DetectorSettings(**settings), device=torch.device("cpu")
    )


def tomogram(places: np.ndarray = PLACES, shape: tuple[int, int, int] = SHAPE) -> Tomogram:
    """Bright balls on noise."""
    data = np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)
    grid = np.indices(shape).astype(np.float32)
    for place in places:
        distance = sum((g - p) ** 2 for g, p in zip(grid, place, strict=True))
        data += 6 * np.exp(-distance / 2 / 2.0**2).astype(np.float32)
    return Tomogram(data=data, geometry=Geometry(voxel_size=(10.0, 10.0, 10.0)), source=Path("ts_01.mrc"))


def distances(found: np.ndarray, places: np.ndarray) -> np.ndarray:
    return np.linalg.norm(found[:, None] - places[None], axis=-1).min(axis=0)


def test_centers_scores_and_nothing_dropped() -> None:
    result = pick_tomogram(tomogram(), detector())
    assert len(result.picks) == 3
    assert distances(result.picks.centers, PLACES).max() < 0.5
    assert result.picks.scores is not None
    assert (result.picks.scores > 0.5).all()
    assert result.dropped == {}
    assert len(result.candidates) >= 3


def test_calibration_changes_the_scores_only() -> None:
    plain, calibrated = (
        pick_tomogram(tomogram(), detector(**more))
        for more in ({}, {"score_slope": 3.0, "score_intercept": -1.0, "score_threshold": 0.25})
    )
    np.testing.assert_array_equal(calibrated.candidates.centers, plain.candidates.centers)
    np.testing.assert_array_equal(calibrated.heat_map, plain.heat_map)
    assert plain.candidates.scores is not None
    raw = plain.candidates.scores.astype(np.float64)
    expected = 1 / (1 + np.exp(1 - 3 * np.log(raw / (1 - raw))))
    np.testing.assert_allclose(calibrated.candidates.scores, expected, atol=1e-4)


@pytest.mark.parametrize("axis", list(ThicknessAxis))
def test_thickness_axis_gives_picks_and_heat_map_in_the_files_axes(axis: ThicknessAxis) -> None:
    order = {"z": (0, 1, 2), "y": (1, 0, 2), "x": (1, 2, 0)}[axis.value]
    turned = tomogram()
    turned = Tomogram(data=turned.data.transpose(order), geometry=turned.geometry)
    result = pick_tomogram(turned, detector(), TomogramPickConfig(thickness_axis=axis))
    assert distances(result.picks.centers, PLACES[:, order]).max() < 0.5
    cells = np.array([20, 27, 36])[list(order)]
    assert result.heat_map.shape == tuple(cells)
    sizes = np.array([10.0, 20.0, 20.0])[list(order)]
    np.testing.assert_allclose(result.heat_geometry.voxel_size, sizes)
    remembered = pick_tomogram(turned, detector(thickness_axis=axis))
    np.testing.assert_array_equal(remembered.picks.centers, result.picks.centers)


def test_heat_map_lies_over_the_tomogram() -> None:
    result = pick_tomogram(tomogram(PLACES[:1]), detector())
    peak = np.array(np.unravel_index(result.heat_map.argmax(), result.heat_map.shape))
    geometry = result.heat_geometry
    middle = np.asarray(geometry.origin) + (peak + 0.5) * geometry.voxel_size
    np.testing.assert_allclose(middle, (PLACES[0] + 0.5) * 10.0, atol=1.0)


@pytest.mark.parametrize("compression", [1, 2])
@pytest.mark.parametrize("pool", list(ZPool))
@pytest.mark.parametrize("working", [10.0, 16.0])
def test_centers_survive_the_working_grid(compression: int, pool: ZPool, working: float) -> None:
    chosen = detector(voxel_size=(working,) * 3, z_compression=compression, z_pool=pool, score_threshold=0.3)
    result = pick_tomogram(tomogram(shape=(21, 54, 71)), chosen)
    assert distances(result.picks.centers, PLACES).max() < 1.6


def test_other_voxel_sizes_are_brought_to_the_models_own() -> None:
    pairs = tomogram().data[:, :, :70].reshape(10, 2, 27, 2, 35, 2).mean(axis=(1, 3, 5))
    coarse = Tomogram(data=pairs, geometry=Geometry(voxel_size=(20.0,) * 3))
    result = pick_tomogram(coarse, detector(), TomogramPickConfig(max_picks=3))
    assert distances(result.picks.centers, PLACES / 2 - 0.25).max() < 1.0


def test_blocks_change_nothing() -> None:
    whole = detector().score(tomogram().data, (10.0,) * 3)
    small = BlockShape(slices=5, tile=32, halo=32)
    parts = detector().score(tomogram(shape=SHAPE).data, (10.0,) * 3, blocks=small)
    np.testing.assert_allclose(parts.logits, whole.logits, atol=1e-5)


def test_threshold_limits_and_distance() -> None:
    volume, model = tomogram(), detector()
    assert len(pick_tomogram(volume, model, TomogramPickConfig(score_threshold=1.0)).picks) == 0
    best = pick_tomogram(volume, model, TomogramPickConfig(max_picks=1))
    assert len(best.picks) == 1
    assert best.dropped == {"max-picks": 2}
    far = pick_tomogram(volume, model, TomogramPickConfig(min_distance_angstrom=10_000))
    assert len(far.candidates) == 1


def test_borders_and_masks_say_what_they_drop() -> None:
    volume, model = tomogram(), detector()
    border = pick_tomogram(volume, model, TomogramPickConfig(border_angstrom=130.0))
    assert border.dropped == {"border": 1}
    top = pick_tomogram(volume, model, TomogramPickConfig(z_border_angstrom=95.0))
    assert len(top.picks) == 1
    mask = np.zeros(SHAPE, bool)
    mask[8, 20, 30] = True
    near = pick_tomogram(volume, model, TomogramPickConfig(mask_distance_angstrom=50.0), mask=mask)
    assert distances(near.picks.centers, PLACES[:1]).max() < 0.5
    assert near.dropped == {"mask": 2}
    away = TomogramPickConfig(mask_distance_angstrom=50.0, mask_side=Side.OUTSIDE)
    assert len(pick_tomogram(volume, model, away, mask=mask).picks) == 2
    with pytest.raises(InputError, match="mask of this tomogram"):
        pick_tomogram(volume, model, mask=mask[:-1])


def test_filament_model_gives_even_points_on_the_curve() -> None:
    along = np.arange(8.0, 64.0, 5.0)
    line = np.column_stack([np.full(len(along), 9.0), np.full(len(along), 25.0), along])
    model = detector(specimen=Specimen.FILAMENT, score_threshold=0.3)
    config = TomogramPickConfig(filament=FilamentConfig(spacing_angstrom=50.0, min_points=4))
    picks = pick_tomogram(tomogram(line), model, config).picks
    assert picks.tracks is not None
    assert set(picks.tracks) == {0}
    assert np.abs(picks.centers[:, :2] - [9, 25]).max() < 1.0
    gaps = np.diff(np.sort(picks.centers[:, 2]))
    np.testing.assert_allclose(gaps, gaps.mean(), rtol=0.05)
    assert gaps.mean() == pytest.approx(5.0, rel=0.1)


def test_unusable_inputs_are_named() -> None:
    volume, model = tomogram(), detector()
    with pytest.raises(InputError, match="--pixel-size"):
        pick_tomogram(Tomogram(data=volume.data), model)
    with pytest.raises(InputError, match="single image"):
        pick_tomogram(Tomogram(data=volume.data[:1], geometry=volume.geometry), model)
    broken = volume.data.copy()
    broken[3, 4, 5] = np.nan
    with pytest.raises(InputError, match="NaN"):
        pick_tomogram(Tomogram(data=broken, geometry=volume.geometry), model)


def test_constant_volume_gives_no_picks() -> None:
    flat = Tomogram(data=np.ones(SHAPE, np.float32), geometry=Geometry(voxel_size=(10.0,) * 3))
    assert len(pick_tomogram(flat, detector()).picks) == 0


def test_blocks_become_smaller_where_memory_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pick_tomogram(tomogram(shape=SHAPE), detector(), TomogramPickConfig(max_picks=3))
    score, asked = Detector.score, []

    def narrow(self: Detector, *arguments: Any, blocks: BlockShape, **options: Any) -> Any:
        asked.append(blocks)
        if len(asked) < 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return score(self, *arguments, blocks=blocks, **options)

    monkeypatch.setattr(Detector, "score", narrow)
    warned: list[str] = []
    listen = lambda event: warned.append(event.text) if isinstance(event, Warn) else None  # noqa: E731
    parts = pick_tomogram(tomogram(shape=SHAPE), detector(), TomogramPickConfig(max_picks=3), on_event=listen)
    assert [one.tile for one in asked] == [BlockShape.tile, BlockShape.tile // 2, BlockShape.tile // 4]
    assert sum("out of memory" in text for text in warned) == 2
    np.testing.assert_allclose(parts.picks.centers, whole.picks.centers, atol=1e-3)
