"""What the command line refuses before any work, in one sentence that names the option; and how it prints."""

from __future__ import annotations

import io
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

import cryoseg
from cryoseg.cli.app import app, main
from cryoseg.cli.console import BatchConsole
from cryoseg.cli.evaluate.options import named_methods
from cryoseg.cli.options import RelionOptions
from cryoseg.config.common import ProgressStyle
from cryoseg.config.evaluate import Metric, read_metrics
from cryoseg.config.segment import ModelChoice, ModelName
from cryoseg.errors import ConfigError, CryosegError
from cryoseg.events import Note, Row, StageProgress, Status, Warn
from cryoseg.io.images.volumes import write_logits
from cryoseg.io.picks.picks import read_picks
from cryoseg.types import Geometry


def run(line: str) -> str:
    """What is printed, or the sentence of the error."""
    result = CliRunner().invoke(app, shlex.split(line))
    if isinstance(result.exception, CryosegError):
        return str(result.exception)
    return result.output


class TestConvert:
    @pytest.fixture
    def points(self, tmp_path: Path) -> Path:
        path = tmp_path / "points.csv"
        path.write_text("x,y,z\n3,4,5\n10,20,6\n")
        return path

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            ("--particle-diameter-px 0", "--particle-diameter-px 0"),
            ("--scale -1", "--scale -1"),
            ("--flip xw", "--flip xw"),
            ("--size 10by20", "--size 10by20"),
            ("--unbinned-size 40x40x20", "--unbinned-pixel-size and"),
            ("--unbinned-pixel-size 1.2 --unbinned-size 40x40", "--unbinned-size 40x40"),
        ],
    )
    def test_refusals(self, points: Path, tmp_path: Path, options: str, told: str) -> None:
        assert told in run(f"convert {points} {tmp_path / 'out.csv'} {options}")
        assert not (tmp_path / "out.csv").exists()

    def test_a_volume_gives_size_and_voxel_size(self, points: Path, tmp_path: Path) -> None:
        volume, star = tmp_path / "ts_01.mrc", tmp_path / "out.star"
        write_logits(volume, np.zeros((8, 30, 20), np.float32), Geometry(voxel_size=(9.0,) * 3), label="test")
        run(f"convert {points} {star} --tomogram {volume} --flip x")
        assert "9.0" in star.read_text()
        (picks,) = read_picks(star).values()
        np.testing.assert_allclose(picks.centers, [[5, 4, 16], [6, 20, 9]])  # x: 19 - 3, 19 - 10

    def test_a_picture_gives_its_size(self, tmp_path: Path) -> None:
        picture, points, box = tmp_path / "m.png", tmp_path / "m.csv", tmp_path / "m.box"
        Image.fromarray(np.zeros((30, 20), np.uint8)).save(picture)
        points.write_text("x,y\n3,4\n")
        run(f"convert {points} {box} --image {picture} --flip y --particle-diameter-px 4")
        (picks,) = read_picks(box).values()
        np.testing.assert_allclose(picks.centers, [[25, 3]])  # y: 29 - 4


class TestRelion:
    def test_a_frame_of_two_options(self) -> None:
        frames = RelionOptions(unbinned_pixel_size=1.5, unbinned_size=(400, 300, 200)).frames()
        assert frames is not None
        assert frames[""].size == (200, 300, 400)
        assert frames[""].pixel_size == 1.5

    def test_none_of_none(self) -> None:
        assert RelionOptions().frames() is None

    @pytest.mark.parametrize(("pixel_size", "size"), [(1.5, None), (None, (4, 3, 2))])
    def test_one_of_two_is_refused(self, pixel_size: float | None, size: tuple[int, int, int] | None) -> None:
        with pytest.raises(ConfigError, match="--unbinned-size are needed together"):
            RelionOptions(unbinned_pixel_size=pixel_size, unbinned_size=size).frames()


class TestSegment:
    @pytest.mark.parametrize(
        ("model", "told"),
        [
            ("particle-tiny", "particle-tiny: is a model for prompt-sam, not for membranes; use one of"),
            ("absent", "--model absent: no such file; give a packaged model, or one of"),
        ],
    )
    def test_a_model_that_segments_no_membranes(self, tmp_path: Path, model: str, told: str) -> None:
        write_logits(
            tmp_path / "tomogram.mrc",
            np.zeros((2, 8, 8), np.float32),
            Geometry(voxel_size=(10.0, 10.0, 10.0)),
            label="tomogram",
        )
        assert told in run(f"segment {tmp_path / 'tomogram.mrc'} -o {tmp_path} --model {model}")


