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

from cryoseg.cli.app import app
from cryoseg.config.promise import PromiseConfig, Prompter
from cryoseg.config.prompt_sam import InputScale, PromptConfig, PromptMethod
from cryoseg.config.train import LoopConfig
from cryoseg.config.train_sam import SampleConfig, TrainSamConfig
from cryoseg.errors import ConfigError, InputError
from cryoseg.io.pictures import Split, read_picture_mask
from cryoseg.models.model_file import read_model_metadata, read_model_tensors
from cryoseg.models.particle_files import save_particle_model
from cryoseg.models.particle_recipe import ParticleRecipe
from cryoseg.models.prompt_sam import PromptSam
from cryoseg.models.sam_geometry import SamGeometry
from cryoseg.pipelines.train_pictures import split_pictures, train_pictures
from cryoseg.training.picture_samples import (
    PictureSamples,
    picture_input,
    published_augmentation,
    soft_target,
)

RUNNER = CliRunner()
GEOMETRY = SamGeometry(
    embed_dim=16,
    depth=2,
    num_heads=2,
    global_blocks=(1,),
    image_size=64,
    patch_size=8,
    window=4,
    out_channels=32,
    decoder_mlp_dim=32,
    decoder_heads=2,
    iou_hidden_dim=16,
)
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
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = PromptSam(GEOMETRY, PromptConfig(grid_side=4))
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
        assert [row["name"] for row in csv.DictReader(stream)] == ["lesion6.png", "lesion7.png"]

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
    config = settings(steps=3)
    whole = train_pictures(config, base, [lesions], tmp_path / "whole", augment=False, device="cpu")
    short = replace(config, loop=replace(config.loop, max_minutes=1e-9))
    cut = tmp_path / "cut"
    while train_pictures(short, base, [lesions], cut, augment=False, device="cpu") is None:
        pass
    finished = train_pictures(config, base, [lesions], cut, augment=False, device="cpu")
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
        [lesions],
        tmp_path,
        augment=False,
        device="cpu",
        on_event=lambda event: notes.append(getattr(event, "text", "")),
    )
    assert trained is not None
    assert read_model_metadata(trained.path)["card"]["test"]["upper_bound"] is True
    assert any("upper bound" in note for note in notes)


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


def test_networks_of_grey_values_see_the_luminance() -> None:
    geometry = replace(GEOMETRY, in_channels=1)
    network = PromptSam(geometry, PromptConfig(input_scale=InputScale.GREY))
    rgb, _ = draw_lesion(0)
    grey = picture_input(network, rgb[None])
    assert grey.shape == (1, 1, HEIGHT, WIDTH)
    assert float(grey.mean()) == pytest.approx(0, abs=1e-5)
    assert float(grey.std()) == pytest.approx(1, abs=1e-3)


def test_a_mask_of_another_size_and_lists_beside_folders_are_refused(
    lesions: Path, base: Path, tmp_path: Path
) -> None:
    row = split_pictures([lesions], seed=0)[Split.TRAIN][0]
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / row.image.name)
    wrong = replace(row, mask=tmp_path / row.image.name)
    with pytest.raises(InputError, match="is 9 x 9 px, its picture 120 x 90"):
        PictureSamples([wrong], 64, crop_black=False)[0]
    with pytest.raises(ConfigError, match="not both"):
        RUNNER.invoke(
            app,
            ["train", "promise", str(lesions), str(tmp_path), "-o", str(tmp_path), "--base", str(base)],
            catch_exceptions=False,
        )
