"""Finding the weights and settings of runs: what is no run is refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from cryoseg.errors import WeightsError
from cryoseg.methods.membrane_tiny.runs import load_start, require_run, run_settings


def test_a_start_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="not found"):
        load_start(tmp_path / "nothing.pt", 1)


@pytest.mark.parametrize("content", [[1, 2], {"step": 3}, {"model": {"other": torch.zeros(1)}}])
def test_a_start_of_another_kind_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match="neither a packaged membrane model"):
        load_start(tmp_path / "other.pt", 1)


def test_the_bundled_model_is_a_start_for_both_stages() -> None:
    first, second = (load_start(Path("membrane-tiny"), stage) for stage in (1, 2))
    assert set(first) == set(second)
    assert {value.dtype for value in first.values()} == {torch.float32}


def test_runs_of_another_stage_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="missing"):
        require_run(tmp_path)
    torch.save({}, tmp_path / "best.pt")
    (tmp_path / "config.json").write_text(json.dumps({"config": {"stage": 2, "clip": {}}}), encoding="utf-8")
    config, _ = run_settings(tmp_path, 2)
    assert config.stage == 2
    with pytest.raises(WeightsError, match="not a run of stage 1"):
        run_settings(tmp_path, 1)
