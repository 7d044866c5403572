"""What the training commands, `view` and `evaluate testset` hand to the pipelines, without any training."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner as ClickRunner
from click.testing import Result
from typer.main import get_command
from typer.testing import CliRunner

from cryoseg.cli.app import app
from cryoseg.config.common import Precision
from cryoseg.config.segment import Polarity, ViewConfig
from cryoseg.config.train import (
    ClipConfig,
    ClipPrompts,
    LoopConfig,
    Part,
    TrainMembraneConfig,
    TrainSam2Config,
    etsam_loop,
)
from cryoseg.config.train_sam import PretrainConfig, PromptMethod, SampleConfig, TrainView
from cryoseg.errors import ConfigError
from cryoseg.methods.training.processes import ALONE

PAIRS = (["train_0", "train_1"], ["held_out"])


class Call:
    """Stands for a pipeline: keeps what it was given, and answers with one value."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.given: tuple[Any, ...] = ()
        self.named: dict[str, Any] = {}
        self.count = 0

    def __call__(self, *given: Any, **named: Any) -> Any:
        self.given, self.named, self.count = given, named, self.count + 1
        return self.answer


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Call]:
    """Put a `Call` in the place of `module.function`."""

    def put(place: str, answer: Any = None) -> Call:
        call = Call(answer)
        monkeypatch.setattr(f"cryoseg.{place}", call)
        return call

    return put


def run(line: str) -> Result:
    return CliRunner().invoke(app, shlex.split(line))


def succeed(line: str) -> Result:
    result = run(line)
    assert result.exception is None, result.exception
    assert result.exit_code == 0
    return result


class TestOneStageOfMembraneTiny:
    @pytest.fixture(autouse=True)
    def pipelines(self, stand_in: Callable[..., Call]) -> None:
        self.launch = stand_in("methods.training.processes.launch", ALONE)
        self.split = stand_in("methods.membranes.split_pairs", PAIRS)
        self.start = stand_in("methods.membrane_tiny.train.load_start", {"weights": 0})
        self.logits = stand_in("methods.membrane_tiny.train.write_logits_of_run")
        self.stage = stand_in("methods.membrane_tiny.train.train_stage")

    def test_defaults_are_those_of_the_configuration(self, tmp_path: Path) -> None:
        succeed(f"train membrane mine --stage 1 -o {tmp_path / 'run'} --device cpu --quiet")
        config, data, folder = self.stage.given
        default = TrainMembraneConfig(stage=1)
        assert config == replace(default, loop=replace(default.loop, warmup_steps=config.loop.warmup_steps))
        assert config.loop.warmup_steps == min(LoopConfig.warmup_steps, LoopConfig.steps // 10)
        assert (data.training, data.held_out) == PAIRS
        assert folder == tmp_path / "run"
        assert self.stage.named["start"] is None
        assert data.logits is None
        assert data.polarity is Polarity.DARK
        assert self.split.given == (["mine"], ())
        assert self.logits.count == 0

    def test_every_option_arrives(self, tmp_path: Path) -> None:
        succeed(
            f"train membrane mine more --stage 1 -o {tmp_path} --validation other --steps 50 --learning-rate "
            "0.002 --batch 3 --clip-length 5 --crop-size 96 --validate-every 25 --max-minutes 7 "
            "--seed 11 --polarity as-is --start membrane-tiny --tensorboard --device cpu -q"
        )
        config = self.stage.given[0]
        assert config.clip == ClipConfig(length=5, size=96, batch=3)
        assert (config.loop.steps, config.loop.learning_rate, config.loop.seed) == (50, 0.002, 11)
        assert (config.loop.validate_every, config.loop.max_minutes) == (25, 7.0)
        assert config.loop.warmup_steps == 5
        assert self.split.given == (["mine", "more"], ("other",))
        assert self.split.named["seed"] == 11
        assert self.start.given == (Path("membrane-tiny"), 1)
        assert self.stage.named["start"] == {"weights": 0}
        assert self.stage.given[1].polarity is Polarity.AS_IS
        assert self.stage.named["runtime"].tensorboard is True

    def test_stage_2_learns_from_the_logits_of_stage_1(self, tmp_path: Path) -> None:
        first = tmp_path / "first"
        first.mkdir()
        (first / "best.pt").write_bytes(b"weights")
        succeed(
            f"train membrane mine --stage 2 --stage1 {first} -o {tmp_path / 'second'} --clip-length 4 "
            "--device cpu --quiet"
        )
        config, stage1, data, _ = self.logits.given
        assert (config.stage, config.clip.length, stage1) == (1, 4, first)
        assert data == self.stage.given[1]
        assert (data.training, data.held_out) == PAIRS
        assert data.logits.parent == tmp_path / "second" / "stage1_logits"
        assert self.start.given == (first / "best.pt", 1)
        assert self.stage.given[0].stage == 2

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ("--stage 2", "--stage1"),
            ("--stage1 runs/1", "--stage 2"),
            ("--stage 1 --stage2-steps 3", "--stage2-steps"),
            ("--stage 1 --model-card '{}'", "--model-card"),
            ("--devices 2", "--devices"),
        ],
    )
    def test_options_that_do_not_fit_are_refused(self, tmp_path: Path, options: str, words: str) -> None:
        told = run(f"train membrane mine -o {tmp_path / 'run'} --device cpu -q {options}")
        assert isinstance(told.exception, ConfigError)
        assert words in str(told.exception)
        assert self.stage.count == 0


