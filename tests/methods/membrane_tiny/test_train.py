"""Finding the weights and settings of runs: what is no run is refused in one sentence."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cryoseg.config.segment import Polarity
from cryoseg.config.train import ClipConfig, LoopConfig, TrainMembraneConfig
from cryoseg.errors import ConfigError, InputError, WeightsError
from cryoseg.io.images.mrc import write_mrc
from cryoseg.io.images.volumes import read_tomogram, write_logits, write_mask
from cryoseg.methods.membrane_tiny.clips import load_volume
from cryoseg.methods.membrane_tiny.train import (
    load_start,
    membrane_loss,
    require_run,
    run_settings,
    train_membrane,
    train_stage,
)
from cryoseg.methods.membranes import Pair, TrainingPairs, find_pairs, split_pairs
from cryoseg.methods.model_file import read_model_metadata, read_model_tensors
from cryoseg.methods.training.loop import TrainingError
from cryoseg.methods.training.run import Runtime
from cryoseg.types import Geometry


def test_unknown_voxels_cost_nothing_and_pull_nothing() -> None:
    labels = torch.tensor([1, 0, -1, -1], dtype=torch.int8)
    logits = torch.tensor([1.0, -2.0, 9.0, -9.0], requires_grad=True)
    loss = membrane_loss(logits, labels)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[2:].tolist() == [0, 0]
    assert loss.item() == pytest.approx(membrane_loss(logits[:2], labels[:2]).item())


def test_values_by_hand() -> None:
    labels = torch.tensor([1, 0], dtype=torch.int8)
    logits = torch.zeros(2)
    # Cross-entropy log 2; overlap 0.5, sums 1 and 1: (2 * 0.5 + 1) / (1 + 1 + 1)
    assert membrane_loss(logits, labels).item() == pytest.approx(math.log(2) + 1 - 2 / 3)


def test_an_empty_batch_without_false_positives_is_free_of_dice_loss() -> None:
    loss = membrane_loss(torch.full((4,), -40.0), torch.zeros(4, dtype=torch.int8))
    assert loss.item() == pytest.approx(0)


GEOMETRY = Geometry(voxel_size=(12.0, 12.0, 12.0))


def write_pair(folder: Path, name: str, seed: int, *, labels: np.ndarray | None = None) -> None:
    """A dark ring in weak noise: learnable in a few steps."""
    rng = np.random.default_rng(seed)
    _, y, x = np.mgrid[:8, :64, :64]
    ring = np.abs(np.hypot(y - 32, x - 32) - 18) < 2
    data = rng.normal(size=ring.shape) * 0.5 - 3 * ring
    folder.mkdir(parents=True, exist_ok=True)
    values = data.astype(np.float32)
    write_logits(folder / f"{name}_tomogram.mrc", values, GEOMETRY, label="test")
    write_mask(folder / f"{name}_labels.mrc", ring if labels is None else labels, GEOMETRY, label="test")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    for i in range(3):
        write_pair(folder, f"ring{i}", i)
    return folder


def material(parts: tuple[list[Pair], list[Pair]]) -> TrainingPairs:
    return TrainingPairs(training=parts[0], held_out=parts[1], polarity=Polarity.DARK)


def tiny(stage: int, steps: int) -> TrainMembraneConfig:
    return TrainMembraneConfig(
        stage=stage,
        loop=LoopConfig(steps=steps, warmup_steps=2, validate_every=steps, checkpoint_every=2, ema_decay=0.5),
        clip=ClipConfig(size=64, batch=1, length=2, zoom=1.0, noise=0.0, blur=0.0),
    )


def test_from_pairs_to_a_model_file_with_its_recipe(data: Path, tmp_path: Path) -> None:
    model = train_membrane(
        (tiny(1, 12), tiny(2, 4)),
        material(split_pairs([str(data)], [], seed=0)),
        tmp_path,
        card={"data": "rings"},
    )
    assert model is not None
    metadata = read_model_metadata(model)
    assert metadata["method"] == "membrane-tiny"
    assert metadata["card"]["data"] == "rings"
    assert metadata["recipe"]["window"] == 2
    assert metadata["recipe"]["logit_threshold"] == metadata["logit_threshold"]
    assert metadata["card"]["validation_dice"] > 0.5
    first, second = (read_model_tensors(model, f"stage{stage}.") for stage in (1, 2))
    key = "image_encoder.stem.to_full.0.weight"
    assert first[key].dtype == torch.float16
    assert (first[key].shape[1], second[key].shape[1]) == (5, 16)


def test_clips_that_processes_prepare_ahead_train_the_same_network(data: Path, tmp_path: Path) -> None:
    pairs = material(split_pairs([str(data)], [], seed=0))
    for workers in (0, 2):
        assert train_stage(
            tiny(1, 3), pairs, tmp_path / str(workers), runtime=Runtime(sample_workers=workers)
        )
    alone, ahead = (
        torch.load(tmp_path / workers / "best.pt", weights_only=True)["model"] for workers in ("0", "2")
    )
    assert all(torch.equal(alone[name], ahead[name]) for name in alone)


def test_a_killed_run_ends_like_an_undisturbed_one(data: Path, tmp_path: Path) -> None:
    command = [
        *(
            sys.executable,
            "-m",
            "cryoseg",
            "train",
            "membrane",
            str(data),
            "--stage",
            "1",
            "--steps",
            "12",
            "--batch",
            "1",
        ),
        *("--clip-length", "2", "--crop-size", "64", "--validate-every", "2", "--seed", "3"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [*command, "-o", str(tmp_path / "whole")], check=True, env=environment, capture_output=True
    )
    with subprocess.Popen(
        [*command, "-o", str(tmp_path / "cut")],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        checkpoint = tmp_path / "cut" / "last.pt"
        while not checkpoint.exists() and process.poll() is None:
            time.sleep(0.02)
        time.sleep(float(np.random.default_rng().uniform(0, 1)))
        process.send_signal(signal.SIGKILL)
    assert 0 < torch.load(checkpoint, weights_only=True)["step"] < 12  # there is something to go on from
    subprocess.run([*command, "-o", str(tmp_path / "cut")], check=True, env=environment, capture_output=True)
    whole, cut = (torch.load(tmp_path / run / "best.pt", weights_only=True) for run in ("whole", "cut"))
    assert whole["score"] == cut["score"]
    assert all(torch.equal(whole["model"][name], cut["model"][name]) for name in whole["model"])


def test_a_refused_call_leaves_the_record_of_the_run_alone(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    pairs = find_pairs([str(data)])
    given = material((pairs[:2], pairs[2:]))
    train_stage(tiny(1, 2), given, run)
    record = (run / "config.json").read_bytes()
    others = (
        {"config": tiny(1, 4)},
        {"data": replace(given, polarity=Polarity.BRIGHT)},
        {"start": torch.load(run / "best.pt", weights_only=True)["model"]},
    )
    for other in others:
        with pytest.raises(TrainingError, match="other settings"):
            train_stage(**{"config": tiny(1, 2), "data": given, "folder": run} | other)
        assert (run / "config.json").read_bytes() == record


def test_a_volume_with_nan_is_named(tmp_path: Path) -> None:
    write_pair(tmp_path, "ring", 0)
    tomogram = tmp_path / "ring_tomogram.mrc"
    values = read_tomogram(tomogram).data.copy()
    values[3, 4, 5] = np.nan
    tomogram.unlink()
    write_logits(tomogram, values, GEOMETRY, label="test")
    with pytest.raises(InputError, match="ring_tomogram"):
        load_volume(find_pairs([str(tmp_path)])[0])


def test_a_run_repeats_from_the_options_it_left(data: Path, tmp_path: Path) -> None:
    program = (sys.executable, "-m", "cryoseg", "train", "membrane")
    options = (
        "--stage",
        "1",
        "--steps",
        "6",
        "--batch",
        "1",
        "--clip-length",
        "2",
        "--crop-size",
        "64",
        "--seed",
        "3",
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for command in (
        (*program, str(data), "-o", "first", *options, "--validate-every", "3"),
        (*program, "--config", "first/command.toml", "-o", "again"),
    ):
        subprocess.run(command, check=True, env=environment, cwd=tmp_path, capture_output=True)
    first, again = ((tmp_path / run / "log.csv").read_text().splitlines() for run in ("first", "again"))
    # step, loss, rate, validation Dice and whether it is the best; the last column is seconds
    curves = [[line.split(",")[:5] for line in lines] for lines in (first, again)]
    assert len(curves[0]) == 3
    assert all(row[3] for row in curves[0])
    assert curves[0] == curves[1]


def test_pairs_come_from_tagged_files_twin_folders_and_lists(data: Path, tmp_path: Path) -> None:
    assert [pair.name for pair in find_pairs([str(data)])] == ["ring0", "ring1", "ring2"]
    for sub, tag in (("tomograms", "tomogram"), ("masks", "labels")):
        (tmp_path / sub).mkdir()
        (tmp_path / sub / "a.mrc").symlink_to(data / f"ring1_{tag}.mrc")
    assert [pair.name for pair in find_pairs([str(tmp_path)])] == ["a"]
    table = tmp_path / "pairs.csv"
    table.write_text("tomogram,mask,polarity\ntomograms/a.mrc,masks/a.mrc,bright\n")
    (pair,) = find_pairs([str(table)])
    assert pair.polarity == "bright"
    inverted, plain = load_volume(pair), load_volume(find_pairs([str(tmp_path)])[0])
    np.testing.assert_array_equal(inverted.data, -plain.data)


def test_lists_of_relion_have_their_labels_in_a_folder_and_their_own_pixel_sizes(tmp_path: Path) -> None:
    for number, folder in ((1, "recs"), (2, "recs")):
        (tmp_path / folder).mkdir(exist_ok=True)
        write_pair(tmp_path, f"TS_{number}", number)
        (tmp_path / f"TS_{number}_tomogram.mrc").rename(tmp_path / folder / f"rec_TS_{number}.mrc")
    labels = tmp_path / "labels"
    labels.mkdir()
    (tmp_path / "TS_1_labels.mrc").rename(labels / "TS_1_labels.mrc")  # named after the tilt series
    (tmp_path / "TS_2_labels.mrc").rename(labels / "rec_TS_2.mrc")  # named after the tomogram
    star = tmp_path / "tomograms.star"
    columns = ("Name", "ReconstructedTomogram", "TiltSeriesPixelSize", "TomogramBinning")
    rows = "".join(f"TS_{n} recs/rec_TS_{n}.mrc 1.75 2\n" for n in (2, 1))
    star.write_text("data_global\nloop_\n" + "".join(f"_rlnTomo{one}\n" for one in columns) + rows)
    pairs = find_pairs([str(star)], labels=labels)
    assert [(pair.name, pair.labels.name) for pair in pairs] == [
        ("rec_TS_2", "rec_TS_2.mrc"),
        ("TS_1", "TS_1_labels.mrc"),
    ]
    # 3.5 A by the list, 12 A by the header: the volume is binned by two for the network.
    assert load_volume(pairs[0]).data.shape == (4, 32, 32)
    with pytest.raises(InputError, match="name their folder with --labels"):
        find_pairs([str(star)])
    (labels / "rec_TS_2.mrc").unlink()
    with pytest.raises(InputError, match="has no label for 1 of 2 images"):
        find_pairs([str(star)], labels=labels)
    star.write_text("data_\nloop_\n_rlnMicrographName\nrecs/none.mrc\n")
    with pytest.raises(InputError, match=r"recs/none\.mrc: no such file"):
        find_pairs([str(star)], labels=labels)


@pytest.mark.parametrize(
    ("voxel_size", "shape"), [(3.5, (4, 32, 32)), (36.0, (16, 128, 128)), (0.0, (8, 64, 64))]
)
def test_volumes_are_learned_on_the_grid_of_the_packaged_model(
    tmp_path: Path, voxel_size: float, shape: tuple[int, int, int]
) -> None:
    labels = np.full((8, 64, 64), -1, np.int8)
    labels[5] = np.arange(64) < 32
    write_pair(tmp_path, "ring", 0)
    for tag, values in (("tomogram", read_tomogram(tmp_path / "ring_tomogram.mrc").data), ("labels", labels)):
        target = tmp_path / "other" / f"ring_{tag}.mrc"
        target.parent.mkdir(exist_ok=True)
        geometry = Geometry(voxel_size=(voxel_size,) * 3)
        write_mrc(target, values, geometry, label="test", dtype=str(values.dtype))
    volume = load_volume(find_pairs([str(tmp_path / "other")])[0])
    assert volume.data.shape == volume.labels.shape == shape
    painted = {4: [2], 16: [10, 11], 8: [5]}[shape[0]]
    assert volume.labeled_slices.tolist() == painted
    assert (volume.labels[painted] > 0).mean() == 0.5


def test_a_tenth_but_at_least_one_volume_is_held_out(data: Path) -> None:
    training, held_out = split_pairs([str(data)], [], seed=0)
    assert (len(training), len(held_out)) == (2, 1)
    with pytest.raises(ConfigError, match="none is left for training"):
        split_pairs([str(data)], [str(data)], seed=0)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((8, 64, 64), np.int8), "no voxel is labelled membrane"),
        (np.ones((4, 64, 64), np.int8), "the shape of the tomogram"),
        (np.full((8, 64, 64), 3, np.int8), r"1 \(membrane\)"),
    ],
)
def test_labels_that_cannot_teach_are_named(labels: np.ndarray, message: str, tmp_path: Path) -> None:
    write_pair(tmp_path, "bad", 0)
    (tmp_path / "bad_labels.mrc").unlink()
    write_mrc(tmp_path / "bad_labels.mrc", labels, GEOMETRY, label="test", dtype="int8")
    with pytest.raises(InputError, match=message):
        load_volume(find_pairs([str(tmp_path)])[0])


def test_sources_without_pairs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not found"):
        find_pairs([str(tmp_path / "absent")])
    with pytest.raises(InputError, match="no pairs"):
        find_pairs([str(tmp_path)])
    (tmp_path / "list.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="columns tomogram,mask"):
        find_pairs([str(tmp_path / "list.csv")])


def test_simulated_polarity_is_believed(tmp_path: Path) -> None:
    write_pair(tmp_path, "s", 0)
    (tmp_path / "s.json").write_text(json.dumps({"polarity": "bright"}))
    assert find_pairs([str(tmp_path)])[0].polarity == "bright"


def test_a_start_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="neither a file nor"):
        load_start(tmp_path / "nothing.pt", 1)


@pytest.mark.parametrize("content", [[1, 2], {"step": 3}, {"model": {"other": torch.zeros(1)}}])
def test_a_start_of_another_kind_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match=r"other.pt: (contains a|has no|is neither)"):
        load_start(tmp_path / "other.pt", 1)


def test_the_bundled_model_is_a_start_for_both_stages() -> None:
    first, second = (load_start(Path("membrane-tiny"), stage) for stage in (1, 2))
    assert set(first) == set(second)
    assert {value.dtype for value in first.values()} == {torch.float32}


def test_runs_of_another_stage_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="missing"):
        require_run(tmp_path)
    torch.save({}, tmp_path / "best.pt")
    (tmp_path / "config.json").write_text(json.dumps({"config": {"stage": 2, "clip": {}}}), encoding="utf-8")
    config, _ = run_settings(tmp_path, 2)
    assert config.stage == 2
    with pytest.raises(WeightsError, match="not a run of stage 1"):
        run_settings(tmp_path, 1)
