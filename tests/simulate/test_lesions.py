from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from typer.testing import CliRunner

from cryoseg.cli.simulate import app as simulate
from cryoseg.config.simulate_lesions import SimulateLesionsConfig
from cryoseg.errors import ConfigError, OutputError
from cryoseg.io.images.pictures import Split, read_picture_list, read_picture_mask, read_rgb
from cryoseg.simulate.lesions import LIST, lesion_row, simulate_lesion, simulate_lesion_folder

RUNNER = CliRunner()
SMALL = SimulateLesionsConfig(shape=(96, 128), seed=3)


def test_a_picture_follows_from_seed_and_index_alone() -> None:
    first, again = simulate_lesion(SMALL, 4), simulate_lesion(SMALL, 4)
    np.testing.assert_array_equal(first.rgb, again.rgb)
    np.testing.assert_array_equal(first.mask, again.mask)
    assert first.record == again.record
    assert (simulate_lesion(SMALL, 5).rgb != first.rgb).mean() > 0.5
    assert (simulate_lesion(dataclasses.replace(SMALL, seed=4), 4).rgb != first.rgb).mean() > 0.5
    json.dumps(first.record)


def test_masks_are_one_piece_without_holes_inside_the_field_of_view() -> None:
    rims = hairs = 0
    for index in range(20):
        made = simulate_lesion(SMALL, index)
        assert made.rgb.shape == (96, 128, 3)
        assert made.rgb.dtype == np.uint8
        share = made.mask.mean()
        assert share == pytest.approx(made.record["lesion_share"])
        assert 0.009 < share < 0.7
        np.testing.assert_array_equal(ndimage.binary_fill_holes(made.mask), made.mask)
        hairs += made.record["hairs"] > 0
        if made.record["field_radius_px"] is None:
            continue
        rims += 1
        black = made.rgb.max(axis=2) < 12
        assert black.mean() > 0.02
        assert not (made.mask & ndimage.binary_erosion(black, iterations=3)).any()
    assert 5 < rims < 18
    assert 5 < hairs < 18


def test_lesions_are_darker_than_the_skin_around_them() -> None:
    for index in range(12):
        made = simulate_lesion(SMALL, index)
        grey = made.rgb.mean(axis=2)
        ring = ndimage.binary_dilation(made.mask, iterations=12) & ~ndimage.binary_dilation(
            made.mask, iterations=4
        )
        ring &= grey > 25  # not the black rim
        core = ndimage.binary_erosion(made.mask, iterations=3)
        assert np.median(grey[core]) < 0.95 * np.median(grey[ring]), index


def test_a_folder_is_a_published_list_that_goes_on_where_it_stopped(tmp_path: Path) -> None:
    outcomes = list(simulate_lesion_folder(SMALL, tmp_path, count=6))
    assert all(one.made for one in outcomes)
    rows = read_picture_list(tmp_path / LIST)
    assert [row.split for row in rows] == [*[Split.TRAIN] * 3, Split.VAL, Split.TEST, Split.TRAIN]
    for index, row in enumerate(rows):
        made = simulate_lesion(SMALL, index)
        np.testing.assert_array_equal(read_rgb(row.image), made.rgb)
        np.testing.assert_array_equal(read_picture_mask(row.mask), made.mask)
    lost = lesion_row(tmp_path, 2)
    kept = lost.image.read_bytes()
    lost.image.unlink()
    again = list(simulate_lesion_folder(SMALL, tmp_path, count=7))
    assert [one.made for one in again] == [False, False, True, False, False, False, True]
    assert lost.image.read_bytes() == kept
    assert len(read_picture_list(tmp_path / LIST)) == 7
    other = dataclasses.replace(SMALL, seed=4)
    with pytest.raises(OutputError, match="other settings"):
        list(simulate_lesion_folder(other, tmp_path, count=1))
    assert [one.made for one in simulate_lesion_folder(other, tmp_path, count=1, overwrite=True)] == [True]


def test_the_command_writes_the_list_and_keeps_what_is_there(tmp_path: Path) -> None:
    command = ["lesions", "-o", str(tmp_path), "-n", "2", "--shape", "64x80", "-q"]
    done = RUNNER.invoke(simulate.app, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", LIST, "masks", "records"]
    assert read_rgb(tmp_path / "images" / "lesion_0001.png").shape == (64, 80, 3)
    assert "kept" in RUNNER.invoke(simulate.app, command).output


@pytest.mark.parametrize(
    ("changes", "message"), [({"shape": (10, 400)}, "--shape 10x400"), ({"seed": -1}, "--seed -1")]
)
def test_impossible_settings_name_their_option(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(SMALL, **changes)  # type: ignore[arg-type]
