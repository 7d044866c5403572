"""The scale of a micrograph is found with a network that knows one size of particle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from cryoseg.config.pick_micrograph import (
    AUTO_DIAMETER,
    MicrographPickConfig,
    PickView,
    read_diameter,
    write_diameter,
)
from cryoseg.core.picking.micrograph_picks import draw_discs
from cryoseg.errors import ConfigError, InputError
from cryoseg.events import Event, Warn
from cryoseg.methods.particles.files import ParticleRecipe
from cryoseg.pipelines.pick.micrograph import pick_micrograph
from cryoseg.pipelines.pick.micrograph_scale import auto_diameters, judge_scale
from cryoseg.types import FloatArray, Micrograph

TRUE_PX = 30.0  # diameter of the discs in the image


class OneSize:
    """A network that marks dark discs, and is the more certain the nearer their width is to 24 pixels."""

    def __init__(self, *, any_scale: bool = True, score_threshold: float = 0.5) -> None:
        self.recipe = ParticleRecipe(
            image_size=128, overlap=32, any_scale=any_scale, score_threshold=score_threshold
        )

    def tile_logits(self, tiles: FloatArray, on_done: Callable[[int], None]) -> FloatArray:
        """Logits (n, S, S) of tiles (n, S, S)."""
        logits = np.full(tiles.shape, -6.0, np.float32)
        for tile, out in zip(tiles, logits, strict=True):
            discs, count = ndimage.label(ndimage.gaussian_filter(tile, 1.0) < -2.0)
            areas = np.bincount(discs.ravel(), minlength=count + 1)
            for number in range(1, count + 1):
                if areas[number] < 30:
                    continue
                width = 2 * np.sqrt(areas[number] / np.pi)
                out[discs == number] = 6.0 - 12.0 * abs(np.log(width / 24.0))
        on_done(len(tiles))
        return logits

    def whole_image_logits(self, rgb: object) -> FloatArray:
        """Not used here."""
        raise NotImplementedError


@pytest.fixture(scope="module")
def discs() -> Micrograph:
    """Discs on a jittered grid, dark on noise."""
    rng = np.random.default_rng(4)
    grid = np.stack(np.meshgrid(np.arange(30, 600, 66), np.arange(30, 600, 66)), axis=-1).reshape(-1, 2)
    centers = grid + rng.uniform(-8, 8, grid.shape)
    image = rng.normal(scale=0.2, size=(600, 600))
    image -= 4.0 * (draw_discs(centers, image.shape, diameter_px=TRUE_PX) > 0)
    return Micrograph(data=image.astype(np.float32), source=Path("discs.mrc"))


def pick(micrograph: Micrograph, model: OneSize, **settings: object) -> tuple[object, list[Event]]:
    events: list[Event] = []
    config = MicrographPickConfig(**settings)
    return pick_micrograph(micrograph, model, config, on_event=events.append), events


@pytest.mark.parametrize("given", [20.0, 30.0, 45.0])
def test_a_wrong_diameter_is_replaced_and_warned_of(discs: Micrograph, given: float) -> None:
    result, events = pick(discs, OneSize(), particle_diameter_px=given)
    assert result.scale.measured_px == pytest.approx(TRUE_PX, rel=0.1)
    assert result.logits.shape == pytest.approx(np.array([600, 600]) * 24 / result.scale.measured_px, abs=1)
    assert result.diameter_px == given  # The discs of the mask keep the width that the user wants.
    assert len(result.picks) == 81
    warnings = [event.text for event in events if isinstance(event, Warn)]
    assert any("looks about 3" in text for text in warnings) == (given != 30.0)


def test_the_diameter_is_estimated_without_one(discs: Micrograph) -> None:
    result, events = pick(discs, OneSize(any_scale=False), particle_diameter_angstrom=AUTO_DIAMETER)
    assert result.diameter_px == pytest.approx(TRUE_PX, rel=0.1)
    assert len(result.picks) == 81
    assert any(
        f"looks about {result.diameter_px:.0f} px wide" in getattr(event, "text", "") for event in events
    )


@pytest.mark.parametrize(("settings", "any_scale"), [({"find_scale": False}, True), ({}, False)])
def test_the_given_scale_is_kept_on_request_and_by_models_of_one_scale(
    discs: Micrograph, settings: dict[str, bool], any_scale: bool
) -> None:
    result, _ = pick(discs, OneSize(any_scale=any_scale), particle_diameter_px=45.0, **settings)
    assert result.scale is None
    assert result.logits.shape == (320, 320)  # 600 pixels times 24 / 45


@pytest.mark.parametrize(("any_scale", "side"), [(True, 320), (False, 327)])
def test_a_model_of_any_scale_sees_a_smaller_view_if_this_saves_tiles(
    discs: Micrograph, any_scale: bool, side: int
) -> None:
    model = OneSize(any_scale=any_scale)
    result, _ = pick(discs, model, particle_diameter_px=44.0, find_scale=False, score_threshold=0.0)
    assert result.logits.shape == (side, side)  # 600 * 24 / 44 = 327; three tiles cover 128 + 2 * 96 = 320.
    assert len(result.picks) == 81
    np.testing.assert_allclose(result.picks.centers.mean(axis=0), 294, atol=3)


def test_few_certain_picks_are_no_reason_for_a_scale() -> None:
    recipe = ParticleRecipe(image_size=128)
    few, many = np.full((2, 1, 128, 128), -6.0, np.float32)
    few[0, 60:70, 60:70] = 8.0
    many[0, 20:110:30, 20:110:30] = 4.0
    for tile in (few, many):
        tile[0] = ndimage.grey_dilation(tile[0], size=(9, 9))
    assert judge_scale(many, recipe, 24.0).expected_f1 > judge_scale(few, recipe, 24.0).expected_f1
    assert judge_scale(np.full((1, 128, 128), -6.0, np.float32), recipe, 50.0).measured_px == 50.0


def test_diameters_of_the_first_pass_cover_the_usual_range() -> None:
    diameters = auto_diameters((4096, 5000))
    assert diameters[0] == pytest.approx(40.96)
    assert diameters[-1] == pytest.approx(512)
    assert np.all(np.diff(np.log(diameters)) <= np.log(1.6) + 1e-9)
    assert auto_diameters((200, 200))[0] == 5.0


def test_auto_needs_calibrated_scores_and_tiles(discs: Micrograph) -> None:
    with pytest.raises(InputError, match="calibrated scores"):
        pick(discs, OneSize(score_threshold=0.0), particle_diameter_angstrom=AUTO_DIAMETER)
    refused = (({"view": PickView.WHOLE}, "needs tiles"), ({"flatten_diameters": 2.0}, "flatten"))
    for settings, message in refused:
        with pytest.raises(ConfigError, match=message):
            MicrographPickConfig(particle_diameter_angstrom=AUTO_DIAMETER, **settings)


def test_the_diameter_is_a_number_or_auto() -> None:
    assert read_diameter("180", option="--d") == 180
    assert read_diameter("auto", option="--d") == AUTO_DIAMETER
    assert (write_diameter(180.0), write_diameter(AUTO_DIAMETER)) == ("180", "auto")
    for text in ("0", "wide"):
        with pytest.raises(ConfigError, match=r"--d .*positive number of angstrom, or auto"):
            read_diameter(text, option="--d")