class TestStagesOfEtsam:
    @pytest.fixture(autouse=True)
    def pipelines(self, stand_in: Callable[..., Call]) -> None:
        self.launch = stand_in("methods.training.processes.launch", ALONE)
        self.split = stand_in("methods.membranes.split_pairs", PAIRS)
        self.logits = stand_in("methods.etsam.train.write_sam2_logits")
        self.stage = stand_in("methods.etsam.train.train_sam2_stage")

    def test_defaults_are_the_published_ones(self, tmp_path: Path) -> None:
        succeed(f"train etsam-stage1 mine -o {tmp_path} --device cpu -q")
        config = self.stage.given[0]
        assert config == TrainSam2Config(stage=1, loop=etsam_loop(1, batch=config.clip.batch))
        assert self.stage.given[1].polarity is Polarity.AS_IS
        assert self.stage.given[1].logits is None
        assert self.split.named["seed"] == 123

    def test_every_option_arrives(self, tmp_path: Path) -> None:
        succeed(
            f"train etsam-stage1 mine -o {tmp_path} --prompts inference --freeze "
            "image-encoder --freeze prompt-encoder --precision bfloat16 --sam2-config "
            "sam2.1/sam2.1_hiera_t --steps 9 --batch 2 --clip-length 3 --devices 2 --start a.pt "
            "--device cpu -q"
        )
        config = self.stage.given[0]
        assert config.prompts is ClipPrompts.INFERENCE
        assert config.freeze == (Part.IMAGE_ENCODER, Part.PROMPT_ENCODER)
        assert config.precision is Precision.BFLOAT16
        assert config.sam2_config == "sam2.1/sam2.1_hiera_t"
        assert (config.loop.steps, config.clip.batch, config.clip.length) == (9, 2, 3)
        assert self.launch.given[0] == 2
        assert self.stage.named["start"] == Path("a.pt")

    def test_the_recipe_of_older_command_lines(self, tmp_path: Path) -> None:
        succeed(f"train etsam-stage1 mine -o {tmp_path} --recipe etsam --device cpu -q")
        told = run(f"train etsam-stage1 mine -o {tmp_path} --recipe membrane-tiny --device cpu -q")
        assert isinstance(told.exception, ConfigError)
        assert "cryoseg train membrane" in str(told.exception)
        assert self.stage.count == 1

    @pytest.mark.parametrize("kind", ["a run", "a checkpoint"])
    def test_stage_2_takes_a_run_or_a_checkpoint(self, tmp_path: Path, kind: str) -> None:
        first = tmp_path / "first"
        checkpoint = first / "best.pt" if kind == "a run" else first
        checkpoint.parent.mkdir(exist_ok=True)
        checkpoint.write_bytes(b"weights")
        succeed(f"train etsam-stage2 mine --stage1 {first} -o {tmp_path / 'second'} --device cpu --quiet")
        config, taken, data, _ = self.logits.given
        assert taken == checkpoint
        assert data == self.stage.given[1]
        assert (data.training, data.held_out) == PAIRS
        assert data.logits.parent == tmp_path / "second" / "stage1_logits"
        assert config.stage == self.stage.given[0].stage == 2


