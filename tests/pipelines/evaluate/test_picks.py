from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cryoseg.cli.app import app
from cryoseg.config.evaluate import EvaluatePicksConfig, PickMatching, Radius
from cryoseg.errors import ConfigError, InputError
from cryoseg.pipelines.evaluate.picks import _score_image, evaluate_pick_files
from cryoseg.types import Picks


def config(radius: str = "3px", **settings: object) -> EvaluatePicksConfig:
    return EvaluatePicksConfig(radius=Radius.parse(radius, option="--radius"), **settings)  # type: ignore[arg-type]


def write(path: Path, rows: list[str], header: str = "image,x,y,score") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_images_match_by_name_and_missing_ones_count(tmp_path: Path) -> None:
    truth = write(tmp_path / "t.csv", ["a.mrc,10,10,1", "a.mrc,30,10,1", "b.mrc,5,5,1"])
    pred = write(tmp_path / "p.csv", ["a.jpg,11,10,0.9", "a.jpg,12,10,0.8", "c.jpg,1,1,0.5"])
    warnings: list[str] = []
    evaluation = evaluate_pick_files(
        {"m": pred}, truth, config(), on_event=lambda event: warnings.append(getattr(event, "text", ""))
    )
    a, b = evaluation.files
    assert (a.name, b.name) == ("a", "b")
    assert (a.metrics["precision"], a.metrics["recall"], a.metrics["duplicates"]) == (0.5, 0.5, 1)
    assert (a.metrics["bias_x_px"], a.metrics["bias_y_px"]) == (1, 0)
    assert b.metrics["recall"] == 0
    assert any("c are left out" in text for text in warnings)
    micro = evaluation.micro["m"]
    assert (micro["precision"], micro["recall"]) == (0.5, pytest.approx(1 / 3))
    assert evaluation.report.exit_status == 0


def test_lengths_in_angstrom_and_particle_radii() -> None:
    known = {"pixel_size": 10.0, "diameter_angstrom": 160.0, "option": "--radius"}
    assert Radius.parse("40A", option="--radius").in_pixels(**known) == 4
    assert Radius.parse("0.5R", option="--radius").in_pixels(**known) == 4
    assert Radius.parse("4 px", option="--radius").in_pixels(**known) == 4
    with pytest.raises(ConfigError, match="--pixel-size"):
        Radius.parse("40A", option="--radius").in_pixels(
            pixel_size=None, diameter_angstrom=None, option="--radius"
        )
    with pytest.raises(ConfigError, match="--particle-diameter"):
        Radius.parse("1R", option="--radius").in_pixels(
            pixel_size=1.0, diameter_angstrom=None, option="--radius"
        )
    with pytest.raises(ConfigError, match="such as 30A, 4px"):
        Radius.parse("4", option="--radius")


def test_a_broken_file_is_a_failed_row(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "t").mkdir()
    for name in ("a", "b"):
        write(tmp_path / "t" / f"{name}.csv", ["1,2,3"], "x,y,z")
    write(tmp_path / "p" / "a.csv", ["1,2,3,0.5"], "x,y,z,score")
    write(tmp_path / "p" / "b.csv", ["1,2,x,0.5"], "x,y,z,score")
    evaluation = evaluate_pick_files({"m": tmp_path / "p"}, tmp_path / "t", config())
    assert evaluation.report.exit_status == 1
    assert [(file.name, bool(file.error)) for file in evaluation.files] == [("b.csv", True), ("a", False)]
    with pytest.raises(InputError, match="no such file"):
        evaluate_pick_files({"m": tmp_path / "p"}, tmp_path / "none", config())


def test_two_dimensions_do_not_meet_three(tmp_path: Path) -> None:
    truth = write(tmp_path / "t.csv", ["1,2,3"], "x,y,z")
    pred = write(tmp_path / "p.csv", ["1,2"], "x,y")
    (file,) = evaluate_pick_files({"m": pred}, truth, config()).files
    assert "2D or both in 3D" in file.error


