"""An evaluation that goes on where it was stopped."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
from typer.testing import CliRunner

from cryoseg.cli.app import app
from cryoseg.config import EvaluateConfig, Metric
from cryoseg.config.batch import ALL, ClusterConfig, Shard
from cryoseg.events import OnEvent, Report, Status
from cryoseg.io.images.volumes import write_mask
from cryoseg.io.records import read_score, score_to_json
from cryoseg.pipelines.batches import slurm
from cryoseg.pipelines.batches.run import Batch
from cryoseg.pipelines.evaluate.segmentations import Evaluation, ScoringOptions, evaluate_files
from cryoseg.types import Geometry

BATCH = Batch(shard=ALL)
CONFIG = EvaluateConfig(metrics=tuple(Metric), logit_threshold=0.0, bootstrap_samples=100, allow_empty=True)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Three pairs of logits and labels; the last truth is empty, whose distances are infinite."""
    rng = np.random.default_rng(0)
    for number in range(3):
        truth = np.zeros((6, 24, 24), np.int8)
        if number < 2:
            truth[1:5, 8 + number : 11 + number, 4:20] = 1
        for kind, data in (("pred", (truth * 3 - 1.5 + rng.normal(0, 1, truth.shape))), ("truth", truth)):
            (tmp_path / kind).mkdir(exist_ok=True)
            data = data.astype(np.float32 if kind == "pred" else np.int8)
            with mrcfile.new(tmp_path / kind / f"ts_{number}.mrc", data) as file:
                file.voxel_size = 12.0
    return tmp_path


def run(folders: Path, config: EvaluateConfig = CONFIG, batch: Batch = BATCH, **options: Any) -> Evaluation:
    methods = {"prediction": str(folders / "pred")}
    return evaluate_files(
        methods, str(folders / "truth"), config, options=ScoringOptions(**options), batch=batch
    )


def test_kept_scores_give_the_same_evaluation(folders: Path) -> None:
    fresh = run(folders)
    scores = folders / "scores"
    first, second = run(folders, scores_dir=scores), run(folders, scores_dir=scores)
    assert [row.status for row in second.report.rows] == [Status.SKIPPED] * 3
    for one in (first, second):
        assert [str(file.metrics) for file in one.files] == [str(file.metrics) for file in fresh.files]
        assert str(one.macro) == str(fresh.macro)
        assert str(one.micro) == str(fresh.micro)
    kept, new = second.files[0].score, fresh.files[0].score
    assert score_to_json(kept) == score_to_json(new)
    assert np.array_equal(kept.sweep.membrane, new.sweep.membrane)
    assert kept.sweep.membrane.dtype == new.sweep.membrane.dtype
    assert read_score(scores / "prediction_ts_2_score.json").surface.hausdorff_95 == float("inf")


def test_other_settings_and_another_truth_are_named(folders: Path) -> None:
    scores = folders / "scores"
    run(folders, scores_dir=scores)
    other = run(folders, replace(CONFIG, near_distance_px=7.5), scores_dir=scores)
    assert "near_distance_px" in other.files[0].error
    with mrcfile.open(folders / "truth" / "ts_0.mrc", "r+") as file:
        file.data[0, 0, 0] = 1
    again = run(folders, scores_dir=scores)
    assert "truth (other content)" in again.files[0].error
    assert [file.is_kept for file in again.files] == [False, True, True]
    assert not any(
        file.error for file in run(folders, scores_dir=scores, batch=replace(BATCH, overwrite=True)).files
    )


def test_shards_meet_in_the_folder_of_scores(folders: Path) -> None:
    scores = folders / "scores"
    for index in (1, 2):
        part = run(folders, scores_dir=scores, batch=Batch(shard=Shard(index=index, count=2)))
        assert len(part.files) == (2 if index == 1 else 1)
    whole = run(folders, scores_dir=scores)
    assert all(file.is_kept for file in whole.files)
    assert len(whole.files) == 3


def test_an_interrupt_keeps_the_scores_so_far(folders: Path) -> None:
    def stop(*arrays: object) -> None:
        raise KeyboardInterrupt

    stopped = run(folders, on_scored=stop, scores_dir=folders / "scores")
    assert stopped.report.exit_status == 130
    assert [row.status for row in stopped.report.rows] == [Status.NOT_DONE] * 3


def test_the_options(folders: Path) -> None:
    arguments = ["evaluate", "segmentation", str(folders / "pred"), str(folders / "truth")]
    arguments += ["--allow-empty", "--logit-threshold", "0", "--scores", str(folders / "scores")]
    dry = CliRunner().invoke(app, [*arguments, "--dry-run"])
    assert dry.exit_code == 0, dry.output
    assert not (folders / "scores").exists()
    report = folders / "run.csv"
    done = CliRunner().invoke(app, [*arguments, "--report", str(report)])
    assert done.exit_code == 0, done.output
    assert report.read_text().count(",done,") == 3
    refused = CliRunner().invoke(app, [*arguments[:-2], "--shard", "1/2"])
    assert refused.exit_code == 1
    assert "--scores" in str(refused.exception)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_cluster_s_tasks_score_and_the_first_process_collects(
    overwrite: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    for folder in ("pred", "truth"):
        (tmp_path / folder).mkdir()
        for name in "abc":
            write_mask(tmp_path / folder / f"{name}.mrc", rng.random((3, 8, 9)) > 0.5, Geometry(), label="x")
    table, scores = tmp_path / "all.json", tmp_path / "scores"
    words = ["evaluate", "segmentation", str(tmp_path / "pred"), str(tmp_path / "truth")]
    words += ["--scores", str(scores), "-o", str(table), "--metrics", "overlap"]
    words += ["--overwrite"] * overwrite

    def array(arguments: list[str], cluster: ClusterConfig, *, logs: Path, on_event: OnEvent) -> Report:
        assert arguments == words
        assert logs.parent == scores
        with pytest.MonkeyPatch.context() as task:
            task.setenv(slurm.INSIDE, "1")
            for shard in range(1, cluster.tasks + 1):
                part = CliRunner().invoke(app, [*arguments, "--shard", f"{shard}/{cluster.tasks}"])
                assert part.exit_code == 0, part.output
        assert not table.exists()  # no task knows all scores
        assert len(list(scores.glob("*_score.json"))) == 3
        return Report(rows=[])

    monkeypatch.setattr(slurm, "run_on_slurm", array)
    command = [*words, "--cluster", "slurm", "--cluster-tasks", "2"]
    monkeypatch.setattr("sys.argv", ["cryoseg", *command])
    outcome = CliRunner().invoke(app, command)
    assert outcome.exit_code == 0, outcome.output
    kept = json.loads(table.read_text())
    assert [file["name"] for file in kept["files"]] == ["a", "b", "c"]
    assert all(file["metrics"]["dice"] > 0 for file in kept["files"])


@pytest.mark.parametrize(
    ("words", "told"),
    [([], "needs --scores"), (["--scores", "s", "--model", "auto"], "run `cryoseg segm")],
)
def test_a_cluster_needs_a_folder_where_the_tasks_meet(words: list[str], told: str) -> None:
    command = ["evaluate", "segmentation", "a.mrc", "b.mrc", "--cluster", "slurm", *words]
    outcome = CliRunner().invoke(app, command)
    assert told in str(outcome.exception)