class TestMembraneModel:
    def test_stage_2_takes_half_the_steps_and_half_the_rate(
        self, stand_in: Callable[..., Call], tmp_path: Path
    ) -> None:
        stand_in("methods.membranes.split_pairs", PAIRS)
        train = stand_in("methods.membrane_tiny.train.train_membrane", tmp_path / "model.safetensors")
        told = succeed(
            f"train membrane mine -o {tmp_path} --steps 100 --learning-rate 0.001 "
            '--model-card \'{"data": "mine"}\' --device cpu --seed 4 -q'
        )
        first, second = train.given[0]
        assert (first.stage, first.loop.steps, first.loop.learning_rate) == (1, 100, 0.001)
        assert (second.stage, second.loop.steps, second.loop.learning_rate) == (2, 50, 0.0005)
        assert first.loop.seed == second.loop.seed == 4
        assert train.named["card"] == {"data": "mine"}
        assert "Stopped" not in told.output

    def test_a_run_that_is_out_of_time_says_so(self, stand_in: Callable[..., Call], tmp_path: Path) -> None:
        stand_in("methods.membranes.split_pairs", PAIRS)
        train = stand_in("methods.membrane_tiny.train.train_membrane", None)
        told = succeed(
            f"train membrane mine -o {tmp_path} --steps 10 --stage2-steps 3 --max-minutes 0.1 --device cpu"
        )
        assert train.given[0][1].loop.steps == 3
        assert "Run the same command again to continue" in told.output

    def test_two_runs_are_packed(self, stand_in: Callable[..., Call], tmp_path: Path) -> None:
        stand_in("methods.membranes.find_pairs", ["pair"])
        logits = stand_in("methods.membrane_tiny.train.write_logits_of_run")
        package = stand_in("methods.membrane_tiny.train.package", (-0.25, 0.8765))
        for stage in (1, 2):
            config = TrainMembraneConfig(stage=stage, clip=ClipConfig(length=6)).to_dict()
            run = tmp_path / str(stage)
            run.mkdir()
            (run / "config.json").write_text(json.dumps({"config": config, "polarity": "bright"}))
            (run / "best.pt").write_bytes(b"weights")
        first, second = tmp_path / "1", tmp_path / "2"
        told = succeed(
            f"train package --stage1 {first} --stage2 {second} --validation val "
            f"-o {tmp_path / 'mine.safetensors'}"
        )
        assert "threshold -0.250, validation Dice 0.8765" in told.output
        configs, runs, data, output = package.given
        assert [config.stage for config in configs] == [1, 2]
        assert all(config.clip.length == 6 for config in configs)
        assert runs == (first, second)
        assert data.polarity is Polarity.BRIGHT
        assert data.held_out == ["pair"]
        assert data == logits.given[2]
        assert data.logits.parent == second / "stage1_logits"
        assert output == tmp_path / "mine.safetensors"


