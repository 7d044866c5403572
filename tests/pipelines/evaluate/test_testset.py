from __future__ import annotations

import csv
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from typer.testing import CliRunner

from cryoseg.cli.app import app
from cryoseg.errors import InputError
from cryoseg.io.web.archives import ListedRun, read_testset
from cryoseg.pipelines.evaluate.testset import listed_pairs

REPOSITORY = Path(__file__).resolve().parents[3]
TRUTH = np.zeros((4, 10, 12), np.int8)
TRUTH[:, 3:6] = 1


def write(path: Path, data: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with mrcfile.new(path, data) as file:
        file.voxel_size = 13.48
    return path


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """Three runs; the second and the third share their tomogram's name."""
    for run, tomogram in (("10000/247", "TS_037"), ("10010/5", "tomo"), ("emdb/4603", "tomo")):
        write(tmp_path / "c" / run / "tomogram" / f"{tomogram}.mrc", TRUTH)
        write(tmp_path / "c" / run / "target_mask" / f"{run.split('/')[1]}_target_mask.mrc", TRUTH)
    return tmp_path / "c"


RUNS = [ListedRun(dataset_id=d, run_id=r) for d, r in (("10000", "247"), ("10010", "5"), ("emdb", "4603"))]


def test_predictions_are_found_by_folder_run_or_tomogram(collection: Path, tmp_path: Path) -> None:
    pred = tmp_path / "p"
    by_tomogram = write(pred / "TS_037_membrane_mask.mrc", TRUTH)
    by_folder = write(pred / "10010" / "5" / "anything.mrc", TRUTH)
    write(pred / "tomo_membrane_mask.mrc", TRUTH)  # tells neither of two runs
    first, second, third = listed_pairs(RUNS, collection, pred)
    assert (first.pred, second.pred) == (by_tomogram, by_folder)
    assert third.error == f"emdb/4603: no prediction in {pred}."
    by_run = write(pred / "4603_mask.mrc", TRUTH)
    assert listed_pairs(RUNS, collection, pred)[2].pred == by_run
    both = write(pred / "emdb_4603_mask.mrc", TRUTH)
    assert listed_pairs(RUNS, collection, pred)[2].pred == both
    logits = write(pred / "emdb_4603_membrane_logits.mrc", TRUTH.astype(np.float32))
    assert listed_pairs(RUNS, collection, pred)[2].pred == both
    assert listed_pairs(RUNS, collection, pred, prefer_logits=True)[2].pred == logits
    write(pred / "emdb_4603_labels.mrc", TRUTH)
    assert "both match" in str(listed_pairs(RUNS, collection, pred)[2].error)
    with pytest.raises(InputError, match="no such folder"):
        listed_pairs(RUNS, collection, tmp_path / "nowhere")


def test_the_table_has_the_columns_of_etsam(collection: Path, tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    table.write_text(
        "dataset_id,run_id,annotation_ids,split,organism_name\n"
        "10000,247,none,test,A\n10010,5,none,test,B\nemdb,4603,none,test,C\n10001,258,none,test,D\n1,2,none,train,\n"
    )
    half = TRUTH.copy()
    half[:2] = 0
    write(tmp_path / "p" / "10000_247.mrc", half)
    write(tmp_path / "p" / "10010_5.mrc", np.zeros_like(TRUTH))
    write(tmp_path / "p" / "emdb_4603.mrc", TRUTH[:2])
    for name in ("10000_247", "10010_5"):
        write(tmp_path / "s" / f"{name}.mrc", TRUTH)
    out, plain = tmp_path / "etsam.csv", tmp_path / "plain.csv"
    arguments = ["evaluate", "testset", str(table), "--collection", str(collection), "--split", "test"]
    arguments += ["--pred", str(tmp_path / "p"), "--stage1", str(tmp_path / "s")]
    result = CliRunner().invoke(app, [*arguments, "--etsam-table", str(out), "-o", str(plain)])
    assert result.exit_code == 1  # a shape that does not fit, and a run that was not fetched
    assert "4 x 10 x 12" in result.output
    assert "Download it with `cryoseg data fetch`" in " ".join(result.output.split())
    names = ("dice", "iou", "precision", "recall")
    with out.open() as stream:
        rows = list(csv.DictReader(stream))
    header = ["dataset_id", "run_id", *(f"{s}_{n}" for s in ("stage1", "final_stage2") for n in names)]
    assert list(rows[0]) == header
    assert [(row["dataset_id"], row["run_id"]) for row in rows][3] == ("10001", "258")
    assert [float(rows[0][f"final_stage2_{n}"]) for n in names] == pytest.approx([2 / 3, 0.5, 1, 0.5])
    assert [float(rows[0][f"stage1_{n}"]) for n in names] == [1, 1, 1, 1]
    assert [float(rows[1][f"final_stage2_{n}"]) for n in names] == [0, 0, 0, 0]
    assert {rows[2][name] for name in header[2:]} == {rows[3][name] for name in header[2:]} == {""}
    with plain.open() as stream:
        scored = {(row["method"], row["name"]): row for row in csv.DictReader(stream)}
    assert float(scored["final_stage2", "10000/247"]["dice"]) == pytest.approx(2 / 3, abs=1e-6)
    again = CliRunner().invoke(app, [*arguments, "--etsam-table", str(out)])
    assert "--overwrite" in str(again.exception)
    neither = CliRunner().invoke(app, arguments[:5])
    assert "--pred, or a model with --model" in str(neither.exception)


def test_undefined_ratios_are_those_of_etsam(collection: Path, tmp_path: Path) -> None:
    write(tmp_path / "c" / "1" / "2" / "target_mask" / "2_target_mask.mrc", np.zeros_like(TRUTH))
    write(tmp_path / "p" / "1_2.mrc", TRUTH)
    table = tmp_path / "list.csv"
    table.write_text("dataset_id,run_id\n1,2\n")
    out = tmp_path / "etsam.csv"
    arguments = ["evaluate", "testset", str(table), "--collection", str(collection)]
    result = CliRunner().invoke(
        app, [*arguments, "--pred", str(tmp_path / "p"), "--etsam-table", str(out), "--allow-empty"]
    )
    assert result.exit_code == 0, result.output
    assert out.read_text().splitlines()[1] == "1,2,,,,,nan,nan,0.0,0.0"


def test_the_shipped_list_holds_the_ten_published_runs() -> None:
    runs = read_testset(REPOSITORY / "data" / "etsam_head_testset.csv")
    assert [run.name for run in runs] == [
        "10000/245",
        "10000/247",
        "10001/258",
        "10010/11972",
        "10010/12000",
        "10438/15936",
        "10436/15943",
        "10104/7325",
        "10118/7667",
        "10032/676",
    ]
    assert {run.split for run in runs} == {"test"}
    assert all(run.annotation_ids == () for run in runs)


def test_lists_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    for text, words in (
        ("", "holds no run"),
        ("dataset_id,run\n1,2\n", "no column run_id"),
        ("dataset_id,run_id\n1,\n", "line 2 has run_id ''"),
        ("dataset_id,run_id\n../x,2\n", "line 2 has dataset_id"),
        ("dataset_id,run_id\n1,2\n1,2\n", "line 3 names 1/2 a second time"),
        ("dataset_id,run_id,annotation_ids\n1,2,5|x\n", "annotation_ids 'x'"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=words):
            read_testset(path)
    path.write_text("dataset_id,run_id,annotation_ids\n1,2,5|6\n")
    assert read_testset(path)[0].annotation_ids == (5, 6)