class TestEvaluate:
    def test_metrics(self) -> None:
        assert read_metrics("all", option="--metrics") == tuple(Metric)
        first, second = list(Metric)[:2]
        assert read_metrics(f"{second}, {first},", option="--metrics") == (second, first)
        with pytest.raises(ConfigError, match="--metrics beauty: unknown"):
            read_metrics(f"{first},beauty", option="--metrics")

    def test_methods(self) -> None:
        assert named_methods("ours", "a", ["theirs=b"]) == {"ours": "a", "theirs": "b"}
        for wrong in ("theirs", "=b", "theirs="):
            with pytest.raises(ConfigError, match="give NAME=PRED"):
                named_methods("ours", "a", [wrong])
        with pytest.raises(ConfigError, match="the name ours is used already"):
            named_methods("ours", "a", ["ours=b"])

    def test_models_by_name_or_file(self) -> None:
        assert ModelChoice().named("membrane-tiny").name is ModelName.MEMBRANE_TINY
        assert ModelChoice().named("mine.safetensors").model_file == Path("mine.safetensors")

    def test_a_shape_is_whole_numbers(self, tmp_path: Path) -> None:
        for path in ("a.csv", "b.csv"):
            (tmp_path / path).write_text("x,y,z\n3,4,5\n")
        told = run(f"evaluate picks {tmp_path}/a.csv {tmp_path}/b.csv --radius 3px --shape 10,ten,10")
        assert "--shape 10,ten,10: give whole numbers" in told

    @pytest.mark.parametrize("option", ["--shard 1/2", "--dry-run"])
    def test_a_part_needs_a_folder_of_scores(self, tmp_path: Path, option: str) -> None:
        told = run(f"evaluate segmentation {tmp_path} {tmp_path} {option}")
        assert "needs --scores" in told


class TestConsole:
    def console(self, *, terminal: bool, **options: Any) -> BatchConsole:
        console = BatchConsole(**options)
        console.err = Console(
            record=True,
            force_terminal=terminal,
            width=100,
            file=io.StringIO(),
            highlight=False,
            soft_wrap=True,
        )
        return console

    def test_a_terminal_has_one_bar_per_stage(self) -> None:
        console = self.console(terminal=True)
        console.start()
        for stage in ("first", "second"):
            for done in range(4):
                console(StageProgress(name="ts_01", stage=stage, done=done, total=3))
        progress = console._progress
        assert progress is not None
        (task,) = progress.tasks
        assert task.description == "ts_01 second"
        assert (task.completed, task.total) == (3, 3)
        console.stop()
        assert console._progress is None

    def test_a_quiet_one_tells_warnings_and_errors_only(self) -> None:
        console = self.console(terminal=False, quiet=True)
        console.start()
        console(StageProgress(name="ts_01", stage="first", done=1, total=1))
        console(Note(text="a note"))
        console(Warn(text="a warning [bold]"))
        console(Row(name="ts_01", status=Status.FAILED, message="broken"))
        console(Row(name="ts_02", status=Status.DONE))
        told = console.err.export_text()
        assert told.splitlines() == ["Warning: a warning [bold]", "Error: broken"]

    @pytest.mark.parametrize("terminal", [True, False])
    def test_other_programs_read_one_line_of_json_per_event(self, terminal: bool) -> None:
        console = self.console(terminal=terminal, progress=ProgressStyle.JSON)
        console.start()
        console(StageProgress(name="ts_01", stage="stage 1", done=3, total=7))
        console(Note(text="a [bold] :smile:\nnote of " + 30 * "many words "))
        console(Note(text="a detail", detail=True))
        console(Warn(text="a warning"))
        console(Row(name="ts_01", status=Status.DONE, outputs=(Path("a.mrc"),), seconds=1.5))
        first, note, *rest = map(json.loads, console.err.export_text().splitlines())
        assert first == {
            "event": "progress",
            "name": "ts_01",
            "stage": "stage 1",
            "done": 3,
            "total": 7,
            "unit": "slices",
        }
        assert note["text"].startswith("a [bold] :smile:\nnote of many")
        assert [one["event"] for one in rest] == ["warning", "row"]
        assert rest[1]["status"] == "done"
        assert rest[1]["outputs"] == ["a.mrc"]

    @pytest.mark.parametrize(("style", "told"), [("plain", ["ts_01 a: 1/1 slices"]), ("none", [])])
    def test_progress_is_plain_or_left_out_on_a_terminal(self, style: str, told: list[str]) -> None:
        console = self.console(terminal=True, progress=ProgressStyle(style))
        console.start()
        console(StageProgress(name="ts_01", stage="a", done=1, total=1))
        assert console._progress is None
        assert [line.split(" (")[0] for line in console.err.export_text().splitlines()] == told

    def test_details_are_for_the_verbose(self) -> None:
        for verbose in (False, True):
            console = self.console(terminal=False, verbose=verbose)
            console(Note(text="detail", detail=True))
            assert ("detail" in console.err.export_text()) == verbose


class TestMain:
    def test_the_version(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setattr(sys, "argv", ["cryoseg", "--version"])
        with pytest.raises(SystemExit) as left:
            main()
        assert left.value.code == 0
        assert capsys.readouterr().out == f"cryoseg {cryoseg.__version__}\n"

    def test_an_error_is_one_sentence(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        monkeypatch.setattr(
            sys, "argv", ["cryoseg", "convert", str(tmp_path / "no.csv"), str(tmp_path / "a.csv")]
        )
        with pytest.raises(SystemExit) as left:
            main()
        assert left.value.code == 1
        told = capsys.readouterr().err
        assert told.startswith("Error: ")
        assert "no.csv" in told
        assert told.count("\n") == 1
