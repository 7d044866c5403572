from __future__ import annotations

import csv
import json
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from typer.testing import CliRunner

from cryoseg.cli.app import app
from cryoseg.config import EvaluateConfig, Length, Metric, Mode0
from cryoseg.errors import ConfigError, InputError
from cryoseg.io.images.volumes import read_mask
from cryoseg.io.pairs import base_name
from cryoseg.pipelines.evaluate.pairs import match_predictions
from cryoseg.pipelines.evaluate.segmentations import ScoringOptions, evaluate_files, show_metric


def write(path: Path, data: np.ndarray, voxel_size: float = 10.0) -> Path:
    path.parent.mkdir(exist_ok=True)
    with mrcfile.new(path, data) as mrc:
        mrc.voxel_size = voxel_size
    return path


@pytest.fixture
def truth() -> np.ndarray:
    labels = np.zeros((6, 20, 24), np.int8)
    labels[:, 8:11, :] = 1
    labels[:, 15:, :] = -1
    return labels


def test_files_match_by_the_name_of_their_tomogram(tmp_path: Path, truth: np.ndarray) -> None:
    for name in ("b_membrane_mask", "b_membrane_post_processed_mask", "b_membrane_logits", "c_mask"):
        write(tmp_path / "pred" / f"{name}.mrc", truth)
    for name in ("a_labels", "b_target_mask", "c"):
        write(tmp_path / "truth" / f"{name}.mrc", truth)
    pairs = match_predictions(tmp_path / "pred", tmp_path / "truth")
    assert [pair.name for pair in pairs] == ["a", "b", "c"]
    assert "no prediction" in str(pairs[0].error)
    assert str(pairs[1].pred).endswith("b_membrane_post_processed_mask.mrc")
    logits = match_predictions(tmp_path / "pred", tmp_path / "truth", prefer_logits=True)
    assert str(logits[1].pred).endswith("b_membrane_logits.mrc")
    alone = match_predictions(tmp_path / "pred" / "c_mask.mrc", tmp_path / "truth" / "a_labels.mrc")
    assert (alone[0].name, alone[0].error) == ("c", None)
    assert base_name(Path("mask.mrc")) == "mask"
    with pytest.raises(InputError, match="no such file"):
        match_predictions(tmp_path / "nowhere", tmp_path / "truth")


def test_a_truth_that_a_list_of_relion_names_and_that_is_missing_is_a_failed_row(
    tmp_path: Path, truth: np.ndarray
) -> None:
    for name in ("pred/b_mask.mrc", "truth/b.mrc"):
        write(tmp_path / name, truth)
    rows = "truth/gone.mrc\ntruth/b.mrc\n"
    (tmp_path / "truths.star").write_text(f"data_\nloop_\n_rlnMicrographName #1\n{rows}")
    scored, missing = match_predictions(tmp_path / "pred", tmp_path / "truths.star")
    assert (scored.name, scored.error) == ("b", None)
    assert missing.name == "gone"
    assert "truth/gone.mrc: no such file" in str(missing.error)


def test_pixel_sizes_of_lists_of_relion_replace_those_of_the_headers(
    tmp_path: Path, truth: np.ndarray
) -> None:
    def listed(name: str, size: float, *files: str) -> Path:
        path = tmp_path / name
        rows = "".join(f"{file} {size}\n" for file in files)
        path.write_text(f"data_\nloop_\n_rlnMicrographName #1\n_rlnMicrographPixelSize #2\n{rows}")
        return path

    pred = write(tmp_path / "pred" / "ts_1_mask.mrc", (truth == 1).astype(np.int8), 1.0)
    write(tmp_path / "truth" / "ts_1_labels.mrc", truth, 1.0)
    truths = listed("truths.star", 12.5, "truth/ts_1_labels.mrc")
    config = EvaluateConfig(metrics=(Metric.SURFACE,))
    kept = ScoringOptions(scores_dir=tmp_path / "scores")
    (file,) = evaluate_files({"m": pred.parent}, truths, config, options=kept).files
    assert (file.error, file.voxel_size) == ("", (12.5, 12.5, 12.5))
    assert file.record is not None
    assert json.loads(file.record.read_text())["reading"]["pixel_size"] == 12.5
    preds = listed("preds.star", 12.5, "pred/ts_1_mask.mrc")
    assert evaluate_files({"m": preds}, tmp_path / "truth", config).files[0].voxel_size == (12.5,) * 3
    told = ScoringOptions(pixel_size=8.0)
    assert evaluate_files({"m": preds}, truths, config, options=told).files[0].voxel_size == (8.0,) * 3
    other = listed("preds.star", 10.0, "pred/ts_1_mask.mrc")
    message = evaluate_files({"m": other}, truths, config).files[0].error
    assert "the lists give the pixel sizes 10 A and 12.5 A" in message


