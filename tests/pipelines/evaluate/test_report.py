from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from cryoseg.config import EvaluateConfig
from cryoseg.config.evaluate import EvaluatePicksConfig, Radius
from cryoseg.errors import OutputError
from cryoseg.pipelines.evaluate.picks import evaluate_pick_files
from cryoseg.pipelines.evaluate.report import EvaluationWriter
from cryoseg.pipelines.evaluate.segmentations import ScoringOptions, evaluate_files
from cryoseg.view.report import HIT, MISSED, WRONG, error_overlay


class _Tags(HTMLParser):
    """Opened and closed tags; links and sources."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for key, value in attrs if key in ("src", "href")]
        if tag not in ("meta", "img", "path", "rect", "polyline"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for key, value in attrs if key in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def write(path: Path, data: np.ndarray) -> Path:
    path.parent.mkdir(exist_ok=True)
    with mrcfile.new(path, data) as mrc:
        mrc.voxel_size = 10
    return path


def test_a_report_is_whole_and_fetches_nothing(tmp_path: Path) -> None:
    truth = np.zeros((3, 16, 20), np.int8)
    truth[:, 5:8] = 1
    for name in ("a<b", "c"):
        write(tmp_path / "t" / f"{name}.mrc", truth)
        logits = np.where(truth == 1, 1.5, -2).astype(np.float32)
        logits[0, 5] = -1.5
        write(tmp_path / "p" / f"{name}_membrane_logits.mrc", logits)
        write(tmp_path / "q" / f"{name}.mrc", logits + 1)
    (tmp_path / "q" / "c.mrc").write_bytes(b"broken")
    config = EvaluateConfig(logit_threshold=0.0)
    out = tmp_path / "report.html"
    writer = EvaluationWriter([out], config=config)
    methods = {"one": tmp_path / "p", "two": tmp_path / "q"}
    evaluation = evaluate_files(
        methods, tmp_path / "t", config, options=ScoringOptions(on_scored=writer.on_scored)
    )
    writer.finish(evaluation)
    text = out.read_text()
    tags = _Tags()
    tags.feed(text)
    assert tags.open == []
    assert all(link.startswith("data:image/png;base64,") for link in tags.links)
    assert len(tags.links) == 6  # best and worst slice of three good pairs
    assert "a&lt;b" in text
    assert "a<b" not in text
    assert len(re.findall("<polyline", text)) == 2
    assert "class=error" in text
    assert "Wilcoxon" in text
    with pytest.raises(OutputError, match="--overwrite"):
        EvaluationWriter([out], config=config)


def test_a_report_of_picks_has_a_curve(tmp_path: Path) -> None:
    truth = tmp_path / "t.csv"
    truth.write_text("x,y,z\n1,1,1\n9,9,9\n")
    pred = tmp_path / "p.csv"
    pred.write_text("x,y,z,score\n1,1,1,0.9\n5,5,5,0.5\n9,9,9,0.2\n")
    writer = EvaluationWriter([tmp_path / "r.html"])
    config = EvaluatePicksConfig(radius=Radius.parse("2px", option="--radius"))
    writer.finish(evaluate_pick_files({"m": pred}, truth, config))
    text = (tmp_path / "r.html").read_text()
    (points,) = re.findall('polyline points="([^"]*)"', text)
    # Recall 0.5 at precision 1, 0.5 at 1/2, 1 at 2/3.
    assert points == "200.0,10.0 200.0,160.0 350.0,110.0"


def test_colors_of_an_overlay() -> None:
    pred = np.array([[1, 1, 0, 0, 1]], bool)
    truth = np.array([[1, 0, 1, 0, 0]], bool)
    known = np.array([[1, 1, 1, 1, 0]], bool)
    rgb = error_overlay(pred, truth, known)[0]
    assert [tuple(color) for color in rgb[:3]] == [HIT, WRONG, MISSED]
    assert len({tuple(color) for color in rgb}) == 5
