"""Recorded outputs of the published implementations, run through the public code path.

Every `.npz` of this folder is collected, or of the folder that CRYOSEG_CONFORMANCE_DIR names. A
vector of an unknown kind or option fails; an empty folder fails. To add a method, write a function
that takes a vector and asserts, and a line in `KINDS`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import mrcfile
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from cryoseg.cli.app import app
from cryoseg.config import ModelChoice, Preset, SegmentConfig
from cryoseg.config.cet_pick import Arch, CetPickConfig
from cryoseg.config.prompt_sam import InputScale, PromiseConfig, PromptConfig, Prompter, PromptMethod
from cryoseg.config.setting import restore
from cryoseg.core.masks.postprocess import postprocess_mask
from cryoseg.events import Report
from cryoseg.io.images.volumes import write_logits
from cryoseg.methods.cet_pick.losses import probabilities, pu_risk, published_contrast
from cryoseg.methods.cet_pick.network import build as build_cet_pick
from cryoseg.methods.particles.published_weights import UNUSED_HEAD, remap_keys
from cryoseg.methods.promise.network import PromiseSam
from cryoseg.methods.prompt_sam.network import PromptSam
from cryoseg.methods.sam.geometry import SamGeometry
from cryoseg.methods.sam.sam2_config import build_predictor
from cryoseg.pipelines.segment.model import prepare_run
from cryoseg.pipelines.segment.tomogram import check_tomogram, segment_in_run
from cryoseg.types import Geometry, Tomogram

HERE = Path(__file__).parent
FOLDER = Path(os.environ.get("CRYOSEG_CONFORMANCE_DIR", HERE))
VECTORS = sorted(FOLDER.glob("*.npz"))
PRESETS = {"v1": Preset.V1, "head": Preset.V2}

# Asked for: 1e-3 in logits "with the same torch kernels". README.md beside this file tells what other
# kernels do to these random networks, and how these limits still catch a single missing rounding.
TOLERANCE = 1e-3  # for the typical voxel
LARGE = 5e-3  # for all but one voxel in a hundred
WORST = 2e-2
# Part of the mask that may differ where the logit is TOLERANCE to WORST from the threshold.
UNSURE_VOXELS = 1e-4


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small networks: two threads wait for each other longer than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True, kw_only=True)
class Vector:
    """One `.npz`: its meta, and its arrays."""

    name: str
    meta: dict[str, Any]
    arrays: dict[str, np.ndarray]


def read_vector(path: Path) -> Vector:
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files if name != "meta"}
        return Vector(name=path.stem, meta=json.loads(str(stored["meta"])), arrays=arrays)


def seeded_state(
    shapes: dict[str, tuple[int, ...]], seed: int, overrides: dict[str, np.ndarray]
) -> dict[str, Any]:
    """Weights that follow from names, as the conformance folder's own module makes them."""
    spec = importlib.util.spec_from_file_location("seeded_weights", HERE / "seeded_weights.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: torch.from_numpy(v) for name, v in module.fill(shapes, seed, overrides).items()}


# --- ETSAM ---------------------------------------------------------------------------------------


def etsam_config_file(vector: Vector) -> str:
    """The SAM 2 configuration: beside the vectors, beside this file, or a name inside sam2."""
    name = vector.meta["config"]
    return next((str(folder / name) for folder in (FOLDER, HERE) if (folder / name).is_file()), name)


def parse_options(arguments: list[str]) -> SegmentConfig:
    """The settings with which `cryoseg segment` would call its pipeline."""
    with mock.patch("cryoseg.pipelines.segment.files.segment_files", return_value=Report(rows=[])) as called:
        result = CliRunner().invoke(app, ["segment", "tomogram.mrc", *arguments])
    assert result.exit_code == 0, result.output
    config: SegmentConfig = called.call_args.args[2].config
    return config


def etsam_settings(vector: Vector) -> SegmentConfig:
    """The preset with the vector's options on top, read by the command line's own parser."""
    preset = PRESETS[vector.meta["publication_state"]]
    return parse_options(["--preset", preset.value, *vector.meta["options"]])


def etsam_choice(vector: Vector, folder: Path) -> ModelChoice:
    """Checkpoints of both stages: one in ETSAM's `.pt` form, one as safetensors."""
    config = etsam_config_file(vector)
    shapes = {name: tuple(v.shape) for name, v in build_predictor(config).state_dict().items()}
    states = []
    for stage, seed in enumerate(vector.meta["stage_seeds"], start=1):
        tag = f"override/stage{stage}/"
        overrides = {k.removeprefix(tag): v for k, v in vector.arrays.items() if k.startswith(tag)}
        states.append(seeded_state(shapes, seed, overrides))
    first, second = folder / "stage1.pt", folder / "stage2.safetensors"
    torch.save({"model": states[0], "epoch": 3, "optimizer": {"lr": 1e-5}}, first)
    save_file(states[1], second)
    return ModelChoice(stage1_checkpoint=first, stage2_checkpoint=second, sam2_config=config)


def assert_logits(found: np.ndarray, recorded: np.ndarray) -> None:
    assert found.shape == recorded.shape
    median, most, worst = np.quantile(np.abs(found - recorded), (0.5, 0.99, 1.0))
    assert median <= TOLERANCE
    assert most <= LARGE
    assert worst <= WORST


def assert_mask(found: np.ndarray, recorded: np.ndarray, logits: np.ndarray, threshold: float) -> None:
    distance = np.abs(logits - threshold)
    wrong = found.astype(bool) != recorded.astype(bool)
    assert not wrong[distance > WORST].any()
    assert np.count_nonzero(wrong[distance > TOLERANCE]) <= UNSURE_VOXELS * wrong.size


def check_etsam(vector: Vector, tmp_path: Path) -> None:
    recorded, config = vector.arrays, etsam_settings(vector)
    known = {"tomogram", "stage1_logits", "stage2_input", "logits", "mask", "post_processed"}
    assert {name for name in recorded if not name.startswith("override/")} <= known
    geometry = Geometry(voxel_size=(vector.meta["voxel_size"],) * 3)
    tomogram = Tomogram(data=recorded["tomogram"], geometry=geometry)
    run = prepare_run(config, etsam_choice(vector, tmp_path), device="cpu")
    result = segment_in_run(tomogram, run, check_tomogram(tomogram, run), keep_stages=True)
    threshold = config.logit_threshold
    if threshold is None:
        threshold = {Preset.V1: -0.5, Preset.V2: -0.25}[config.preset]
    if "stage1_logits" in recorded:
        assert result.stage1_logits is not None
        assert_logits(result.stage1_logits, recorded["stage1_logits"])
    if "stage2_input" in recorded:
        assert result.stage2_input is not None
        np.testing.assert_allclose(result.stage2_input, recorded["stage2_input"], rtol=0, atol=TOLERANCE)
    assert_logits(result.logits, recorded["logits"])
    assert_mask(result.mask, recorded["mask"], recorded["logits"], threshold)
    if "post_processed" in recorded:
        assert result.post_processed is not None
        # Filtering the very mask that was recorded leaves nothing to tolerance.
        filtered = postprocess_mask(recorded["mask"].astype(bool), config.postprocess, config)
        np.testing.assert_array_equal(filtered, recorded["post_processed"].astype(bool))
        if np.array_equal(result.mask, recorded["mask"].astype(bool)):
            np.testing.assert_array_equal(result.post_processed, filtered)


# --- CET-pick ------------------------------------------------------------------------------------


def check_cet_pick_network(vector: Vector, tmp_path: Path) -> None:
    network = build_cet_pick(Arch(vector.meta["arch"])).eval()
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert shapes == {name: tuple(shape) for name, shape in vector.meta["keys"].items()}
    if "parameters" in vector.meta:
        assert sum(value.numel() for value in network.parameters()) == vector.meta["parameters"]
    network.load_state_dict(seeded_state(shapes, vector.meta["seed"], {}), strict=True)
    shape = tuple(int(n) for n in re.findall(r"\d+", vector.meta["input"].split(")")[0]))
    image = np.random.RandomState(vector.meta["seed"]).random_sample(shape).astype(np.float32)
    with torch.inference_mode():
        outputs = dict(zip(("hm", "proj"), network(torch.from_numpy(image)), strict=True))
    assert set(vector.arrays) <= set(outputs)
    for name, recorded in vector.arrays.items():
        found = outputs[name].numpy()
        if found.shape != recorded.shape:
            found = found[..., ::2, ::2, ::2]
        np.testing.assert_allclose(found, recorded, rtol=0, atol=1e-4)


def check_cet_pick_losses(vector: Vector, tmp_path: Path) -> None:
    arrays = {name: torch.from_numpy(value) for name, value in vector.arrays.items()}
    assert vector.meta["expected"]
    for name, expected in vector.meta["expected"].items():
        if match := re.fullmatch(r"pu_tau([\d.]+)_scale([\d.]+)", name):
            prior, scale = map(float, match.groups())
            found = pu_risk(probabilities(arrays["hm"] * scale), arrays["target"], prior=prior)
        else:
            match = re.fullmatch(r"contrast_temp([\d.]+)_tau([\d.]+)_(sup|unsup)", name)
            assert match, f"unknown loss {name}"
            config = CetPickConfig(
                particle_diameter_angstrom=100, temperature=float(match[1]), prior=float(match[2])
            )
            features = torch.nn.functional.normalize(arrays["features"], dim=-1)
            with mock.patch("cryoseg.methods.cet_pick.losses.ROWS", 257):  # several blocks
                parts = published_contrast(features, arrays["labels"], arrays["probabilities"], config)
            found = parts[("sup", "unsup").index(match[3])]
        assert found.item() == pytest.approx(expected, rel=1e-4), name


# --- Prompt-SAM ----------------------------------------------------------------------------------

# What the options of the released scripts are called here.
PROMPT_SAM_OPTIONS = {
    "deep_token_block_configuration": ("blocks", tuple),
    "image_encoder_configuration": ("blocks", tuple),
    "NUM_TOKENS": ("num_tokens", int),
}


def sam_geometry(values: dict[str, Any]) -> SamGeometry:
    """A vector's geometry in our words."""
    names = {"global_attn_indexes": "global_blocks", "window_size": "window", "out_chans": "out_channels"}
    return restore(
        SamGeometry, {names.get(name, name): value for name, value in values.items()}, source="geometry"
    )


def prompt_sam_network(vector: Vector) -> PromptSam:
    """The network that a vector describes, with the publication's names in its state dict."""
    geometry = sam_geometry(vector.meta["geometry"])
    options = {}
    for name, value in vector.meta["options"].items():
        assert name in PROMPT_SAM_OPTIONS, f"unknown option {name}"
        ours, convert = PROMPT_SAM_OPTIONS[name]
        options[ours] = convert(value)
    return PromptSam(geometry, PromptConfig.faithful(PromptMethod(vector.meta["kind"]), **options)).eval()


def check_prompt_sam(vector: Vector, tmp_path: Path) -> None:
    network = prompt_sam_network(vector)
    ours = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    recorded = {f"sam.{n}": tuple(s) for n, s in vector.meta["extra_keys"].items() if ".linear." not in n}
    recorded |= {f"unet.{name}": tuple(shape) for name, shape in (vector.meta.get("unet_keys") or {}).items()}
    # A batch of one in training: the recorded slot is the first and only one.
    added = {n: s for n, s in ours.items() if n in recorded}
    assert added == recorded
    known = {"logits", "iou", "embedding_sample", "encoder_input_mean"}
    assert set(vector.arrays) <= known
    # Weights follow from the publication's names, which begin inside SAM and inside the U-Net.
    names = {name.removeprefix("sam.").removeprefix("unet."): name for name in ours}
    assert len(names) == len(ours)
    state = seeded_state({name: ours[full] for name, full in names.items()}, vector.meta["seed"], {})
    network.load_state_dict({names[name]: value for name, value in state.items()}, strict=True)
    side = network.geometry.image_size
    image = np.random.RandomState(vector.meta["seed"]).random_sample((1, 3, side, side)).astype(np.float32)
    with torch.inference_mode():
        seen = network.encoder_input(torch.from_numpy(image))
        embedding = network.sam.image_encoder(seen)
        logits, iou = network(torch.from_numpy(image))
    found = {
        "logits": logits,
        "iou": iou,
        "embedding_sample": embedding[:, ::16, ::2, ::2],
        "encoder_input_mean": seen.mean(),
    }
    for name, array in vector.arrays.items():
        np.testing.assert_allclose(found[name].numpy(), array, rtol=0, atol=1e-4, err_msg=name)


# --- ProMISe -------------------------------------------------------------------------------------

PROMISE_VARIANTS = {
    "apm": PromiseConfig(prompter=Prompter.APM, ips=False, best_mask=False),
    "apm_ips": PromiseConfig(prompter=Prompter.APM, zero_start=False, best_mask=False),
    "ips_gt": PromiseConfig(prompter=Prompter.GT, zero_start=False, best_mask=False),
    # Of the second, trained; only the evaluation takes its points from the truth.
    "apm_ips_gt": PromiseConfig(prompter=Prompter.APM, zero_start=False, best_mask=False),
}


def check_promise(vector: Vector, tmp_path: Path, variant: str = "") -> None:
    own = vector.meta["variant"]
    variant = variant or own
    assert variant in PROMISE_VARIANTS, f"unknown variant {variant}"
    recorded = vector.arrays
    assert set(recorded) <= {"point_coords", "point_labels", "logits", "apm_output", "ips_offset"}
    promise = replace(PROMISE_VARIANTS[variant], points=recorded["point_labels"].shape[1])
    # Recorded on an image that is normalized already, which `UNIT` leaves as it is.
    config = PromptConfig(method=PromptMethod.PROMISE, promise=promise, input_scale=InputScale.UNIT)
    network = PromiseSam(sam_geometry(vector.meta["geometry"]), config).eval()
    ours = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    extra = {n: tuple(s) for n, s in vector.meta["extra_keys"].items() if not n.startswith(UNUSED_HEAD)}
    added = {name: shape for name, shape in ours.items() if not name.startswith("sam.")}
    assert added == extra if variant == own else extra.items() < added.items()
    # Weights follow from the publication's names, which our importer reads.
    published = {name.removeprefix("sam."): shape for name, shape in ours.items()}
    state = seeded_state(published, vector.meta["seed"], {})
    network.load_state_dict(remap_keys(state)[0], strict=True)
    side = network.geometry.image_size
    image = np.random.RandomState(vector.meta["seed"]).random_sample((1, 3, side, side)).astype(np.float32)
    assert "seeded_image((1, 3, 1024, 1024), seed) * 4 - 2" in vector.meta["image"]
    given = None
    if variant.endswith("_gt"):
        given = (torch.from_numpy(recorded["point_coords"]), torch.from_numpy(recorded["point_labels"]))
    with torch.inference_mode():
        images = torch.from_numpy(image * np.float32(4) - np.float32(2))
        logits, _, (places, labels) = network.all_masks(images, given)
        assert torch.equal(network(images, given)[0], logits[:, :1])
        embedding, features = network.encode(images)
        if "apm_output" in recorded:
            np.testing.assert_allclose(network.raw_points(features), recorded["apm_output"], atol=1e-4)
        if "ips_offset" in recorded:
            offsets = network.token_offsets(embedding).flatten(1)
            np.testing.assert_allclose(offsets, recorded["ips_offset"], atol=1e-4)
    np.testing.assert_allclose(places, recorded["point_coords"], rtol=0, atol=1e-2)
    np.testing.assert_array_equal(labels, recorded["point_labels"])
    np.testing.assert_allclose(logits[..., ::2, ::2], recorded["logits"], rtol=0, atol=1e-4)


def test_points_of_the_truth_take_the_place_of_the_prompter(tmp_path: Path) -> None:
    """APM_IPS_GT: a network with a prompter, given points, is the network without one."""
    (path,) = [path for path in VECTORS if path.stem == "promise_ips_gt"]
    check_promise(read_vector(path), tmp_path, "apm_ips_gt")


# --- every kind ------------------------------------------------------------------------------------

KINDS: dict[str, Callable[[Vector, Path], None]] = {
    "etsam": check_etsam,
    "cet_pick": check_cet_pick_network,
    "cet_pick_losses": check_cet_pick_losses,
    "prompt_sam": check_prompt_sam,
    "promise": check_promise,
}


def kind_of(vector: Vector) -> str:
    """What implementation a vector comes from, by what its meta says."""
    if "publication_state" in vector.meta:
        return "etsam"
    if "arch" in vector.meta:
        return "cet_pick"
    if "expected" in vector.meta:
        return "cet_pick_losses"
    if "kind" in vector.meta and "geometry" in vector.meta:
        return "prompt_sam"
    if "variant" in vector.meta and "geometry" in vector.meta:
        return "promise"
    raise AssertionError(f"{vector.name}: unknown kind of vector, with meta {sorted(vector.meta)}")


def test_there_are_vectors() -> None:
    assert VECTORS, f"no .npz in {FOLDER}"


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_vector(path: Path, tmp_path: Path) -> None:
    vector = read_vector(path)
    KINDS[kind_of(vector)](vector, tmp_path)


@pytest.mark.parametrize(
    "path", [p for p in VECTORS if p.name.startswith("etsam")], ids=lambda path: path.stem
)
def test_command_writes_what_was_recorded(path: Path, tmp_path: Path) -> None:
    vector = read_vector(path)
    choice = etsam_choice(vector, tmp_path)
    geometry = Geometry(voxel_size=(vector.meta["voxel_size"],) * 3)
    source = tmp_path / "ts_1.5A.mrc"
    write_logits(source, vector.arrays["tomogram"].astype(np.float32), geometry, label="test")
    preset = PRESETS[vector.meta["publication_state"]]
    if preset is Preset.V1:  # the release normalizes integers in float64, so keep the type
        source.unlink()
        with mrcfile.new(source, vector.arrays["tomogram"]) as file:
            file.voxel_size = vector.meta["voxel_size"]
    arguments = [
        *("segment", str(source), "-o", str(tmp_path / "out"), "--preset", preset.value, "--store-logits"),
        *(
            "--stage1-checkpoint",
            str(choice.stage1_checkpoint),
            "--stage2-checkpoint",
            str(choice.stage2_checkpoint),
        ),
        *("--sam2-config", str(choice.sam2_config), "--device", "cpu", *vector.meta["options"]),
    ]
    outcome = CliRunner().invoke(app, arguments)
    assert outcome.exit_code == 0, outcome.output
    written = {
        kind: mrcfile.read(tmp_path / "out" / f"ts_1.5A_membrane_{kind}.mrc") for kind in ("mask", "logits")
    }
    assert written["mask"].dtype == np.int8
    config = etsam_settings(vector)
    threshold = config.logit_threshold
    if threshold is None:
        threshold = {Preset.V1: -0.5, Preset.V2: -0.25}[preset]
    assert_logits(written["logits"], vector.arrays["logits"])
    assert_mask(written["mask"].astype(bool), vector.arrays["mask"], vector.arrays["logits"], threshold)


def test_options_in_etsam_spelling_reach_the_settings() -> None:
    config = parse_options(
        [
            *("--preset", "v2", "--stage1-prompt", "grid_zero", "--stage2-prompt", "etsam_stage1_partial"),
            *("--normalize-method", "softplus_minmax", "--split-processing", "--logit-threshold", "-1.0"),
            *("--postprocess-remove-parallel-membrane-misconnections", "--post-process-max-spur-len", "2"),
        ]
    )
    plain = SegmentConfig(preset=Preset.V2)
    assert config == replace(
        plain,
        stage1_prompt=config.stage1_prompt,
        stage2_prompt=config.stage2_prompt,
        normalize=config.normalize,
        split_processing=True,
        logit_threshold=-1.0,
        postprocess=config.postprocess,
        max_spur_length=2,
    )
    assert [str(v) for v in (config.stage1_prompt, config.stage2_prompt, config.normalize)] == [
        *("grid-zero", "stage1-masks", "softplus"),
    ]
    assert [str(step) for step in config.postprocess] == ["bridges"]