def test_truths_of_one_name_have_the_predictions_of_their_folders(tmp_path: Path) -> None:
    def make(*names: str) -> None:
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"volume")

    make("truth/g1/TS_01_labels.mrc", "truth/g2/TS_01_labels.mrc", "truth/g2/TS_02_labels.mrc")
    # As `cryoseg segment` names the outputs of a batch, and in folders of the same names.
    make("out/g1_TS_01_membrane_mask.mrc", "out/g2_TS_01_membrane_mask.mrc", "out/TS_02_membrane_mask.mrc")
    make("own/g2/TS_01_mask.mrc", "own/g1/TS_01_mask.mrc", "own/g2/TS_02_mask.mrc")
    make("flat/TS_01_mask.mrc")
    truth = str(tmp_path / "truth/*/*.mrc")
    for pred in (tmp_path / "out", str(tmp_path / "own/*/*.mrc")):
        pairs = match_predictions(pred, truth)
        assert [pair.name for pair in pairs] == ["TS_02", "g1_TS_01", "g2_TS_01"]
        for pair in pairs[1:]:
            assert pair.pred is not None
            assert pair.name[:2] in (pair.pred.name[:2], pair.pred.parent.name)
            assert pair.name[:2] == pair.truth.parent.name
    with pytest.raises(InputError, match=r"may mean .*g1/TS_01 or .*g2/TS_01"):
        match_predictions(tmp_path / "flat", truth)


def test_twenty_pairs_survive_a_broken_one(tmp_path: Path, truth: np.ndarray) -> None:
    for number in range(20):
        pred = (truth == 1).astype(np.int8)
        pred[:, 8] = number % 2
        write(tmp_path / "pred" / f"t{number:02}_membrane_mask.mrc", pred)
        write(tmp_path / "truth" / f"t{number:02}.mrc", truth)
    (tmp_path / "pred" / "t05_membrane_mask.mrc").write_bytes(b"broken")
    result = CliRunner().invoke(
        app, ["evaluate", "segmentation", str(tmp_path / "pred"), str(tmp_path / "truth")]
    )
    assert result.exit_code == 1
    assert "Scoring pairs: 10/20 pairs" in result.output
    assert "Scoring pairs: 20/20 pairs" in result.output
    assert result.output.count("Error: ") == 1
    assert "t05_membrane_mask.mrc" in result.output
    evaluation = evaluate_files({"ours": tmp_path / "pred"}, tmp_path / "truth", EvaluateConfig())
    assert evaluation.report.exit_status == 1
    assert sum(bool(file.error) for file in evaluation.files) == 1
    mean = evaluation.macro["ours"]["dice"]
    # Odd files are right, but 5 is broken; even ones miss a third of the membrane: Dice 4/5.
    assert mean.files == 19
    assert mean.value == pytest.approx((9 * 1 + 10 * 0.8) / 19)
    assert mean.low < mean.value < mean.high
    recall = (9 * 3 + 10 * 2) / (19 * 3)
    assert evaluation.micro["ours"]["recall"] == pytest.approx(recall)
    assert evaluation.micro["ours"]["recall_3px"] == 1.0


def test_methods_are_compared_on_the_same_files(tmp_path: Path, truth: np.ndarray) -> None:
    for number in range(6):
        write(tmp_path / "truth" / f"t{number}.mrc", truth)
        for method, missing in (("good", number % 2), ("bad", 2)):
            pred = truth == 1
            pred[:, 8 : 8 + missing] = False
            write(tmp_path / method / f"t{number}.mrc", pred.astype(np.int8))
    methods = {"good": tmp_path / "good", "bad": tmp_path / "bad"}
    evaluation = evaluate_files(methods, tmp_path / "truth", EvaluateConfig(metrics=(Metric.OVERLAP,)))
    dice = next(one for one in evaluation.comparisons if one.metric == "dice")
    assert dice.files == 6
    assert dice.difference == pytest.approx((3 * 1 + 3 * 0.8) / 6 - 0.5)
    assert dice.p_value < 0.05
    single = {"a": tmp_path / "good" / "t0.mrc", "b": tmp_path / "bad" / "t3.mrc"}
    one = evaluate_files(single, tmp_path / "truth" / "t5.mrc", EvaluateConfig(metrics=(Metric.OVERLAP,)))
    assert {file.name for file in one.files} == {"t5"}
    assert one.comparisons[0].files == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.transpose(2, 1, 0), "axes are exchanged"),
        (lambda t: t[:, :, :-1], "one shape"),
        (lambda t: t[:1], "single image"),
        (lambda t: t.astype(np.float32) - 0.3, "--logit-threshold"),
        (lambda t: np.arange(t.size, dtype=np.int16).reshape(t.shape), "different values"),
    ],
)
def test_pairs_that_do_not_fit_are_refused(tmp_path: Path, truth: np.ndarray, change, message: str) -> None:
    pred = write(tmp_path / "p.mrc", np.ascontiguousarray(change((truth == 1).astype(np.int8))))
    evaluation = evaluate_files({"m": pred}, write(tmp_path / "t.mrc", truth), EvaluateConfig())
    assert message in evaluation.files[0].error
    assert str(pred) in evaluation.files[0].error
    assert evaluation.report.exit_status == 1