class TestSams:
    def test_pretraining(self, stand_in: Callable[..., Call], tmp_path: Path) -> None:
        stand_in("methods.particles.train.split_micrographs", PAIRS)
        pretrain = stand_in("methods.particles.train.pretrain", None)
        told = succeed(
            f"train sam simulated -o {tmp_path} --steps 40 --batch 2 --prompts 1 --seed 3 --device cpu"
        )
        config = pretrain.given[0]
        default = PretrainConfig()
        assert (config.loop.steps, config.loop.warmup_steps, config.loop.seed) == (40, 4, 3)
        assert config.loop.learning_rate == default.loop.learning_rate
        assert config.sample == replace(default.sample, batch=2)
        assert config.prompts == 1
        assert "Run the same command again to continue" in told.output

    @pytest.fixture
    def train(self, stand_in: Callable[..., Call]) -> Call:
        stand_in("methods.particles.train.split_micrographs", PAIRS)
        return stand_in("cli.train.sam._train_on_micrographs")

    def test_blocks_and_parts_to_tune(self, train: Call, tmp_path: Path) -> None:
        succeed(
            f"train finetune mine -o {tmp_path} --base particle-tiny --tuned-blocks 4,5 "
            "--tune-prompt-encoder --steps 7 --batch 2 --device cpu -q"
        )
        config = train.given[0]
        assert config.prompt.method is PromptMethod.FINETUNE
        assert config.prompt.tuned_blocks == (4, 5)
        assert config.prompt.tune_prompt_encoder
        assert (config.loop.steps, config.sample.batch) == (7, 2)

    def test_adapters_in_some_blocks(self, train: Call, tmp_path: Path) -> None:
        succeed(
            f"train encoder-prompt mine -o {tmp_path} --base particle-tiny --train-decoder --blocks "
            "0,2 --device cpu --quiet"
        )
        prompt = train.given[0].prompt
        assert prompt.method is PromptMethod.ENCODER
        assert prompt.blocks == (3, 0, 3, 0, 0, 0)
        assert prompt.train_decoder

    def test_numbers_are_written_with_commas(self, train: Call, tmp_path: Path) -> None:
        told = run(f"train finetune mine -o {tmp_path} --base particle-tiny --tuned-blocks a")
        assert isinstance(told.exception, ConfigError)
        assert "numbers with commas" in str(told.exception)

    @pytest.mark.parametrize("option", ["--whole-image", "--faithful"])
    def test_whole_images_need_a_published_sam(
        self, stand_in: Callable[..., Call], tmp_path: Path, option: str
    ) -> None:
        stand_in("methods.particles.train.split_micrographs", PAIRS)
        train = stand_in("methods.particles.train.train_prompt")
        told = run(f"train head-prompt mine -o {tmp_path} --base particle-tiny {option}")
        assert isinstance(told.exception, ConfigError)
        assert "published SAM" in str(told.exception)
        assert train.count == 0

    def test_whole_images(
        self, train: Call, stand_in: Callable[..., Call], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        from cryoseg.methods.particles.files import load_base
        from cryoseg.methods.weights import find_weights

        # A base without a recipe is taken for a published SAM.
        geometry = load_base(find_weights("particle-tiny"))[0]
        stand_in("methods.particles.files.load_base", (geometry, None, {}))
        succeed(f"train head-prompt mine -o {tmp_path} --base particle-tiny --whole-image -q")
        sample = train.given[0].sample
        assert sample == SampleConfig.plain(batch=sample.batch)
        assert sample.view is TrainView.WHOLE


REPEATABLE = {
    "etsam-stage1": "mine more --validation other --steps 50 --learning-rate 2e-5 --seed 11 --polarity "
    "as-is --freeze image-encoder --freeze prompt-encoder",
    "membrane": 'mine --stage2-steps 7 --start membrane-tiny --model-card \'{"data": "rings"}\'',
    "finetune": "mine --base particle-tiny --tuned-blocks 4,5 --tune-prompt-encoder --batch 2",
    "sam": "simulated --steps 40 --prompts 1",
    "cet-pick": "--tomograms a.mrc --tomograms b.mrc --picks p.star --particle-diameter 160 "
    "--preset filament",
}


@pytest.mark.parametrize("name", REPEATABLE)
def test_the_options_of_a_run_are_read_back_as_they_were(name: str, tmp_path: Path) -> None:
    program: Any = get_command(app)
    seen: list[dict[str, Any]] = []
    program.commands["train"].commands[name].callback = lambda **values: seen.append(values)
    for number, words in enumerate((REPEATABLE[name], f"--config {tmp_path}/0/command.toml")):
        folder = tmp_path / str(number)
        folder.mkdir()
        told = ClickRunner().invoke(program, shlex.split(f"train {name} {words} -o {folder}"))
        assert told.exit_code == 0, told.output
    first, again = seen
    assert {**first, "output_dir": None} == {**again, "output_dir": None}


class TestView:
    def test_options_arrive(self, stand_in: Callable[..., Call], tmp_path: Path) -> None:
        write = stand_in("pipelines.view.volume.write_view")
        succeed(
            f"view {tmp_path / 'tomo.mrc'} --logits {tmp_path / 'l.mrc'} --bin 3 --quiet "
            "--logit-threshold 0.5 --post-process-min-slices 12 --pixel-size 10 --pick-diameter 150"
        )
        sources, output, config = write.given
        assert (sources.tomogram, sources.logits) == (tmp_path / "tomo.mrc", tmp_path / "l.mrc")
        assert (sources.mask, sources.picks) == (None, None)
        assert output == Path("tomo_view.html")
        assert config == ViewConfig(
            binning=3, logit_threshold=0.5, min_slices=12, pixel_size=10.0, pick_diameter_angstrom=150.0
        )
        assert write.named["overwrite"] is False
