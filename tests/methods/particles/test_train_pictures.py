"""A domain that is not cryo-EM, from a published-form list to scored masks."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from cryoseg.cli.app import app, main
from cryoseg.config.prompt_sam import InputScale, PromiseConfig, PromptConfig, Prompter, PromptMethod
from cryoseg.config.train import LoopConfig
from cryoseg.config.train_sam import SampleConfig, TrainSamConfig
from cryoseg.errors import ConfigError, InputError
from cryoseg.io.images.pictures import Split, read_picture_mask
from cryoseg.methods.model_file import read_model_metadata, read_model_tensors
from cryoseg.methods.particles.files import ParticleRecipe, save_particle_model
from cryoseg.methods.particles.model import load_particle_model
from cryoseg.methods.particles.picture_samples import (
    PictureSamples,
    check_sizes,
    picture_input,
    published_augmentation,
    soft_target,
)
from cryoseg.methods.particles.train_pictures import PictureData, split_pictures, train_pictures
from cryoseg.methods.promise.network import PromiseSam
from cryoseg.methods.prompt_sam.network import PromptSam
from cryoseg.methods.sam.geometry import SamGeometry
from cryoseg.methods.training.learner import LOGIT_BINS, dice_by_threshold
from cryoseg.methods.training.run import Runtime
from cryoseg.pipelines.segment.image import segment_picture

RUNNER = CliRunner()
HEIGHT, WIDTH, BORDER = 90, 120, 12
SPLITS = ("train",) * 4 + ("val",) * 2 + ("test",) * 2


def draw_lesion(seed: int, *, kind: str = "some") -> tuple[np.ndarray, np.ndarray]:
    """Skin with a dark spot of any shape, in the black frame of a dermatoscope, and the spot's mask."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    center, axes = rng.uniform([35, 45], [55, 75]), rng.uniform(12, 22, 2)
    angle = np.arctan2(y - center[0], x - center[1])
    rim = 1 + 0.2 * np.sin(3 * angle + rng.uniform(0, 6))
    mask = np.hypot((y - center[0]) / axes[0], (x - center[1]) / axes[1]) < rim
    mask = {"some": mask, "empty": mask & False, "full": mask | True}[kind]
    rgb = np.array([205.0, 160.0, 140.0]) + rng.normal(0, 6, (HEIGHT, WIDTH, 3))
    rgb[mask] = np.array([110.0, 70.0, 60.0]) + rng.normal(0, 6, (int(mask.sum()), 3))
    inside = np.zeros((HEIGHT, WIDTH), bool)
    inside[BORDER:-BORDER, BORDER:-BORDER] = True
    rgb[~inside] = 0
    return rgb.clip(0, 255).astype(np.uint8), mask & inside


@pytest.fixture(scope="module")
def lesions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lesions")
    rows = ["image_name,train_type,mask_name"]
    for sub in ("images", "masks"):
        (folder / sub).mkdir()
    for seed, split in enumerate(SPLITS):
        rgb, mask = draw_lesion(seed, kind={0: "empty", 1: "full"}.get(seed, "some"))
        Image.fromarray(rgb).save(folder / "images" / f"lesion{seed}.png")
        Image.fromarray(mask).save(folder / "masks" / f"lesion{seed}.png")
        rows.append(f"images/lesion{seed}.png,{split},masks/lesion{seed}.png")
    path = folder / "lesions.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module")