def test_voxel_sizes_and_turned_masks_are_refused(tmp_path: Path) -> None:
    labels = np.zeros((4, 24, 24), np.int8)
    labels[:, 5, :] = 1
    truth = write(tmp_path / "t.mrc", labels)
    other = write(tmp_path / "p.mrc", labels, voxel_size=10.4)
    evaluation = evaluate_files({"m": other}, truth, EvaluateConfig())
    assert "10.4 x 10.4 x 10.4" in evaluation.files[0].error
    told = evaluate_files({"m": other}, truth, EvaluateConfig(), options=ScoringOptions(pixel_size=10.0))
    assert told.files[0].metrics["dice"] == 1
    turned = write(tmp_path / "q.mrc", np.ascontiguousarray(labels.transpose(0, 2, 1)))
    evaluation = evaluate_files({"m": turned}, truth, EvaluateConfig())
    assert "z, x, y" in evaluation.files[0].error


def test_a_truth_of_several_labels_needs_one(tmp_path: Path, truth: np.ndarray) -> None:
    truth[:, 3] = 2
    truth_path = write(tmp_path / "t.mrc", truth)
    pred = write(tmp_path / "p.mrc", (truth == 2).astype(np.int8))
    assert "--truth-label" in evaluate_files({"m": pred}, truth_path, EvaluateConfig()).files[0].error
    chosen = evaluate_files({"m": pred}, truth_path, EvaluateConfig(truth_label=2))
    assert chosen.files[0].metrics["dice"] == 1


def test_a_truth_of_unstamped_bytes_0_and_255_is_a_mask(tmp_path: Path, truth: np.ndarray) -> None:
    pred = write(tmp_path / "pred.mrc", (truth == 1).astype(np.int8))
    labels = np.zeros(truth.shape, np.uint8)
    labels[:, 8:13] = 255  # Dice 2 * 3 / (3 + 5)
    path = write(tmp_path / "truth.mrc", labels.view(np.int8))
    with mrcfile.open(path, "r+") as mrc:
        mrc.header.dmin, mrc.header.dmax, mrc.header.dmean = 0, 255, labels.mean()
    said: list[object] = []
    evaluation = evaluate_files({"p": pred}, path, EvaluateConfig(), on_event=said.append)
    assert evaluation.files[0].metrics["dice"] == pytest.approx(0.75)
    assert any("read as unsigned" in getattr(event, "text", "") for event in said)
    signed = EvaluateConfig(mode0=Mode0.SIGNED)
    wrong = evaluate_files({"p": pred}, path, signed).files[0].error
    assert "no voxel is membrane" in wrong
    assert "--mode0" in wrong


def test_a_truth_without_membrane_is_scored_only_on_request(tmp_path: Path, truth: np.ndarray) -> None:
    pred = write(tmp_path / "pred.mrc", (truth == 1).astype(np.int8))
    nothing = write(tmp_path / "nothing.mrc", np.zeros(truth.shape, np.int8))
    refused = evaluate_files({"p": pred}, nothing, EvaluateConfig()).files[0]
    assert "--allow-empty" in refused.error
    allowed = evaluate_files({"p": pred}, nothing, EvaluateConfig(allow_empty=True)).files[0]
    assert not allowed.error
    assert allowed.metrics["precision"] == 0
    # An empty prediction of an empty truth is right, and a region without membrane is no empty truth.
    assert evaluate_files({"p": nothing}, nothing, EvaluateConfig()).files[0].metrics["dice"] == 1
    away = np.zeros(truth.shape, np.int8)
    away[:, :4] = 1
    region = write(tmp_path / "region.mrc", away)
    marked = write(tmp_path / "marked.mrc", away)
    labels = write(tmp_path / "truth.mrc", truth)
    assert (
        not evaluate_files({"p": marked}, labels, EvaluateConfig(), options=ScoringOptions(region=region))
        .files[0]
        .error
    )


def test_logits_give_a_curve_and_a_best_threshold(tmp_path: Path, truth: np.ndarray) -> None:
    logits = np.where(truth == 1, 2.0, -3.0).astype(np.float32)
    logits[:, 8] = -1.0
    pred = write(tmp_path / "p.mrc", logits)
    config = EvaluateConfig(logit_threshold=0.0)
    metrics = evaluate_files({"m": pred}, write(tmp_path / "t.mrc", truth), config).files[0].metrics
    assert metrics["recall"] == pytest.approx(2 / 3)
    assert metrics["auprc"] == 1.0
    assert metrics["best_dice"] == 1.0
    assert -3 <= metrics["best_threshold"] < -1