def test_true_positions_of_the_phantom_score_themselves(real_data: Path, tmp_path: Path) -> None:
    truth = real_data / "particle_phantom" / "truth.csv"
    labels = real_data / "particle_phantom" / "labels.csv"
    table, record = tmp_path / "a.csv", tmp_path / "a.json"
    result = CliRunner().invoke(
        app,
        [
            "evaluate",
            "picks",
            str(labels),
            str(truth),
            "--radius",
            "4px",
            "-o",
            str(table),
            "-o",
            str(record),
            "--quiet",
        ],
    )
    assert result.exit_code == 0, result.exception
    metrics = json.loads(record.read_text())["files"][0]["metrics"]
    assert (metrics["picks"], metrics["truths"]) == (25, 100)
    assert (metrics["precision"], metrics["recall"]) == (1.0, 0.25)
    assert metrics["f4"] == pytest.approx(17 * 0.25 / (16 + 0.25))
    assert metrics["error_mean_px"] == 0


def test_all_micrographs_of_the_real_set_in_one_file(real_data: Path) -> None:
    particles = real_data / "empiar10017" / "particles.csv"
    settings = config("0.5R", diameter_angstrom=109 * 1.77, pixel_size=1.77)
    evaluation = evaluate_pick_files({"m": particles}, particles, settings)
    assert len(evaluation.files) == 12
    assert evaluation.micro["m"]["truths"] == 7825
    assert evaluation.micro["m"]["f1"] == 1.0
    assert all(np.isclose(file.metrics["error_mean_px"], 0) for file in evaluation.files)


def test_published_matching_has_its_name(tmp_path: Path) -> None:
    truth = write(tmp_path / "t.csv", ["0,0,0"], "x,y,z")
    pred = write(tmp_path / "p.csv", ["20,0,0,1"], "x,y,z,score")
    ours = evaluate_pick_files({"m": pred}, truth, config("8px"))
    theirs = evaluate_pick_files({"m": pred}, truth, config("8px", matching=PickMatching.CETPICK))
    assert ours.files[0].metrics["recall"] == 0
    assert theirs.files[0].metrics["recall"] == 1


def test_picks_of_another_grid_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    points = rng.uniform(5, 60, (12, 3)).round(2)

    def table(name: str, columns: list[int], header: str = "x,y,z") -> Path:
        return write(tmp_path / name, [",".join(str(row[c]) for c in columns) for row in points], header)

    truth = table("t.csv", [0, 1, 2])
    turned = evaluate_pick_files({"m": table("p.csv", [1, 0, 2])}, truth, config("3px")).files[0]
    assert "with their axes taken in the order" in turned.error
    assert "in the order z, x, y" in turned.error
    flat = evaluate_pick_files({"m": table("f.csv", [0, 1], "x,y")}, truth, config("3px")).files[0]
    assert "both in 2D or both in 3D" in flat.error
    assert str(tmp_path / "f.csv") in flat.error
    wrong = write(tmp_path / "w.csv", ["90,90,90", "80,80,80"] * 4, "x,y,z")
    poor = evaluate_pick_files({"m": wrong}, truth, config("3px")).files[0]
    assert (poor.error, poor.metrics["recall"]) == ("", 0)


def test_picks_of_another_pixel_size_are_refused(tmp_path: Path) -> None:
    picks = {
        size: Picks(
            centers=np.array([[1.0, 2.0, 3.0]]),
            pixel_size=size,
            shape=shape,
            source=tmp_path / f"{size}.star",
        )
        for size, shape in ((10.0, (9, 9, 9)), (20.0, (9, 9, 9)), (0.0, (4, 9, 9)), (10.05, None))
    }
    pairs = {size: _score_image("m", "a", picks[size], picks[10.0], config("3px")) for size in picks}
    assert "20 x 20 x 20" in pairs[20.0].error
    assert "(4, 9, 9)" in pairs[0.0].error
    assert pairs[10.0].metrics["recall"] == pairs[10.05].metrics["recall"] == 1.0
    told = _score_image("m", "a", picks[20.0], picks[10.0], config("3px", pixel_size=10.0))
    assert told.error == ""


