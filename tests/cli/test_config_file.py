"""`--config FILE.toml`, the same in every command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer

from cryoseg.cli.app import app
from cryoseg.cli.config_file import find_command, read_invocation, with_options
from cryoseg.config import Polarity, PostprocessStep
from cryoseg.errors import ConfigError

ROOT: Any = typer.main.get_command(app)


@pytest.fixture
def parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs a command line on the text of a file and returns what its function would have been given."""

    def run(words: str, toml: str, *arguments: str) -> dict[str, Any]:
        given: dict[str, Any] = {}
        command = ROOT
        for word in words.split():
            command = command.commands[word]
        monkeypatch.setattr(command, "callback", lambda **values: given.update(values))
        file = tmp_path / "settings.toml"
        file.write_text(toml)
        ROOT.main([*words.split(), "--config", str(file), *arguments], "cryoseg", standalone_mode=False)
        return given

    return run


def leaves(group: Any, words: tuple[str, ...] = ()):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from leaves(command, (*words, name))
        else:
            yield " ".join((*words, name)), command


def test_every_command_takes_it() -> None:
    found = dict(leaves(ROOT))
    assert {"segment", "pick", "train membrane", "weights path", "sample tomogram"} <= set(found)
    for words, command in found.items():
        names = [name for parameter in command.params for name in parameter.opts]
        assert names.count("--config") == 1, words


def test_flat_keys_tables_and_the_command_line_in_rising_order(parsed) -> None:
    toml = """
        device = "cpu"
        min_slices = 3
        [segment]
        device = "cuda"
        polarity = "bright"
        [pick]
        no-such-option = "is not read for segment"
    """.replace("min_slices", "post_process_min_slices")
    given = parsed("segment", toml, "a.mrc")
    assert given["device"] == "cuda"
    assert given["post_process_min_slices"] == 3
    assert given["polarity"] is Polarity.BRIGHT
    assert parsed("segment", toml, "a.mrc", "--device", "mps")["device"] == "mps"


def test_values_become_what_the_command_line_would_have_made_of_them(parsed) -> None:
    given = parsed(
        "segment",
        """
        inputs = ["a.mrc", "b.mrc"]
        output-dir = "masks"
        apix = 12
        post-process = true
        step = ["thin-noise", "bridges"]
        views = "forward"
        logit-threshold = -1.5
        stage1_prompt = "grid_zero"
        """,
    )
    assert given["inputs"] == ["a.mrc", "b.mrc"]
    assert given["output_dir"] == Path("masks")
    assert given["pixel_size"] == 12.0
    assert given["post_process"] is True
    assert given["step"] == [PostprocessStep.THIN_NOISE, PostprocessStep.BRIDGES]
    assert len(given["views"]) == 1
    assert given["logit_threshold"] == -1.5
    assert given["stage1_prompt"] == "grid-zero"
    assert "config" not in given


def test_a_list_on_the_command_line_replaces_the_list_of_the_file(parsed) -> None:
    given = parsed("segment", 'step = ["thin-noise", "bridges"]', "a.mrc", "--step", "bridges")
    assert given["step"] == [PostprocessStep.BRIDGES]


def test_a_required_option_may_come_from_the_file(parsed) -> None:
    given = parsed("simulate tomograms", '[simulate.tomograms]\noutput_dir = "sim"\ncount = 4')
    assert given["output_dir"] == Path("sim")
    assert given["count"] == 4


def test_a_group_s_table_is_for_all_its_commands(parsed) -> None:
    toml = "[simulate]\nseed = 5\n[simulate.micrographs]\ncount = 9\n"
    assert parsed("simulate tomograms", toml, "-o", "x")["seed"] == 5
    assert parsed("simulate tomograms", toml, "-o", "x")["count"] == 1
    assert parsed("simulate micrographs", toml, "-o", "x")["count"] == 9