def base(small_sam: SamGeometry, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = PromptSam(replace(small_sam, in_channels=3), PromptConfig(grid_side=4))
    recipe = ParticleRecipe(image_size=64, overlap=8, normalization=InputScale.SAM)
    path = tmp_path_factory.mktemp("base") / "small_sam.safetensors"
    save_particle_model(path, network, recipe, base=None)
    return path


def settings(steps: int = 2, batch: int = 2, **promise: object) -> TrainSamConfig:
    config = PromiseConfig(**{"points": 4, **promise})  # type: ignore[arg-type]
    return TrainSamConfig(
        prompt=PromptConfig(method=PromptMethod.PROMISE, promise=config),
        loop=LoopConfig(
            steps=steps,
            warmup_steps=1,
            learning_rate=3e-3,
            validate_every=steps,
            checkpoint_every=1,
            ema_decay=0.5,
        ),
        sample=SampleConfig.plain(batch=batch),
    )


def test_from_list_to_scores(lesions: Path, base: Path, tmp_path: Path) -> None:
    pytest.importorskip("albumentations")
    run, masks = tmp_path / "run", tmp_path / "masks"
    train = ["train", "promise", str(lesions), "-o", str(run), "--base", str(base), "--prepare"]
    limits = ["--points", "4", "--steps", "2", "--batch", "2", "--device", "cpu", "-q"]
    done = RUNNER.invoke(app, [*train, *limits], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    metadata = read_model_metadata(run / "promise.safetensors")
    assert metadata["recipe"]["crop_black"] is True
    assert metadata["card"]["test"]["pictures"] == 2
    assert metadata["card"]["test"]["upper_bound"] is False
    record = json.loads((run / "config.json").read_text())
    assert record["training"] == [f"lesion{i}.png" for i in range(4)]
    assert record["validation"] == ["lesion4.png", "lesion5.png"]
    with (run / "test.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["name"] for row in rows] == ["lesion6.png", "lesion7.png"]
    assert {row["method"] for row in rows} == {"promise apm+ips"}

    images = lesions.parent / "images"
    (tmp_path / "broken.png").write_text("no picture")
    command = [
        "segment-image",
        str(images),
        str(tmp_path / "broken.png"),
        "--base",
        str(base),
        "-o",
        str(masks),
    ]
    options = ["-m", str(run / "promise.safetensors"), "--overlay", "--morphology", "open", "--kernel", "3"]
    done = RUNNER.invoke(app, [*command, *options, "--device", "cpu"], catch_exceptions=False)
    assert done.exit_code == 1
    assert "broken.png: cannot be read" in done.output
    for seed in range(len(SPLITS)):
        mask = read_picture_mask(masks / f"lesion{seed}_mask.png")
        assert mask.shape == (HEIGHT, WIDTH)
        assert (masks / f"lesion{seed}_overlay.png").is_file()
    record = json.loads((masks / "lesion0_mask.json").read_text())
    assert record["smoothing"] == {"kernel": 3, "morphology": "open"}
    assert set(record["model"]["sha256"]) == {"promise.safetensors", "small_sam.safetensors"}
    again = RUNNER.invoke(app, [*command[:2], *command[3:], *options, "--device", "cpu"])
    assert again.exit_code == 0
    assert again.output.count("skipped") == len(SPLITS)
    other = RUNNER.invoke(
        app, [*command[:2], *command[3:], *options, "--logit-threshold", "1", "--device", "cpu"]
    )
    assert other.exit_code == 1
    assert other.output.count("another logit_threshold") >= len(SPLITS)

    table = tmp_path / "scores.csv"
    score = ["evaluate", "images", str(masks), str(lesions.parent / "masks"), "-o", str(table)]
    done = RUNNER.invoke(app, score, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    with table.open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(SPLITS)
    assert all(0 <= float(row["dice"]) <= 1 for row in rows)
    assert rows[0]["weighted_f"] == ""  # without truth it is not defined


def test_a_network_learns_lesions_and_resumes_to_the_bit(lesions: Path, base: Path, tmp_path: Path) -> None:
    config, data = settings(steps=3), PictureData(lists=[lesions], augment=False)
    whole = train_pictures(config, base, data, tmp_path / "whole")
    short = replace(config, loop=replace(config.loop, max_minutes=1e-9))
    cut = tmp_path / "cut"
    while train_pictures(short, base, data, cut) is None:
        pass
    finished = train_pictures(config, base, data, cut)
    assert whole is not None
    assert finished is not None
    first, second = read_model_tensors(whole.path), read_model_tensors(finished.path)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_points_from_the_truth_label_the_test_as_an_upper_bound(
    lesions: Path, base: Path, tmp_path: Path
) -> None:
    notes: list[str] = []
    trained = train_pictures(
        settings(steps=1, prompter=Prompter.GT, points=1),
        base,
        PictureData(lists=[lesions], augment=False),
        tmp_path,
        runtime=Runtime(on_event=lambda event: notes.append(getattr(event, "text", ""))),
    )
    assert trained is not None
    card = read_model_metadata(trained.path)["card"]
    assert card["test"]["upper_bound"] is True
    assert card["upper_bound"] is True
    assert len([note for note in notes if "Dice" in note]) >= 2
    assert all("upper bound" in note for note in notes if "Dice" in note)
    with (tmp_path / "test.csv").open() as stream:
        assert {row["method"] for row in csv.DictReader(stream)} == {"promise ips+gt (upper bound)"}


def test_test_rows_choose_nothing(lesions: Path, tmp_path: Path) -> None:
    parts = split_pictures([lesions], seed=0)
    assert {split: len(rows) for split, rows in parts.items()} == {
        Split.TRAIN: 4,
        Split.VAL: 2,
        Split.TEST: 2,
    }
    text = lesions.read_text()
    no_validation = lesions.with_name("no_validation.csv")
    no_validation.write_text(text.replace(",val,", ",train,"))
    parts = split_pictures([no_validation], seed=0)
    assert [len(parts[split]) for split in Split] == [5, 1, 2]
    twice = lesions.with_name("twice.csv")
    twice.write_text(text + "images/lesion0.png,test,masks/lesion0.png\n")
    with pytest.raises(InputError, match="in train and in test"):
        split_pictures([twice], seed=0)
    only_test = lesions.with_name("only_test.csv")
    only_test.write_text(text.replace(",val,", ",test,").replace(",train,", ",test,"))
    with pytest.raises(InputError, match="0 train rows"):
        split_pictures([only_test], seed=0)


def test_squares_are_prepared_and_targets_have_soft_edges(lesions: Path) -> None:
    rows = split_pictures([lesions], seed=0)[Split.TEST]
    samples = PictureSamples(rows, 64, crop_black=True)
    image, mask = samples[0]
    assert image.shape == (64, 64, 3)
    assert mask.shape == (64, 64)
    # 96 x 66 pixels are left without the border; the rest of the square is black.
    assert image[:40].min() > 20
    assert image[46:].max() == 0
    assert set(np.unique(soft_target(mask[None], 32))) >= {0.0, 0.5, 1.0}
    first, second = (samples.batch(2, seed=0, step=step, augment=None)[0] for step in (0, 1))
    assert {image.tobytes() for image in first} == {image.tobytes() for image in second}


def test_augmentation_follows_from_its_draw_and_carries_the_mask_along() -> None:
    pytest.importorskip("albumentations")
    rgb, mask = draw_lesion(5)
    square, truth = rgb[:80, :80], mask[:80, :80]
    augment = published_augmentation(80)
    results = [augment(square, truth, draw) for draw in range(30)]
    again = augment(square, truth, 7)
    assert np.array_equal(again[0], results[7][0])
    assert np.array_equal(again[1], results[7][1])
    assert len({image.tobytes() for image, _ in results}) > 15
    for image, moved in results:
        assert image.shape == (80, 80, 3)
        assert image.dtype == np.uint8
        assert moved.dtype == bool
        spot = np.abs(image.astype(int) - [110, 70, 60]).sum(axis=2) < 90
        assert (spot & moved).sum() > 0.6 * moved.sum()


def test_without_albumentations_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "albumentations", None)
    with pytest.raises(ConfigError, match=r"cryoseg\[train\].*--no-augment"):
        published_augmentation(64)


def test_networks_of_grey_values_see_the_luminance(small_sam: SamGeometry) -> None:
    network = PromptSam(small_sam, PromptConfig(input_scale=InputScale.GREY))
    rgb, _ = draw_lesion(0)
    grey = picture_input(network, rgb[None])
    assert grey.shape == (1, 1, HEIGHT, WIDTH)
    assert float(grey.mean()) == pytest.approx(0, abs=1e-5)
    assert float(grey.std()) == pytest.approx(1, abs=1e-3)


def test_empty_validation_masks_ask_for_silence() -> None:
    logits, nothing = np.linspace(-3, 3, 16, dtype=np.float32).reshape(4, 4), np.zeros((4, 4), np.int8)
    curve = dice_by_threshold(logits, nothing)
    np.testing.assert_array_equal(curve, LOGIT_BINS > 3)


def run_main(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """What the command prints on standard error when it refuses."""
    monkeypatch.setattr(sys, "argv", ["cryoseg", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("image_name,train_type,mask_name", "image,split,mask"),
            "name them image_name,train_type,mask_name",
        ),
        (("masks/lesion2.png", "masks/lesion3.png"), "line 4: picture lesion2.png and mask lesion3.png have"),
        (("images/lesion2.png", "images/lost.png"), "line 4: picture lost.png and mask lesion2.png have"),
        ((",train,", ",Train,"), "train_type is 'Train'; write train, val or test"),
        (("masks/lesion2.png", "small/lesion2.png"), "is 9 x 9 px, its picture 120 x 90"),
        (("masks/lesion2.png", "text/lesion2.png"), "cannot be read as a picture"),
        (("masks/lesion2.png", "dark/lesion2.png"), "holds grey values up to 90"),
    ],
)
def test_the_command_refuses_broken_lists_before_it_trains(
    change: tuple[str, str],
    message: str,
    lesions: Path,
    base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for sub in ("small", "text", "dark"):
        (tmp_path / sub).mkdir()
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "small" / "lesion2.png")
    (tmp_path / "text" / "lesion2.png").write_text("no picture")
    Image.fromarray(np.full((HEIGHT, WIDTH), 90, np.uint8)).save(tmp_path / "dark" / "lesion2.png")
    text = lesions.read_text()
    assert change[0] in text
    text = text.replace(*change)
    for sub in ("images", "masks"):
        text = text.replace(f"{sub}/", f"{lesions.parent / sub}/")
    (tmp_path / "list.csv").write_text(text)
    command = ["train", "promise", tmp_path / "list.csv", "-o", tmp_path / "run", "--base", base]
    limits = ["--steps", 1, "--batch", 6, "--no-augment", "--points", 2, "--device", "cpu", "-q"]
    assert message in run_main(monkeypatch, capsys, *command, *limits)
    assert not (tmp_path / "run" / "promise.safetensors").exists()


@pytest.mark.parametrize(
    "option",
    [("--validation", "x"), ("--picks", "x.star"), ("--ignore-border", 2)],
)
def test_options_of_micrographs_are_refused_for_lists(
    option: tuple[object, ...],
    lesions: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["train", "promise", lesions, "-o", tmp_path]
    assert f"{option[0]}: is for micrographs" in run_main(monkeypatch, capsys, *command, *option)


def test_one_point_empty_and_full_masks_from_the_command_line(
    lesions: Path, base: Path, tmp_path: Path
) -> None:
    pictures = []
    for kind in ("empty", "full"):
        rgb, mask = draw_lesion(1, kind=kind)
        (tmp_path / "masks").mkdir(exist_ok=True)
        pictures.append(tmp_path / f"{kind}.png")
        Image.fromarray(rgb).save(pictures[-1])
        Image.fromarray(mask).save(tmp_path / "masks" / f"{kind}.png")
    extreme = tmp_path / "extreme.csv"
    lines = [f"{kind}.png,{split},masks/{kind}.png" for kind, split in (("empty", "train"), ("full", "val"))]
    extreme.write_text("\n".join(["image_name,train_type,mask_name", *lines]) + "\n")
    for prompter in ("gt", "apm"):
        run = tmp_path / prompter
        command = ["train", "promise", str(extreme), "-o", str(run), "--base", str(base), "--standalone"]
        options = ["--prompter", prompter, "--points", "1", "--no-augment", "--prepare"]
        limits = ["--steps", "1", "--batch", "2", "--device", "cpu", "-q"]
        done = RUNNER.invoke(app, [*command, *options, *limits], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert 0 <= read_model_metadata(run / "promise.safetensors")["card"]["validation_dice"] <= 1

    # Everything above the threshold, or nothing: the black border is never part of the mask.
    found = tmp_path / "found"
    for threshold, kind in ((-1e6, "full"), (1e6, "empty")):
        command = ["segment-image", *map(str, pictures), "-m", str(tmp_path / "apm" / "promise.safetensors")]
        options = ["-o", str(found), "--logit-threshold", str(threshold), "--overwrite", "--device", "cpu"]
        done = RUNNER.invoke(app, [*command, *options, "--morphology", "close"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert ("nothing above the threshold" in done.output) == (kind == "empty")
        truth = read_picture_mask(tmp_path / "masks" / f"{kind}.png")
        for picture in pictures:
            mask = read_picture_mask(found / f"{picture.stem}_mask.png")
            np.testing.assert_array_equal(mask, truth)
        score = ["evaluate", "images", str(found), str(tmp_path / "masks")]
        done = RUNNER.invoke(app, [*score, "-o", str(tmp_path / f"{kind}.json")], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        files = json.loads((tmp_path / f"{kind}.json").read_text())["files"]
        assert {one["name"]: round(one["dice"]) for one in files} == {
            "empty": int(kind == "empty"),
            "full": int(kind == "full"),
        }
    # Without --prepare the border is part of the picture.
    command = ["segment-image", str(pictures[0]), "-m", str(tmp_path / "apm" / "promise.safetensors")]
    options = ["-o", str(tmp_path / "whole"), "--logit-threshold", "-1e6", "--no-prepare", "--device", "cpu"]
    assert RUNNER.invoke(app, [*command, *options], catch_exceptions=False).exit_code == 0
    assert read_picture_mask(tmp_path / "whole" / "empty_mask.png").all()


def test_a_checkpoint_of_the_authors_segments_pictures(
    lesions: Path,
    small_sam: SamGeometry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.manual_seed(1)
    color = replace(small_sam, in_channels=3)
    monkeypatch.setattr(
        "cryoseg.methods.particles.published_weights.geometry_of_state", lambda state, path: color
    )
    for prompter in (Prompter.APM, Prompter.GT):
        config = PromptConfig(method=PromptMethod.PROMISE, promise=PromiseConfig(points=4, prompter=prompter))
        state = PromiseSam(color, config).state_dict()
        theirs = {name.removeprefix("sam."): value for name, value in state.items()}
        torch.save(theirs, tmp_path / f"{prompter}.pt")
    picture = lesions.parent / "images" / "lesion6.png"
    command = ["segment-image", str(picture), "-o", str(tmp_path), "--device", "cpu", "--prepare"]
    done = RUNNER.invoke(app, [*command, "-m", str(tmp_path / "apm.pt")], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "lesion6_mask.json").read_text())
    assert record["crop_black"] is True
    assert record["logit_threshold"] == 0
    assert set(record["model"]["sha256"]) == {"apm.pt"}
    assert "upper bound" in run_main(monkeypatch, capsys, *command, "-m", tmp_path / "gt.pt")


@pytest.fixture
def promises(small_sam: SamGeometry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Untrained checkpoints of the authors: with a prompter of their own and without one."""
    color = replace(small_sam, in_channels=3)
    monkeypatch.setattr(
        "cryoseg.methods.particles.published_weights.geometry_of_state", lambda state, path: color
    )
    torch.manual_seed(1)
    for prompter in (Prompter.APM, Prompter.GT):
        promise = PromiseConfig(points=4, prompter=prompter, zero_start=False)
        state = PromiseSam(color, PromptConfig(method=PromptMethod.PROMISE, promise=promise)).state_dict()
        torch.save({name.removeprefix("sam."): t for name, t in state.items()}, tmp_path / f"{prompter}.pt")
    return tmp_path


@pytest.mark.parametrize("prompter", ["apm", "gt"])
def test_points_of_the_truth_prompt_any_promise_and_are_an_upper_bound(
    lesions: Path, promises: Path, prompter: str
) -> None:
    images, masks, out = lesions.parent / "images", lesions.parent / "masks", promises / "out"
    model = ["-m", str(promises / f"{prompter}.pt"), "--device", "cpu"]
    command = ["segment-image", str(images), *model, "--points", str(masks), "-o", str(out)]
    done = RUNNER.invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "are an upper bound and not a prediction" in " ".join(done.output.split())
    record = json.loads((out / "lesion6_mask.json").read_text())
    assert record["upper_bound"] is True
    assert len(record["points"]["sha256"]) == 64
    # The points follow from the truth alone: another truth gives other logits, the same gives the same.
    loaded = load_particle_model(str(promises / f"{prompter}.pt"), torch.device("cpu"))
    rgb = np.asarray(Image.open(images / "lesion6.png"))
    truth = read_picture_mask(masks / "lesion6.png")
    first, second = (segment_picture(rgb, loaded, truth=truth) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, segment_picture(rgb, loaded, truth=~truth))
    # Scored, they are labelled too.
    scores = promises / "scores.json"
    done = RUNNER.invoke(app, ["evaluate", "images", str(out), str(masks), "-o", str(scores)])
    assert done.exit_code == 0, done.output
    assert "scores are an upper bound" in done.output
    assert json.loads(scores.read_text())["upper_bound"] is True


def test_pictures_are_segmented_and_scored_in_one_command(lesions: Path, promises: Path) -> None:
    images, masks = lesions.parent / "images", lesions.parent / "masks"
    scores = promises / "scores.json"
    command = ["evaluate", "images", str(images), str(masks), "--model", str(promises / "apm.pt")]
    command += [
        "--device",
        "cpu",
        "--model-output",
        str(promises / "masks"),
        "-o",
        str(scores),
        "--overwrite",
    ]
    for points in ([], ["--points", str(masks)]):
        done = RUNNER.invoke(app, [*command, *points], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        found = json.loads(scores.read_text())
        assert len(found["files"]) == len(SPLITS)
        assert found["upper_bound"] is bool(points)


def test_points_that_do_not_fit_are_refused(
    lesions: Path,
    promises: Path,
    base: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    picture = lesions.parent / "images" / "lesion6.png"
    command = ["segment-image", str(picture), "-o", str(promises / "o"), "--device", "cpu"]
    promise = [*command, "-m", promises / "apm.pt"]
    (promises / "few").mkdir()
    Image.fromarray(np.ones((9, 9), bool)).save(promises / "few" / "other_mask.png")
    output = run_main(monkeypatch, capsys, *promise, "--points", promises / "few")
    assert "no mask of the name lesion6" in output
    assert "other_mask.png" in output
    small = promises / "few" / "other_mask.png"
    assert "both must have the same size" in run_main(monkeypatch, capsys, *promise, "--points", small)
    output = run_main(monkeypatch, capsys, *command, "-m", base, "--points", lesions.parent / "masks")
    assert "is for models of `cryoseg train promise`" in output
    score = ["evaluate", "images", promises, promises, "--points", promises]
    assert "needs --model" in run_main(monkeypatch, capsys, *score)


def test_a_standalone_model_segments_pictures_without_its_base(
    lesions: Path, base: Path, tmp_path: Path
) -> None:
    run, masks = tmp_path / "run", tmp_path / "masks"
    commands = [
        ["train", "promise", str(lesions), "-o", str(run), "--base", str(base), "--standalone"],
        ["segment-image", str(lesions.parent / "images"), "-m", str(run / "promise.safetensors")],
        ["evaluate", "images", str(masks), str(lesions.parent / "masks")],
    ]
    commands[0] += ["--prepare", "--no-augment", "--steps", "2", "--batch", "2", "--device", "cpu", "-q"]
    commands[1] += ["-o", str(masks), "--overlay", "--device", "cpu", "-q"]
    for command in commands:
        done = RUNNER.invoke(app, command, catch_exceptions=False)
        assert done.exit_code == 0, done.output
    assert "lesion7" in done.output
    assert len(list(masks.glob("*_overlay.png"))) == len(SPLITS)
    card = read_model_metadata(run / "promise.safetensors")["card"]
    assert (card["training_pictures"], card["validation_pictures"], card["test"]["pictures"]) == (4, 2, 2)


def test_a_mask_of_another_size_and_lists_beside_folders_are_refused(
    lesions: Path, base: Path, tmp_path: Path
) -> None:
    row = split_pictures([lesions], seed=0)[Split.TRAIN][0]
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / row.image.name)
    wrong = replace(row, mask=tmp_path / row.image.name)
    with pytest.raises(InputError, match="is 9 x 9 px, its picture 120 x 90"):
        check_sizes(wrong)
    with pytest.raises(ConfigError, match="not both"):
        RUNNER.invoke(
            app,
            ["train", "promise", str(lesions), str(tmp_path), "-o", str(tmp_path), "--base", str(base)],
            catch_exceptions=False,
        )
