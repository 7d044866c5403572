"""Picking with a network whose answer is known: what becomes of its logits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from cryoseg.config.pick_micrograph import MicrographPickConfig
from cryoseg.core.grids.blank import BLANK_LOGIT
from cryoseg.core.picking.micrograph_picks import draw_discs
from cryoseg.errors import ConfigError
from cryoseg.methods.particles.files import ParticleRecipe
from cryoseg.pipelines.pick.micrograph import pick_micrograph
from cryoseg.types import FloatArray, Micrograph

DIAMETER_PX = 24.0  # of the network's particles as well, so that nothing is scaled
NOISE = 3.5  # grey values of the noise stay below, in its deviations
CENTERS = np.array([[40.0, 50.0], [90.0, 100.0]])


class Darkness:
    """Says that whatever is dark is a particle."""

    def __init__(self, core: float) -> None:
        self.recipe = ParticleRecipe(image_size=128, core=core)

    def tile_logits(self, tiles: FloatArray, on_done: Callable[[int], None]) -> FloatArray:
        """(n, S, S) grey values, dark is low, to (n, S, S) logits."""
        return np.asarray(-tiles - NOISE, np.float32)

    def whole_image_logits(self, rgb: NDArray[np.uint8]) -> FloatArray:
        """Not used here."""
        raise NotImplementedError


def spots(core: float) -> Micrograph:
    """Two dark discs of `core` diameters, the second one fainter, on noise."""
    rng = np.random.default_rng(0)
    image = rng.normal(scale=0.1, size=(160, 160))
    for center, depth in zip(CENTERS, (8.0, 3.0), strict=True):
        image -= depth * (draw_discs(center[None], image.shape, diameter_px=core * DIAMETER_PX) > 0)
    return Micrograph(data=image.astype(np.float32))


def config(score_threshold: float) -> MicrographPickConfig:
    return MicrographPickConfig(
        particle_diameter_px=DIAMETER_PX,
        score_threshold=score_threshold,
        clip_outliers=False,
        flatten_diameters=None,
    )


def test_the_mask_of_a_network_that_draws_cores_is_the_discs_of_the_picks() -> None:
    result = pick_micrograph(spots(0.6), Darkness(0.6), config(0.0))
    assert len(result.picks.centers) >= 2
    np.testing.assert_allclose(np.sort(result.picks.centers[:2], axis=0), CENTERS, atol=0.7)
    discs = draw_discs(result.picks.centers, (160, 160), diameter_px=DIAMETER_PX) > 0
    np.testing.assert_array_equal(result.mask(), discs)
    weakest = float(result.picks.scores[0]) - 1e-6  # leaves the best pick only
    best = pick_micrograph(spots(0.6), Darkness(0.6), config(weakest))
    assert best.mask().sum() == pytest.approx(np.pi / 4 * DIAMETER_PX**2, rel=0.03)


def test_picks_are_kept_by_threshold_precision_or_false_picks() -> None:
    scores = pick_micrograph(spots(0.6), Darkness(0.6), config(0.0)).picks.scores
    assert scores is not None
    assert len(scores) == 2
    for rule, count in (
        ({"precision": float(scores.mean()) - 1e-6}, 2),
        ({"precision": float(scores.mean()) + 1e-6}, 1),
        ({"false_picks": float((1 - scores).sum()) - 1e-6}, 1),
        ({"precision": 1.0}, 0),
    ):
        chosen = MicrographPickConfig(particle_diameter_px=DIAMETER_PX, **rule)
        result = pick_micrograph(spots(0.6), Darkness(0.6), chosen)
        assert len(result.picks) == count
        assert result.score_threshold == (scores[count - 1] if count else None)
        removed = {next(iter(rule)).replace("_", "-"): 2 - count}
        assert result.dropped == (removed if count < 2 else {})


@pytest.mark.parametrize("own", [0.0, 0.578])
def test_the_models_own_threshold_is_the_default(own: float) -> None:
    model = Darkness(0.6)
    model.recipe = dataclasses.replace(model.recipe, score_threshold=own)
    result = pick_micrograph(spots(0.6), model, MicrographPickConfig(particle_diameter_px=DIAMETER_PX))
    assert result.score_threshold == (own or 0.4)
    assert result.picks.scores is not None
    assert result.picks.scores.min() >= result.score_threshold


def test_one_rule_selects_the_picks() -> None:
    with pytest.raises(ConfigError, match="--score-threshold or --precision"):
        MicrographPickConfig(particle_diameter_px=20, score_threshold=0.5, precision=0.8)


def test_the_mask_of_any_other_network_is_what_it_drew() -> None:
    result = pick_micrograph(spots(1.0), Darkness(1.0), config(0.999999))
    np.testing.assert_array_equal(result.mask(), result.native_logits() > result.logit_threshold)
    true = draw_discs(CENTERS, (160, 160), diameter_px=DIAMETER_PX) > 0
    assert 2 * (result.mask() & true).sum() / (result.mask().sum() + true.sum()) > 0.8


def _padded(shape: str, fill: float) -> tuple[Micrograph, NDArray[np.bool_], NDArray[np.float64]]:
    """The micrograph of `spots` with blank parts, where they are, and the particles' centers."""
    image = spots(0.6).data
    if shape == "side":
        whole = np.full((200, 400), fill, np.float32)
        whole[30:190, 20:180] = image
        blank = np.ones(whole.shape, bool)
        blank[30:190, 20:180] = False
        return Micrograph(data=whole), blank, np.add(CENTERS, (30, 20))
    y, x = np.ogrid[:160, :160]
    blank = (y - 80) ** 2 + (x - 80) ** 2 > 75**2
    return Micrograph(data=np.where(blank, np.float32(fill), image)), blank, CENTERS


@pytest.mark.parametrize("shape", ["side", "circle"])
@pytest.mark.parametrize("fill", [0.0, -50.0, 3.0])
@pytest.mark.parametrize("core", [0.6, 1.0])
def test_blank_parts_hold_no_picks_and_change_none(shape: str, fill: float, core: float) -> None:
    micrograph, blank, centers = _padded(shape, fill)
    result = pick_micrograph(micrograph, Darkness(core), config(0.5))
    np.testing.assert_allclose(
        result.picks.centers[np.argsort(result.picks.centers[:, 0])], centers, atol=0.7
    )
    assert result.picks.shape == micrograph.data.shape
    assert result.native_logits().shape == micrograph.data.shape
    assert (result.native_logits()[blank] == BLANK_LOGIT).all()
    assert result.mask().any()
    assert not result.mask()[blank].any()
    if shape == "side":
        bare = pick_micrograph(spots(0.6), Darkness(core), config(0.5))
        np.testing.assert_array_equal(result.native_logits()[~blank], bare.native_logits().reshape(-1))
        np.testing.assert_array_equal(result.picks.scores, bare.picks.scores)


def test_tiles_without_signal_are_not_computed() -> None:
    rng = np.random.default_rng(0)
    image = np.zeros((150, 600), np.float32)
    image[:, :100] = rng.normal(size=(150, 100))
    image[:, 500:] = rng.normal(size=(150, 100))
    seen: list[int] = []

    class Counting(Darkness):
        def tile_logits(self, tiles: FloatArray, on_done: Callable[[int], None]) -> FloatArray:
            seen.append(len(tiles))
            return super().tile_logits(tiles, on_done)

    pick_micrograph(Micrograph(data=image), Counting(1.0), config(0.5))
    pick_micrograph(
        Micrograph(data=rng.normal(size=(150, 600)).astype(np.float32)), Counting(1.0), config(0.5)
    )
    assert seen[0] < seen[1]