@pytest.mark.parametrize(
    ("words", "toml", "told"),
    [
        (
            "segment",
            "pixel-sise = 12",
            "`cryoseg segment` has no option pixel-sise; the nearest is pixel-size",
        ),
        ("segment", "[segmnt]\ndevice = 'cpu'", "has no option segmnt; the nearest is segment"),
        ("postprocess", "device = 'cpu'", "`cryoseg postprocess` has no option device; the nearest is "),
        (
            "train membrane",
            "[train.membrane]\nstep = 3",
            "no option train.membrane.step; the nearest is steps",
        ),
        ("segment", "config = 'other.toml'", "no option config"),
        ("segment", "help = true", "no option help"),
        ("segment", "pixel-size = 'thick'", "pixel-size = 'thick'"),
        ("segment", "post-process-min-slices = 2.5", "post-process-min-slices = 2.5"),
        ("segment", "post-process = 'yes'", "write true or false"),
        ("segment", "pixel-size = true", "write a number or a text in quotes"),
        ("segment", "pixel-size = [1, 2]", "takes one value, not a list"),
        ("segment", "apix = 2\npixel_size = 3", "apix and pixel_size are one option"),
        ("segment", "preset = 'v3'", "preset = 'v3'"),
        ("segment", "device = 2026-01-01", "write a number or a text in quotes"),
        ("segment", "device = ", "is not TOML"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(parsed, tmp_path, words, toml, told) -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(words, toml, "a.mrc")
    assert told in str(caught.value)
    assert str(tmp_path / "settings.toml") in str(caught.value)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read"):
        ROOT.main(["segment", "--config", str(tmp_path / "nowhere.toml")], standalone_mode=False)


COMMAND_LINES = (
    "segment /a.mrc /b.mrc --stage1-prompt grid_zero --views forward --views backward --normalize softplus "
    "--step bridges --polarity bright --precision bfloat16 --naming etsam --pixel-size 7.1 --mode0 signed",
    "pick /a.mrc -f star -f box --no-preview --mask /m.mrc --filaments --relion-center half --border 1e-3",
    "postprocess /a.mrc --no-steps --logit-threshold -0.25",
    "segment-image /a.png --model /m.safetensors --base /b.pth --morphology open --no-prepare",
    "simulate tomograms -o /out --snr 0.1:0.3 --recipe heldout -n 7 --first 2 --prefix a",
    "simulate micrographs -o /out --particle-diameter-px 30",
    "simulate phantoms -o /out --particle-diameter 100 --particle-diameter 200 --projection",
    "evaluate segmentation /p /t --tolerance 30A --tolerance 1vox --also a=/q --region /r --model-output /o",
    "evaluate picks /p /t --radius 0.5R --shape 1,2,3 --also a=/q --model-output /o",
)


@pytest.mark.parametrize("line", COMMAND_LINES, ids=lambda line: " ".join(line.split()[:2]))
def test_the_options_of_a_record_are_those_of_the_command_line(line: str) -> None:
    words = [word for word in line.split()[:2] if not word.startswith("/")]
    with ROOT.make_context("cryoseg", ["doctor"]) as root:
        bare = find_command(root, " ".join(words), source=Path("r.json"))
        first = bare.command.make_context(words[-1], line.split()[len(words) :], parent=bare.parent)
        invocation = read_invocation(first)
        assert invocation.command == " ".join(words)
        options = json.loads(json.dumps(invocation.options))
        own = {"output-dir": "/out"} if words[0] == "simulate" else {}
        again = with_options(bare, options | own, source=Path("r.json"))
    assert again.params == first.params


def test_paths_of_a_record_are_absolute_and_options_of_the_run_are_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    line = "a.mrc --mask m/m.mrc --tomograms-star ~/t.star --contact-sheet --no-preview --shard 1/2"
    with ROOT.make_context("cryoseg", ["doctor"]) as root:
        bare = find_command(root, "pick", source=Path("r.json"))
        options = read_invocation(bare.command.make_context("pick", line.split(), parent=root)).options
    assert options["mask"] == str(tmp_path / "m" / "m.mrc")
    assert options["tomograms-star"] == "/home/someone/t.star"
    assert options["preview"] is True  # the contact sheet of the batch needs it
    assert not {"contact-sheet", "shard", "output-dir", "overwrite"} & set(options)
