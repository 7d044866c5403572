from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from cryoseg.cli.app import app
from cryoseg.config.pictures import PUBLISHED_SMOOTHING, Smoothing
from cryoseg.errors import ConfigError, InputError
from cryoseg.pipelines.evaluate.images import evaluate_images, find_picture_pairs, write_picture_scores

RUNNER = CliRunner()


def save(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)


def block(side: int, end: int) -> np.ndarray:
    mask = np.zeros((side, side), bool)
    mask[:end, : side // 2] = True
    return mask


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two data sets: prediction and truth agree in `a`, share half in `b`."""
    pred, truth = tmp_path / "pred", tmp_path / "truth"
    save(truth / "clinic" / "a.png", block(64, 32))
    save(pred / "clinic" / "a_mask.png", block(64, 32))
    save(truth / "kvasir" / "a.png", block(64, 64))
    save(pred / "kvasir" / "a_mask.png", block(64, 32))
    save(pred / "kvasir" / "a_overlay.png", block(64, 1))
    return pred, truth


def test_means_are_per_data_set_and_over_all(folders: tuple[Path, Path], tmp_path: Path) -> None:
    outputs = [tmp_path / "scores.csv", tmp_path / "scores.json"]
    found = evaluate_images(*folders, smoothing=Smoothing(), side=0)
    write_picture_scores(outputs, found)
    assert found.means["clinic"]["dice"] == 1
    assert found.means["kvasir"]["dice"] == pytest.approx(2 / 3)
    assert found.means["kvasir"]["iou"] == pytest.approx(1 / 2)
    assert found.means["all"]["dice"] == pytest.approx(5 / 6)
    with outputs[0].open() as stream:
        assert [row["dataset"] for row in csv.DictReader(stream)] == ["clinic", "kvasir"]
    assert json.loads(outputs[1].read_text())["means"]["kvasir"]["mae"] == pytest.approx(0.25)


def test_as_published_in_256_pixels_after_opening(tmp_path: Path) -> None:
    truth = block(128, 64)
    spots = truth.copy()
    spots[100, 100] = True  # two pixels wide in the scored square, and gone after opening
    save(tmp_path / "p.png", spots)
    save(tmp_path / "t.png", truth)
    pair = (tmp_path / "p.png", tmp_path / "t.png")
    plain = evaluate_images(*pair, smoothing=Smoothing(), side=256)
    opened = evaluate_images(*pair, smoothing=PUBLISHED_SMOOTHING, side=256)
    assert plain.means["all"]["mae"] == pytest.approx(4 / 256**2)
    assert opened.means["all"]["dice"] == 1


def test_the_command_tells_what_is_missing_and_scores_the_rest(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    pred, truth = folders
    save(truth / "kvasir" / "b.png", block(64, 8))
    save(truth / "kvasir" / "c.png", block(64, 8))
    save(pred / "kvasir" / "c.png", block(32, 8))
    done = RUNNER.invoke(app, ["evaluate", "images", str(pred), str(truth)], catch_exceptions=False)
    assert done.exit_code == 1
    assert "no prediction of this name" in done.output
    assert "is 32 x 32 px, its truth 64 x 64" in done.output.replace("\n", " ")
    assert "clinic/a" in done.output
    with pytest.raises(ConfigError, match="--output"):
        RUNNER.invoke(
            app, ["evaluate", "images", str(pred), str(truth), "-o", "scores.xls"], catch_exceptions=False
        )
    with pytest.raises(ConfigError, match="--side -1"):
        evaluate_images(pred, truth, smoothing=Smoothing(), side=-1)


def test_what_cannot_be_paired_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    pred, truth = folders
    with pytest.raises(InputError, match="no such folder"):
        find_picture_pairs(tmp_path / "absent", truth)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match="holds no masks"):
        find_picture_pairs(tmp_path / "nothing", truth)
    save(pred / "clinic" / "a_pred.png", block(64, 8))
    with pytest.raises(InputError, match="same name"):
        find_picture_pairs(pred, truth)
