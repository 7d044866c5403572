from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from typer.testing import CliRunner

from cryoseg.cli.app import app
from cryoseg.config.prompt_sam import PromptConfig, PromptMethod
from cryoseg.config.train import LoopConfig
from cryoseg.config.train_sam import PretrainConfig, SampleConfig, TrainSamConfig
from cryoseg.core.picking.micrograph_picks import PEAK_SIGMAS, draw_discs
from cryoseg.errors import ConfigError, InputError, WeightsError
from cryoseg.io.images.volumes import write_logits
from cryoseg.methods.model_file import read_model_metadata, read_model_tensors
from cryoseg.methods.particles.data import ReadOptions, find_micrographs, labelled_diameter, load_micrograph
from cryoseg.methods.particles.files import read_particle_file
from cryoseg.methods.particles.model import load_particle_model, particle_sized_union
from cryoseg.methods.particles.train import MicrographData, pretrain, split_micrographs, train_prompt
from cryoseg.methods.prompt_sam.network import PromptSam
from cryoseg.methods.sam.geometry import SamGeometry
from cryoseg.types import Geometry

PROMPTS = (PromptMethod.HEAD, PromptMethod.PREFIX, PromptMethod.ENCODER, PromptMethod.FINETUNE)
CENTERS = np.array([[y, x] for y in range(30, 160, 50) for x in range(30, 160, 50)], float)