def test_a_region_limits_the_score(tmp_path: Path, truth: np.ndarray) -> None:
    region = np.zeros_like(truth)
    region[:3] = 1
    pred = (truth == 1).astype(np.int8)
    pred[3:] = 0
    paths = [write(tmp_path / f"{n}.mrc", d) for n, d in (("p", pred), ("t", truth), ("r", region))]
    everywhere = evaluate_files({"m": paths[0]}, paths[1], EvaluateConfig())
    inside = evaluate_files(
        {"m": paths[0]}, paths[1], EvaluateConfig(), options=ScoringOptions(region=paths[2])
    )
    assert everywhere.files[0].metrics["recall"] == 0.5
    assert inside.files[0].metrics["recall"] == 1.0


def test_surface_tolerances_in_angstrom_need_a_voxel_size(tmp_path: Path, truth: np.ndarray) -> None:
    config = EvaluateConfig(
        metrics=(Metric.SURFACE,), tolerances=(Length.parse("15A", option="--tolerance"),)
    )
    shifted = np.roll(truth == 1, 1, axis=1).astype(np.int8)
    for voxel_size, expected in ((10.0, 1.0), (20.0, None), (0.0, None)):
        pred = write(tmp_path / f"p{voxel_size}.mrc", shifted, voxel_size)
        file = evaluate_files(
            {"m": pred}, write(tmp_path / f"t{voxel_size}.mrc", truth, voxel_size), config
        ).files[0]
        if voxel_size == 0:
            assert "--pixel-size" in file.error
        elif expected:
            assert file.metrics["surface_dice_15A"] == expected
            assert file.metrics["surface_distance_mean_A"] < 10
        else:
            assert file.metrics["surface_dice_15A"] < 1
    with pytest.raises(ConfigError, match="30A or 2vox"):
        Length.parse("15", option="--tolerance")


def test_the_command_prints_and_writes(tmp_path: Path, truth: np.ndarray) -> None:
    pred = write(tmp_path / "x_membrane_mask.mrc", (truth == 1).astype(np.int8))
    truth_path = write(tmp_path / "x_labels.mrc", truth)
    table, record = tmp_path / "a.csv", tmp_path / "a.json"
    arguments = [
        "evaluate",
        "segmentation",
        str(pred),
        str(truth_path),
        "-o",
        str(table),
        "-o",
        str(record),
        "--quiet",
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    assert "recall_3px" in result.output
    (row,) = csv.DictReader(table.read_text().splitlines())
    assert (row["name"], float(row["dice"]), row["error"]) == ("x", 1.0, "")
    content = json.loads(record.read_text())
    assert content["settings"]["near_distance_px"] == 3.0
    assert content["files"][0]["metrics"]["precision"] == 1.0
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 1
    assert "--overwrite" in str(again.exception)
    unknown = CliRunner().invoke(app, [*arguments[:4], "--metrics", "dise"])
    assert "dise" in str(unknown.exception)
    suffix = CliRunner().invoke(app, [*arguments[:4], "-o", "a.xlsx"])
    assert ".csv" in str(suffix.exception)


def test_the_labels_of_the_real_tomogram_score_themselves(real_data: Path) -> None:
    labels = real_data / "lysosome_tomogram" / "membrane_labels.mrc.gz"
    evaluation = evaluate_files({"self": labels}, labels, EvaluateConfig())
    # A truth with -1 is no mask; as a prediction it is refused.
    assert "-1" in evaluation.files[0].error


def test_only_known_voxels_of_the_real_labels_count(real_data: Path, tmp_path: Path) -> None:
    labels = read_mask(real_data / "lysosome_tomogram" / "membrane_labels.mrc.gz").data[20:28]
    truth = write(tmp_path / "truth.mrc", labels)
    ones = write(tmp_path / "all.mrc", np.ones(labels.shape, np.int8))
    (file,) = evaluate_files({"all": ones}, truth, EvaluateConfig(metrics=(Metric.NEAR,))).files
    assert file.score is not None
    overlap = file.score.overlap
    assert overlap.true_negatives == overlap.false_negatives == 0
    assert overlap.true_positives == (labels == 1).sum() > 10_000
    assert overlap.false_positives == (labels == 0).sum() > 10_000
    assert (labels == -1).any()
    assert file.metrics["recall_3px"] == file.metrics["clear_marked"] == file.metrics["volume_marked"] == 1


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0"), (1, "1"), (88.0, "88"), (1.0, "1.0000"), (0.25, "0.2500"), (np.nan, "-")]
)
def test_counts_are_shown_without_decimals(value: float, shown: str) -> None:
    assert show_metric(value) == shown
