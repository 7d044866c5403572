"""ProMISe on micrographs: what is trained, what stays, and what may run without a truth."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from cryoseg.cli.app import app, main
from cryoseg.config.prompt_sam import (
    FreezeType,
    InputScale,
    PromiseConfig,
    PromptConfig,
    Prompter,
    PromptMethod,
)
from cryoseg.config.train import LoopConfig
from cryoseg.config.train_sam import SamLoss, SampleConfig, TrainSamConfig
from cryoseg.errors import ConfigError, WeightsError
from cryoseg.io.picks.picks import read_picks
from cryoseg.methods.model_file import read_model_metadata, read_model_tensors
from cryoseg.methods.particles.files import ParticleRecipe, adapt, read_particle_file, save_particle_model
from cryoseg.methods.particles.fit import TrainedPart, sam_loss, truth_points
from cryoseg.methods.particles.model import load_particle_model
from cryoseg.methods.particles.train import MicrographData, split_micrographs, train_prompt
from cryoseg.methods.particles.trained import ModelOutput
from cryoseg.methods.promise.network import PromiseSam
from cryoseg.methods.prompt_sam.network import PromptSam
from cryoseg.methods.sam.geometry import SamGeometry
from cryoseg.methods.training.learner import Learner
from cryoseg.methods.training.loop import TrainingLoop

RUNNER = CliRunner()
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("micrographs")
    for sub in ("images", "labels"):
        (folder / sub).mkdir()
    y, x = np.mgrid[:128, :128]
    mask = np.hypot((y % 64) - 32, (x % 64) - 32) < 12
    for seed, name in enumerate("abc"):
        noise = np.random.default_rng(seed).normal(0, 20, mask.shape)
        grey = np.clip(150 + noise - 60 * mask, 0, 255).astype(np.uint8)
        Image.fromarray(grey).save(folder / "images" / f"{name}.png")
        Image.fromarray(mask).save(folder / "labels" / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def base(small_sam: SamGeometry, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = PromptSam(small_sam, PromptConfig(input_scale=InputScale.GREY, grid_side=4))
    path = tmp_path_factory.mktemp("base") / "small_sam.safetensors"
    save_particle_model(
        path, network, ParticleRecipe(image_size=64, particle_pixels=12.0, overlap=8), base=None
    )
    return path


def split(data: Path) -> MicrographData:
    training, held_out = split_micrographs([str(data)], [], seed=0)
    return MicrographData(training=training, held_out=held_out)


def settings(steps: int = 3, batch: int = 2, **promise: object) -> TrainSamConfig:
    config = PromiseConfig(**{"points": 4, **promise})  # type: ignore[arg-type]
    return TrainSamConfig(
        prompt=PromptConfig(method=PromptMethod.PROMISE, promise=config),
        loop=LoopConfig(
            steps=steps,
            warmup_steps=1,
            learning_rate=3e-3,
            validate_every=steps,
            checkpoint_every=2,
            ema_decay=0.5,
        ),
        sample=SampleConfig(batch=batch),
    )


def hashes(state: dict[str, Tensor]) -> dict[str, str]:
    return {
        name: hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()
        for name, value in state.items()
    }


def test_training_leaves_every_byte_of_sam_as_it_was(data: Path, base: Path, tmp_path: Path) -> None:
    material = split(data)
    trained = train_prompt(settings(), base, material, tmp_path, output=ModelOutput(standalone=True))
    assert trained is not None
    before, after = hashes(read_model_tensors(base)), hashes(read_model_tensors(trained.path))
    assert len(before) > 50
    assert {name: value for name, value in after.items() if name.startswith("sam.")} == before
    learned = read_model_tensors(trained.path)
    assert learned["ips_ffn.lin2.weight"].abs().sum() > 0
    # The statistics of the batch normalization belong to what was learned, in full precision.
    assert learned["apm_resnet.bn1.num_batches_tracked"] == 3
    assert learned["apm_resnet.bn1.running_mean"].dtype == torch.float32
    assert learned["apm_resnet.bn1.running_mean"].abs().sum() > 0
    assert read_model_metadata(trained.path)["prompt"]["promise"]["points"] == 4


@pytest.mark.parametrize("kind", list(FreezeType))
def test_what_is_not_freed_keeps_every_bit_while_the_rest_learns(
    kind: FreezeType, small_sam: SamGeometry, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    config = settings(freeze=kind).prompt
    network = PromiseSam(small_sam, replace(config, input_scale=InputScale.GREY))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    part = TrainedPart(network)
    images, target = torch.randn(2, 1, 64, 64), (torch.rand(2, 32, 32) > 0.5).float()

    def loss(step: int) -> Tensor:
        return sam_loss(network(images)[0][:, 0], target).mean()

    loop = LoopConfig(steps=2, warmup_steps=0, learning_rate=1e-2, checkpoint_every=2)
    learner = Learner(network=part, loss=loss, clip_together=part.clip_together)
    list(TrainingLoop(learner, loop, tmp_path, record={}).run())
    changed = {n for n, value in network.state_dict().items() if not torch.equal(value, before[n])}
    learned = {name.split(".")[1] for name in changed if name.startswith("sam.")}
    assert (
        learned
        == {
            FreezeType.ALL: set(),
            FreezeType.PROMPT_ENCODER_FREE: {"prompt_encoder"},
            FreezeType.MASK_DECODER_FREE: {"mask_decoder"},
            FreezeType.PROMPTS_AND_DECODER_FREE: {"prompt_encoder", "mask_decoder"},
            FreezeType.NOTHING: {"prompt_encoder", "mask_decoder", "image_encoder"},
        }[kind]
    )
    assert {"apm_resnet.fc.weight", "ips_ffn.lin2.weight", "apm_resnet.bn1.running_mean"} <= changed


def test_freed_parts_are_kept_in_the_file_beside_the_name_of_their_sam(
    data: Path, base: Path, tmp_path: Path
) -> None:
    material = split(data)
    config = settings(steps=1, freeze=FreezeType.MASK_DECODER_FREE)
    trained = train_prompt(config, base, material, tmp_path)
    assert trained is not None
    kept = read_model_tensors(trained.path)
    assert {name.split(".")[1] for name in kept if name.startswith("sam.")} == {"mask_decoder"}
    state = read_particle_file(trained.path).network.state_dict()  # the run shows where its SAM lies
    for name, value in kept.items():
        assert torch.equal(state[name], value.float() if value.is_floating_point() else value)
    (tmp_path / "base.txt").write_text(str(tmp_path / "moved" / base.name))
    with pytest.raises(WeightsError, match=f"needs {base.name}, which is not beside it"):
        read_particle_file(trained.path)


def test_training_on_micrographs_resumes_to_the_bit(data: Path, base: Path, tmp_path: Path) -> None:
    material = split(data)
    config = settings(steps=2)
    short = replace(config, loop=replace(config.loop, checkpoint_every=1, max_minutes=1e-9))
    whole = replace(short, loop=replace(short.loop, max_minutes=None))
    for folder, plan in (("whole", whole), ("cut", short), ("cut", whole)):
        train_prompt(plan, base, material, tmp_path / folder)
    first, second = (read_model_tensors(tmp_path / n / "promise.safetensors") for n in ("whole", "cut"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_only_training_updates_running_statistics(base: Path) -> None:
    network, _, _ = adapt(base, settings().prompt)
    part = TrainedPart(network)
    assert "apm_resnet/bn1/running_mean" in part.state_dict()
    assert not any(name.startswith("sam/") for name in part.state_dict())
    images = torch.randn(2, 1, 64, 64)
    part.eval()
    network(images)
    assert network.state_dict()["apm_resnet.bn1.num_batches_tracked"] == 0
    part.train()
    network(images)
    assert part.state_dict()["apm_resnet/bn1/num_batches_tracked"] == 1


def test_points_of_the_truth_follow_from_seed_step_and_sample(base: Path) -> None:
    network, _, _ = adapt(base, settings(prompter=Prompter.GT).prompt)
    labels = np.zeros((2, 32, 32), np.int8)
    labels[:, 8:16, 20:28] = 1
    first, again, later = (truth_points(network, labels, (0, step), CPU) for step in (5, 5, 6))
    assert first is not None
    assert again is not None
    assert later is not None
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], later[0])
    assert not torch.equal(first[0][0], first[0][1])
    # Two pixels of the image for one of the labels, whose center 0 lies at 0.5.
    x, y = ((first[0] + 0.5) / 2 - 0.5).round().int().unbind(dim=-1)
    inside = torch.from_numpy(labels)[torch.arange(2)[:, None], y.long(), x.long()]
    assert torch.equal(inside.long(), first[1])
    assert truth_points(adapt(base, settings().prompt)[0], labels, (0, 5), CPU) is None


def test_a_model_that_needs_the_truth_trains_but_does_not_pick(
    data: Path, base: Path, tmp_path: Path
) -> None:
    material = split(data)
    config = settings(steps=1, batch=1, prompter=Prompter.GT)
    trained = train_prompt(config, base, material, tmp_path)
    assert trained is not None
    assert 0 <= trained.dice <= 1
    loaded = read_particle_file(trained.path, base=base)
    assert loaded.network.needs_truth
    assert loaded.card["upper_bound"] is True
    with pytest.raises(WeightsError, match="upper bound"):
        load_particle_model(trained.path, CPU, base=base).require_prompter()


def test_every_line_calls_points_from_the_truth_an_upper_bound(
    data: Path,
    base: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = tmp_path / "run"
    command = ["train", "promise", str(data), "-o", str(run), "--base", str(base), "--prompter", "gt"]
    limits = ["--points", "1", "--steps", "1", "--batch", "1", "--device", "cpu"]
    done = RUNNER.invoke(app, [*command, *limits], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    lines = [line for line in done.output.splitlines() if "Dice" in line]
    assert lines
    assert all("upper bound" in line for line in lines)
    model = run / "promise.safetensors"
    pick = ["cryoseg", "pick", str(data / "images"), "-m", str(model), "-o", str(tmp_path / "picks")]
    monkeypatch.setattr(sys, "argv", [*pick, "--particle-diameter-px", "24", "--device", "cpu"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1
    assert "upper bound" in capsys.readouterr().err


def test_a_training_micrograph_without_particles_is_refused_by_name(
    data: Path,
    base: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for sub in ("images", "labels"):
        (tmp_path / "data" / sub).mkdir(parents=True)
        for name in "ab":
            (tmp_path / "data" / sub / f"{name}.png").write_bytes((data / sub / f"{name}.png").read_bytes())
    Image.fromarray(np.zeros((128, 128), np.uint8)).save(tmp_path / "data" / "labels" / "b.png")
    command = ["cryoseg", "train", "promise", str(tmp_path / "data"), "-o", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", [*command, "--base", str(base), "--device", "cpu"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1
    assert "b.png: no particle is labelled; leave this micrograph out." in capsys.readouterr().err


def test_a_batch_too_small_for_its_normalization_is_refused(data: Path, base: Path, tmp_path: Path) -> None:
    material = split(data)
    with pytest.raises(ConfigError, match=r"--batch 1: .* needs 2 samples"):
        train_prompt(settings(batch=1), base, material, tmp_path)


def test_the_published_loss_has_a_floor_and_ours_has_none() -> None:
    target = torch.zeros(1, 8, 8)
    target[:, 2:5, 2:5] = 1
    perfect = (2 * target - 1) * 30
    assert sam_loss(perfect, target) < 1e-3
    # With p in {0, 1} its sigmoid is 0.5 or 0.731: 9 pixels of the latter, 55 of the former.
    high, low = 1 / (1 + np.exp(-1)), 0.5
    cross_entropy = -(9 * np.log(high) + 55 * np.log(low)) / 64
    dice = 2 * (9 * high + 1) / (9 * high + 55 * low + 9 + 1)
    assert float(sam_loss(perfect, target, kind=SamLoss.DOUBLE_SIGMOID)) == pytest.approx(
        cross_entropy + 1 - dice, abs=1e-5
    )


def test_the_command_trains_and_pick_takes_what_it_wrote(data: Path, base: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = ["train", "promise", str(data), "-o", str(run), "--base", str(base), "--standalone"]
    choices = ["--prompter", "apm", "--no-ips", "--points", "1", "--first-mask", "--double-sigmoid"]
    limits = ["--steps", "1", "--batch", "2", "--device", "cpu", "-q"]
    done = RUNNER.invoke(app, [*command, *choices, *limits], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    network = read_particle_file(run / "promise.safetensors").network
    assert isinstance(network, PromiseSam)
    assert network.promise == PromiseConfig(ips=False, points=1, best_mask=False)
    empty = tmp_path / "empty.png"
    noise = np.random.default_rng(9).normal(150, 20, (128, 128)).clip(0, 255)
    Image.fromarray(noise.astype(np.uint8)).save(empty)
    pick = ["pick", str(data / "images" / "a.png"), str(empty), "-m", str(run / "promise.safetensors")]
    options = [
        "--particle-diameter-px",
        "24",
        "-o",
        str(tmp_path / "picks"),
        "--no-preview",
        "--device",
        "cpu",
    ]
    done = RUNNER.invoke(app, [*pick, *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    for name in ("a", "empty"):
        read_picks(tmp_path / "picks" / f"{name}_particles.star")
        assert (tmp_path / "picks" / f"{name}_particles_mask.mrc").is_file()


@pytest.mark.parametrize(
    ("choices", "label"),
    [
        (["--apm", "cross", "--points", "3"], "promise apm+ips"),
        (["--prompter", "grid", "--points", "5"], "promise ips+grid"),
        (["--prompter", "none", "--random-start"], "promise ips+none"),
    ],
)
def test_every_way_without_the_truth_trains_and_runs(
    choices: list[str], label: str, data: Path, base: Path, tmp_path: Path
) -> None:
    command = ["train", "promise", str(data), "-o", str(tmp_path), "--base", str(base), *choices]
    limits = ["--steps", "1", "--batch", "1", "--device", "cpu", "-q"]
    done = RUNNER.invoke(app, [*command, *limits], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    model = load_particle_model(tmp_path / "promise.safetensors", CPU)
    assert model.network.config.label == label
    tiles = np.random.default_rng(0).normal(size=(2, 64, 64)).astype(np.float32)
    assert np.isfinite(model.tile_logits(tiles, [].append)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompter", "none", "--no-ips"], "nothing would be left to train"),
        (["--points", "0"], "--points 0"),
        (["--prepare"], "--prepare: is for pictures"),
        (["--no-augment"], "--no-augment: is for pictures"),
    ],
)
def test_choices_that_mean_nothing_are_refused(
    options: list[str], message: str, data: Path, base: Path, tmp_path: Path
) -> None:
    command = ["train", "promise", str(data), "-o", str(tmp_path), "--base", str(base), *options]
    with pytest.raises(ConfigError, match=message):
        RUNNER.invoke(app, command, catch_exceptions=False)