def write_cryoppp(folder: Path, names: list[str], *, tag: str = "", side: int = 160) -> None:
    """JPEG images with dark discs, and their PNG masks, in the CryoPPP layout."""
    for sub in ("images", "labels"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        labels = draw_discs(CENTERS, (side, side), diameter_px=24) > 0
        noise = np.random.default_rng(seed).normal(0, 20, labels.shape)
        grey = np.clip(150 + noise - 60 * labels, 0, 255).astype(np.uint8)
        Image.fromarray(grey).save(folder / "images" / f"{name}.png")
        Image.fromarray(labels).save(folder / "labels" / f"{name}{tag}.png")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cryoppp")
    write_cryoppp(folder, ["a", "b", "c"], tag="_mask")
    return folder


def split(data: Path) -> MicrographData:
    training, held_out = split_micrographs([str(data)], [], seed=0)
    return MicrographData(training=training, held_out=held_out)


def loop(steps: int) -> LoopConfig:
    return LoopConfig(
        steps=steps,
        warmup_steps=1,
        learning_rate=3e-3,
        validate_every=steps,
        checkpoint_every=2,
        ema_decay=0.5,
    )


@pytest.fixture(scope="module")
def base(data: Path, small_sam: SamGeometry, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = PretrainConfig(
        loop=loop(6), sample=SampleConfig(batch=1), grid_side=4, prompts=1, particle_pixels=12.0
    )
    material = split(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cryoseg.methods.particles.train.TINY", replace(small_sam, fine_widths=(8, 8)))
        trained = pretrain(config, material, tmp_path_factory.mktemp("sam"))
    assert trained is not None
    return trained.path


def tiny(method: PromptMethod, steps: int = 2) -> TrainSamConfig:
    batch = 2 if method is PromptMethod.PROMISE else 1
    return TrainSamConfig(
        prompt=PromptConfig(method=method), loop=loop(steps), sample=SampleConfig(batch=batch)
    )


def test_pretraining_writes_a_whole_model_with_its_recipe(base: Path) -> None:
    metadata = read_model_metadata(base)
    assert metadata["base"] is None
    assert metadata["recipe"]["particle_pixels"] == 12.0
    assert metadata["recipe"]["image_size"] == 64
    assert metadata["card"]["particle_diameter_px"] == pytest.approx(24, abs=1.5)
    model = load_particle_model(base, torch.device("cpu"))
    assert model.tile_logits(np.zeros((1, 64, 64), np.float32), [].append).shape == (1, 64, 64)


@pytest.mark.parametrize("method", PROMPTS)
def test_an_adapted_file_holds_only_what_was_trained(
    method: PromptMethod, data: Path, base: Path, tmp_path: Path
) -> None:
    material = split(data)
    trained = train_prompt(tiny(method), base, material, tmp_path)
    assert trained is not None
    stored = read_model_tensors(trained.path)
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    learned = [value.numel() for name, value in stored.items() if not name.endswith(statistics)]
    assert sum(learned) == trained.parameters
    metadata = read_model_metadata(trained.path)
    assert metadata["base"]["name"] == "particle_sam.safetensors"
    loaded = read_particle_file(trained.path, base=base)
    assert loaded.recipe.logit_threshold == trained.threshold
    assert loaded.recipe.score_slope >= 0
    assert 0 <= loaded.recipe.score_threshold <= 1
    whole = loaded.network.state_dict()
    for name, value in stored.items():
        torch.testing.assert_close(whole[name].float(), value.float())
    assert load_particle_model(trained.path, torch.device("cpu")).hashes.keys() == loaded.hashes.keys()
    (tmp_path / "base.txt").unlink()
    with pytest.raises(WeightsError, match=r"is not beside it; put it there, or train with --standalone"):
        load_particle_model(trained.path, torch.device("cpu"))


def test_another_base_is_refused(data: Path, base: Path, tmp_path: Path) -> None:
    material = split(data)
    trained = train_prompt(tiny(PromptMethod.PREFIX), base, material, tmp_path)
    assert trained is not None
    other = tmp_path / "particle_sam.safetensors"
    other.write_bytes(base.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(WeightsError, match="is not the particle_sam"):
        load_particle_model(trained.path, torch.device("cpu"))
    assert load_particle_model(trained.path, torch.device("cpu"), base=base).recipe.image_size == 64


def test_a_resumed_training_ends_like_an_undisturbed_one(data: Path, base: Path, tmp_path: Path) -> None:
    material = split(data)
    config = tiny(PromptMethod.ENCODER, steps=4)
    whole = train_prompt(config, base, material, tmp_path / "whole")
    short = replace(config, loop=replace(config.loop, max_minutes=1e-9))
    while train_prompt(short, base, material, tmp_path / "cut") is None:
        pass
    cut = train_prompt(config, base, material, tmp_path / "cut")
    assert whole is not None
    assert cut is not None
    first, second = read_model_tensors(whole.path), read_model_tensors(cut.path)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_images_are_paired_by_name_and_never_by_order(tmp_path: Path) -> None:
    write_cryoppp(tmp_path, ["b", "a"])
    pairs, held_out = find_micrographs([str(tmp_path)])
    assert [(p.image.name, p.mask.name) for p in pairs if p.mask] == [("a.png", "a.png"), ("b.png", "b.png")]
    assert not held_out
    (tmp_path / "labels" / "a.png").rename(tmp_path / "labels" / "z.png")
    with pytest.raises(InputError, match=r"no label for 1 of 2 images \(a\.png\)"):
        find_micrographs([str(tmp_path)])


def test_train_and_valid_folders_are_respected(tmp_path: Path) -> None:
    write_cryoppp(tmp_path / "train", ["a"])
    write_cryoppp(tmp_path / "valid", ["b"])
    training, held_out = split_micrographs([str(tmp_path)], [], seed=0)
    assert ([p.name for p in training], [p.name for p in held_out]) == (["a"], ["b"])


def test_coordinates_become_discs(data: Path, tmp_path: Path) -> None:
    table = tmp_path / "picks.csv"
    rows = [f"{name},{x:g},{y:g}" for name in "ab" for y, x in CENTERS]
    table.write_text("\n".join(["image_name,x,y", *rows]) + "\n")
    images = [str(data / "images" / f"{name}.png") for name in "ab"]
    pairs, _ = find_micrographs(images, [table])
    found, diameter = load_micrograph(pairs[0], ReadOptions(particle_pixels=12.0, diameter_px=24.0))
    from_mask, _ = load_micrograph(
        find_micrographs([str(data)])[0][0], ReadOptions(particle_pixels=12.0, diameter_px=24.0)
    )
    assert diameter == 24
    assert found.grey.shape == (80, 80)
    agree = (found.labels > 0) & (from_mask.labels > 0)
    assert agree.sum() > 0.9 * (from_mask.labels > 0).sum()
    with pytest.raises(InputError, match="particle-diameter"):
        load_micrograph(pairs[0], ReadOptions(particle_pixels=12.0))
    mics = tmp_path / "mics.star"
    names = "".join(f"{image} 2.5\n" for image in images)
    mics.write_text(f"data_\nloop_\n_rlnMicrographName #1\n_rlnMicrographPixelSize #2\n{names}")
    listed, _ = find_micrographs([str(mics)], [table])
    angstrom = ReadOptions(particle_pixels=12.0, diameter_angstrom=60.0)
    assert [load_micrograph(pair, angstrom)[1] for pair in listed] == [24, 24]
    far = replace(pairs[0], centers=pairs[0].centers * 4)
    with pytest.raises(InputError, match=r"lie outside the image of 160 x 160 pixels .* --scale"):
        load_micrograph(far, ReadOptions(particle_pixels=12.0, diameter_px=24.0))
    told: list[object] = []
    one_off = replace(pairs[0], centers=np.concatenate([pairs[0].centers, [[80.0, 160.0]]]))
    again, _ = load_micrograph(
        one_off, ReadOptions(particle_pixels=12.0, diameter_px=24.0), on_event=told.append
    )
    assert (again.labels == found.labels).all()
    assert "1 of" in str(told)
    with pytest.raises(InputError, match=r"no coordinates for 1 images \(c\.png\)"):
        find_micrographs([*images, str(data / "images" / "c.png")], [table])


def test_cores_of_touching_particles_do_not_touch(tmp_path: Path) -> None:
    centers = np.array([[60.0, 50.0], [60.0, 74.0], [110.0, 80.0]])
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    labels = draw_discs(centers, (160, 160), diameter_px=26) > 0
    grey = np.random.default_rng(0).integers(0, 255, labels.shape).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "images" / "a.png")
    Image.fromarray(labels).save(tmp_path / "labels" / "a.png")
    table = tmp_path / "picks.csv"
    table.write_text("image_name,x,y\n" + "".join(f"a,{x:g},{y:g}\n" for y, x in centers))
    from_mask = find_micrographs([str(tmp_path)])[0][0]
    from_picks = find_micrographs([str(tmp_path / "images")], [table])[0][0]
    for pair in (from_mask, from_picks):
        whole, cores = (
            load_micrograph(pair, ReadOptions(particle_pixels=26.0, diameter_px=26.0, core=core))[0]
            for core in (1.0, 0.5)
        )
        assert ndimage.label(whole.labels > 0)[1] == 2
        assert ndimage.label(cores.labels > 0)[1] == 3
        assert (cores.labels > 0).sum() == pytest.approx(3 * np.pi * 6.5**2, rel=0.08)
        assert len(cores.centers) == 3


def test_unusable_data_are_named(tmp_path: Path) -> None:
    write_cryoppp(tmp_path, ["a"])
    pair = find_micrographs([str(tmp_path)])[0][0]
    for options, message in (
        (ReadOptions(particle_pixels=12.0, diameter_px=500.0), "does not fit an image of 160 x 160"),
        (ReadOptions(particle_pixels=12.0, diameter_angstrom=50.0), "--pixel-size"),
    ):
        with pytest.raises(InputError, match=message):
            load_micrograph(pair, options)
    Image.fromarray(np.zeros((160, 160), np.uint8)).save(tmp_path / "labels" / "a.png")
    with pytest.raises(InputError, match="no particle is labelled"):
        load_micrograph(pair, ReadOptions(particle_pixels=12.0))
    Image.fromarray(np.zeros((80, 160), np.uint8)).save(tmp_path / "labels" / "a.png")
    with pytest.raises(InputError, match="size of the image"):
        load_micrograph(pair, ReadOptions(particle_pixels=12.0))
    with pytest.raises(InputError, match="cannot be split"):
        split_micrographs([str(tmp_path)], [], seed=0)
    with pytest.raises(InputError, match="no such folder"):
        find_micrographs([str(tmp_path / "absent")])


def test_the_frame_without_labels_is_unknown(data: Path) -> None:
    pair = find_micrographs([str(data)])[0][0]
    found, _ = load_micrograph(pair, ReadOptions(particle_pixels=24.0, border_px=20))
    assert (found.labels[:, :18] != 0).all()
    assert (found.labels[20:-20, 20:-20] >= 0).all()


def test_the_diameter_is_measured_in_labels() -> None:
    numbers = draw_discs(CENTERS, (160, 160), diameter_px=24)
    assert labelled_diameter(numbers, numbered=True) == pytest.approx(24, abs=0.5)
    touching = draw_discs(np.array([[40.0, 40.0], [40.0, 62.0]]), (80, 100), diameter_px=24)
    assert labelled_diameter(touching, numbered=False) == pytest.approx(24, abs=2)
    assert labelled_diameter(np.zeros((9, 9), int), numbered=False) == 0.0


def test_the_command_trains_from_coordinates_in_angstrom(data: Path, base: Path, tmp_path: Path) -> None:
    table = tmp_path / "picks.csv"
    table.write_text(
        "image_name,x,y\n" + "".join(f"{name},{x:g},{y:g}\n" for name in "ab" for y, x in CENTERS)
    )
    arguments = [
        *("train", "encoder-prompt", str(data / "images" / "a.png"), str(data / "images" / "b.png")),
        *("--picks", str(table), "--particle-diameter", "48", "--pixel-size", "2", "--base", str(base)),
        *("--steps", "1", "--batch", "1", "--blocks", "1:2", "--standalone", "--device", "cpu"),
        *("-o", str(tmp_path / "run"), "--model-card", '{"data": "discs"}'),
    ]
    outcome = CliRunner().invoke(app, arguments)
    assert outcome.exit_code == 0, outcome.output
    metadata = read_model_metadata(tmp_path / "run" / "encoder.safetensors")
    assert metadata["base"] is None
    assert metadata["card"]["data"] == "discs"
    assert metadata["card"]["particle_diameter_px"] == 24
    assert metadata["prompt"]["blocks"] == [0, 2]
    assert metadata["recipe"]["core"] == 0.6
    assert metadata["recipe"]["peak_sigma"] in PEAK_SIGMAS
    assert load_particle_model(tmp_path / "run" / "encoder.safetensors", torch.device("cpu")).recipe


def test_automatic_masks_are_chosen_by_size(small_sam: SamGeometry, monkeypatch: pytest.MonkeyPatch) -> None:
    masks = np.zeros((3, 64, 64), bool)
    masks[0, 8:20, 8:20] = True  # a particle
    masks[1] = True  # the background
    masks[2, 40:42, 40:42] = True  # a speck

    class Generator:
        def __init__(self, sam: object) -> None:
            pass

        def generate(self, rgb: np.ndarray) -> list[dict[str, object]]:
            return [{"area": int(mask.sum()), "segmentation": mask} for mask in masks]

    monkeypatch.setattr("segment_anything.SamAutomaticMaskGenerator", Generator)
    color = replace(small_sam, in_channels=3)
    network = PromptSam(color, PromptConfig())
    union = particle_sized_union(network, np.zeros((64, 64, 3), np.uint8), particle_pixels=12.0)
    np.testing.assert_array_equal(union, masks[0])


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("finetune", ["--num-tokens", "8"], "--num-tokens: is for prefix, not finetune"),
        ("head-prompt", ["--tuned-blocks", "1"], "--tuned-blocks: is for finetune, not head"),
        ("finetune", ["--particle-diameter", "48", "--particle-diameter-px", "24"], "not both"),
        ("finetune", ["--learning-rate", "nan"], "--learning-rate nan"),
    ],
)
def test_options_without_a_meaning_are_refused(
    data: Path, base: Path, tmp_path: Path, method: str, options: list[str], words: str
) -> None:
    arguments = ["train", method, str(data), "--base", str(base), "-o", str(tmp_path / "run")]
    outcome = CliRunner().invoke(app, [*arguments, *options])
    assert isinstance(outcome.exception, ConfigError)
    assert words in str(outcome.exception)


def test_blank_parts_of_a_micrograph_are_unknown_and_change_no_contrast(tmp_path: Path) -> None:
    image = np.random.default_rng(0).normal(100, 5, (160, 160)).astype(np.float32)
    table = tmp_path / "picks.csv"
    table.write_text("image_name,x,y\na,60,60\n")
    found = {}
    for name, width in (("bare", 0), ("padded", 160)):
        folder = tmp_path / name
        folder.mkdir()
        padded = np.pad(image, ((0, 0), (0, width)))
        write_logits(folder / "a.mrc", padded[None], Geometry(voxel_size=(2.0,) * 3), label="")
        pairs, _ = find_micrographs([str(folder / "a.mrc")], [table])
        found[name], _ = load_micrograph(pairs[0], ReadOptions(particle_pixels=12.0, diameter_px=12.0))
    assert (found["padded"].labels[:, 160:] == -1).all()
    np.testing.assert_array_equal(found["padded"].labels[:, :160], found["bare"].labels)
    # Only the local background next to the border differs.
    np.testing.assert_allclose(found["padded"].grey[:, :100], found["bare"].grey[:, :100], atol=0.1)