def test_other_pickers_are_scored_beside_ours(tmp_path: Path) -> None:
    """Topaz writes a table with names, CryoSegNet a STAR file; both in pixels of the micrograph."""
    truth = write(tmp_path / "t.csv", ["a,10,20", "a,30,40", "b,5,6"], "image,x,y")
    topaz = tmp_path / "topaz.txt"
    topaz.write_text("image_name\tx_coord\ty_coord\tscore\na\t10\t20\t1.5\na\t31\t40\t-2.0\nb\t50\t60\t0.1\n")
    star = tmp_path / "cryosegnet.star"
    star.write_text(
        "data_\n\nloop_\n_rlnMicrographName #1\n_rlnCoordinateX #2\n_rlnCoordinateY #3\n"
        "a.mrc 10 20\na.mrc 30 41\nb.mrc 5 6\n"
    )
    evaluation = evaluate_pick_files({"topaz": topaz, "cryosegnet": star}, truth, config("3px"))
    assert [file.error for file in evaluation.files] == [""] * 4
    micro = evaluation.micro
    assert (micro["topaz"]["precision"], micro["topaz"]["recall"]) == pytest.approx((2 / 3, 2 / 3))
    assert micro["topaz"]["average_precision"] == pytest.approx(1 / 3 * (1 + 2 / 3))
    assert micro["cryosegnet"]["f1"] == 1
    assert "average_precision" not in micro["cryosegnet"]
    assert {one.metric for one in evaluation.comparisons} >= {"precision", "recall", "f1"}
    listed = tmp_path / "list.txt"
    listed.write_text("cryosegnet.star\n")
    assert evaluate_pick_files({"m": listed}, truth, config("3px")).micro["m"]["f1"] == 1


def test_rows_counted_from_below_are_found_out(tmp_path: Path) -> None:
    """The table of CryoPPP for an image of 400 rows, without its size."""
    points = np.random.default_rng(3).uniform(5, 395, (30, 2)).round(2)
    truth = write(tmp_path / "t.csv", [f"{x},{399 - y}" for x, y in points], "X-Coordinate,Y-Coordinate")
    pred = write(tmp_path / "p.csv", [f"{x},{y}" for x, y in points], "x,y")
    for settings in (config("5px"), config("5px", shape=(400, 400))):
        (file,) = evaluate_pick_files({"m": pred}, truth, settings).files
        assert "fit t.csv only with y mirrored" in file.error
        assert "--flip" in file.error


def test_images_of_one_name_are_scored_with_the_truth_of_their_folder(tmp_path: Path) -> None:
    truth = write(tmp_path / "t.csv", ["g1/a.mrc,10,10", "g2/a.mrc,30,30"], "image,x,y")
    pred = write(tmp_path / "p.csv", ["d/g2/a.mrc,30,30", "d/g1/a.mrc,10,10"], "image,x,y")
    files = evaluate_pick_files({"m": pred}, truth, config()).files
    assert [(file.name, file.metrics["recall"]) for file in files] == [("g1/a", 1), ("g2/a", 1)]
    ambiguous = write(tmp_path / "q.csv", ["a.mrc,30,30"], "image,x,y")
    (file,) = evaluate_pick_files({"m": ambiguous}, truth, config()).files
    assert "a.mrc may mean g1/a.mrc or g2/a.mrc" in file.error


def test_points_outside_are_told(tmp_path: Path) -> None:
    truth = write(tmp_path / "t.csv", ["10,10"], "x,y")
    pred = write(tmp_path / "p.csv", ["10,10", "110,10"], "x,y")
    told: list[str] = []
    evaluate_pick_files(
        {"m": pred},
        truth,
        config(shape=(20, 50)),
        on_event=lambda event: told.append(getattr(event, "text", "")),
    )
    assert any("p.csv: 1 of 2 points lie outside the image of 20 x 50 pixels" in text for text in told)


def test_outputs_of_a_batch_with_images_of_one_name_are_scored(tmp_path: Path) -> None:
    truth = write(tmp_path / "t.csv", ["g1/a.mrc,10,10", "g2/a.mrc,30,30"], "image,x,y")
    (tmp_path / "out").mkdir()
    write(tmp_path / "out" / "g1_a_particles.csv", ["a,10,10"], "image,x,y")
    write(tmp_path / "out" / "g2_a_particles.csv", ["a,30,30"], "image,x,y")
    files = evaluate_pick_files({"m": tmp_path / "out"}, truth, config()).files
    assert [(file.name, file.error, file.metrics["recall"]) for file in files] == [
        ("g1/a", "", 1),
        ("g2/a", "", 1),
    ]
