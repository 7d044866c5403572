from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cryoseg.types import Picks
from cryoseg.view.contact_sheet import TILE_PIXELS, Tile, draw_contact_sheet
from cryoseg.view.previews import (
    LABEL_RGB,
    OUTLINE_RGB,
    ShownPicks,
    draw_overlay,
    draw_picks,
    draw_preview,
    score_color,
)
from cryoseg.view.sections import (
    TILE_KEY,
    Section,
    central_scale,
    central_sections,
    histogram,
    spread_slices,
    write_png,
)

SHAPE = (20, 60, 80)


def has(picture: Image.Image, rgb: tuple[int, int, int], box: tuple[int, ...] | None = None) -> bool:
    pixels = np.asarray(picture.crop(box) if box else picture)  # type: ignore[arg-type]
    return bool((pixels == rgb).all(axis=-1).any())


def boxes(picture: Image.Image) -> list[tuple[int, int, int, int]]:
    """Left, top, right, bottom of the sections along z, y, x."""
    width, height = (int(n) for n in picture.info[TILE_KEY].split())
    deep = round(SHAPE[0] * central_scale(SHAPE))
    return [
        (0, 0, width, height),
        (0, height + 4, width, height + 4 + deep),
        (width + 4, 0, width + 4 + deep, height),
    ]


def test_sections_go_through_the_middle_and_share_their_sides() -> None:
    volume = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    z, y, x = central_sections(SHAPE)
    assert [one.label for one in (z, y, x)] == ["z 10", "y 30", "x 40"]
    np.testing.assert_array_equal(z.of(volume), volume[10])
    np.testing.assert_array_equal(y.of(volume), volume[:, 30])
    np.testing.assert_array_equal(x.of(volume), volume[:, :, 40].T)
    assert central_sections((1, 5, 5)) == [Section(axis=0, index=0)]


def test_six_slices_at_most() -> None:
    assert spread_slices(4) == [0, 1, 2, 3]
    assert spread_slices(101) == [5, 23, 41, 59, 77, 95]


def test_a_preview_outlines_the_mask_in_every_plane() -> None:
    data = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    empty = draw_preview(data, np.zeros(SHAPE, bool))
    assert not has(empty, OUTLINE_RGB)
    mask = np.zeros(SHAPE, bool)
    mask[8:13, 25:36, 35:46] = True
    picture = draw_preview(data, mask)
    assert picture.size == empty.size
    for box in boxes(picture):
        assert has(picture, OUTLINE_RGB, box)
    # A mask beside the middle is not in the sections, and one under it is in that of z alone.
    mask[:] = False
    mask[10, 5:9, 5:9] = True
    picture = draw_preview(data, mask)
    assert [has(picture, OUTLINE_RGB, box) for box in boxes(picture)] == [True, False, False]


def test_a_preview_has_a_scale_bar_and_the_histogram_of_logits() -> None:
    data = np.zeros(SHAPE, np.float32)
    logits = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    mask = np.zeros(SHAPE, bool)
    plain = draw_preview(data, mask)
    assert has(draw_preview(data, mask, pixel_size=10.0), (255, 255, 255), (0, 300, 300, 540))
    assert not has(plain, (255, 255, 255), (0, 300, 300, 540))
    picture = draw_preview(data, mask, logits=logits, logit_threshold=0.5)
    assert picture.width > plain.width
    assert has(picture, OUTLINE_RGB)
    assert has(picture, (200, 0, 0))


def test_a_histogram_is_colored_above_the_threshold() -> None:
    values = np.array([0.0, 0.1, 0.2, 0.9])
    color = (1, 2, 3)
    assert has(histogram(values, title="", threshold=0.5, above_rgb=color), color, (200, 0, 300, 170))
    assert not has(histogram(values, title="", threshold=0.5, above_rgb=color), color, (0, 0, 140, 170))
    assert not has(histogram(values[:3], title="", threshold=0.5, above_rgb=color), color)
    for odd in (np.empty(0), np.full(3, 7.0)):
        assert histogram(odd, title="", threshold=None, above_rgb=color).width == 300


def test_a_single_slice_is_one_panel(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(size=(1, 40, 40)).astype(np.float32)
    write_png(tmp_path / "a.png", draw_preview(data, data > 1))
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (720, 720)
        assert picture.info[TILE_KEY] == "720 720"


def test_picks_are_colored_by_score_in_every_plane() -> None:
    data = np.zeros(SHAPE, np.float32)
    centers = np.array([[10.0, 30.0, 40.0], [10.0, 10.0, 10.0]])
    scores = np.array([1.0, 0.0], np.float32)
    assert (score_color(1.0), score_color(0.0)) == ((60, 220, 90), (255, 120, 0))
    picture = draw_picks(
        data, ShownPicks(centers=centers, diameter_voxels=(6, 6, 6), scores=scores), pixel_size=10.0
    )
    assert [has(picture, score_color(1.0), box) for box in boxes(picture)] == [True, True, True]
    assert [has(picture, score_color(0.0), box) for box in boxes(picture)] == [True, False, False]
    heat = np.zeros((10, 30, 40), np.float32)
    labeled = draw_picks(
        data,
        ShownPicks(centers=centers[:0], diameter_voxels=(6, 6, 6), labels=centers, scores=scores[:0]),
        heat=heat,
    )
    assert has(labeled, LABEL_RGB)
    assert not has(labeled, score_color(1.0))


@pytest.mark.parametrize("pixel_size", [0.0, 3.75])
def test_an_overlay_has_a_scale_bar_where_the_scale_is_known(pixel_size: float) -> None:
    image = np.zeros((200, 200), np.float32)
    picks = Picks(centers=np.array([[50.0, 50.0]]), pixel_size=pixel_size, diameter_px=20.0)
    assert has(draw_overlay(image, picks), (255, 255, 255), (0, 150, 200, 200)) == (pixel_size > 0)


def test_a_contact_sheet_has_a_tile_per_input(tmp_path: Path) -> None:
    data = np.zeros(SHAPE, np.float32)
    picture = draw_picks(
        data,
        ShownPicks(
            centers=np.array([[10.0, 30.0, 40.0]]),
            diameter_voxels=(9, 40, 40),
            scores=np.ones(1, np.float32),
        ),
    )
    write_png(tmp_path / "a_preview.png", picture)
    Image.new("RGB", (100, 50), (9, 9, 200)).save(tmp_path / "foreign.png")
    tiles = [
        Tile(name="a", note="12 picks", preview=tmp_path / "a_preview.png"),
        Tile(name="a_very_long_name_" * 9, preview=tmp_path / "foreign.png"),
        Tile(name="b", note="is damaged", is_failed=True),
    ]
    sheet = draw_contact_sheet(tiles)
    step = TILE_PIXELS + 8
    assert sheet.width == 8 + 2 * step
    assert has(sheet, (9, 9, 200), (8 + step, 8, 8 + step + TILE_PIXELS, 8 + TILE_PIXELS))
    # The main panel alone: the white of the sheet about the sections of the preview is cut off.
    tile = np.asarray(sheet.crop((8, 8, 8 + TILE_PIXELS, 8 + TILE_PIXELS)))
    assert (tile[TILE_PIXELS // 2] != 255).any(axis=-1).all()
    red, green, _ = (np.asarray(sheet, int)[..., k] for k in range(3))
    assert ((red - green) > 100).any()
