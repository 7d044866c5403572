"""ETSAM's two stages against a plain transcription of the published steps on stock sam2."""

import functools
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from safetensors.torch import load_file, save_file

from cryoseg.config import (
    Direction,
    Normalize,
    Polarity,
    Preset,
    SegmentConfig,
    Stage1Prompt,
    Stage2Prompt,
)
from cryoseg.errors import InputError, WeightsError
from cryoseg.methods.etsam import network as etsam
from cryoseg.methods.sam.sam2_config import build_predictor
from cryoseg.methods.segmenter import Execution, ModelFiles, SegmentInput

NANO = Path(__file__).parents[2] / "conformance" / "sam2_nano.yaml"
SIDE = 64


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    """A tiny random network per stage, one file in ETSAM's form and one safetensors file."""
    folder = tmp_path_factory.mktemp("weights")
    config = OmegaConf.load(NANO)
    config.model.image_size = SIDE
    OmegaConf.save(config, folder / "tiny.yaml")
    stages = (folder / "stage1.pt", folder / "stage2.safetensors")
    for stage, path in enumerate(stages, start=1):
        torch.manual_seed(stage)
        model = build_predictor(folder / "tiny.yaml")
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.abs().max() < 0.1:
                    parameter.normal_(std=0.1)
            model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(4.0)
        state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        if path.suffix == ".pt":
            torch.save({"model": state, "epoch": 3, "optimizer": {"lr": 1.0}}, path)
        else:
            save_file(state, path)
    return ModelFiles(stages=stages, sam2_config=str(folder / "tiny.yaml"))


def volume(shape: tuple[int, int, int], dtype: str) -> np.ndarray:
    values = np.random.default_rng(5).normal(20.0, 40.0, shape)
    return values.astype(dtype)


def run(data: np.ndarray, config: SegmentConfig, files: ModelFiles, memory_level: int = 0, **more):
    return etsam.segment(
        SegmentInput(data=data, pixel_size=10.0),
        etsam.resolve(config, files),
        files,
        Execution(device=torch.device("cpu"), memory_level=memory_level, keep_stages=True),
        **more,
    )


def published(data: np.ndarray, config: SegmentConfig, files: ModelFiles) -> tuple[np.ndarray, ...]:
    """The published steps as the notes tell them: every array whole, every step in the open."""
    v1 = config.preset is Preset.V1
    values = data if v1 else data.astype(np.float32)
    if config.normalize is Normalize.SOFTPLUS:
        soft = torch.nn.functional.softplus(torch.from_numpy(values.astype(np.float32))).numpy()
        grey = (soft - soft.min()) / (soft.max() - soft.min())
    else:
        positive = np.where(values < 0, values.dtype.type(0), values)
        grey = positive / positive.max()
    _, height, width = data.shape
    interval = 10 if config.split_processing else 50
    if config.split_processing:
        cuts = [
            (slice(a, b), slice(c, d))
            for a, b in ((0, height // 2), (height // 2, height))
            for c, d in ((0, width // 2), (width // 2, width))
        ]
    else:
        cuts = [(slice(None), slice(None))]
    first, fused_input, second = (np.zeros(data.shape, np.float32) for _ in range(3))
    for y, x in cuts:
        part = grey[:, y, x]
        first[:, y, x] = stage(part, files, 0, config.stage1_prompt or Stage1Prompt.GRID_ZERO, interval, None)
        clipped = np.clip(first[:, y, x], -5, 5)
        both = part + (clipped - clipped.min()) / (clipped.max() - clipped.min())
        fused_input[:, y, x] = both
        kind = config.stage2_prompt or (Stage2Prompt.STAGE1_MASKS if v1 else Stage2Prompt.ZERO)
        masks = first[:, y, x] > (0.0 if v1 else -0.25)
        second[:, y, x] = stage(both, files, 1, kind, interval, masks)
    return first, fused_input, second


@functools.cache
def stock_like(path: Path, config: str):
    weights = torch.load(path, weights_only=True)["model"] if path.suffix == ".pt" else load_file(path)
    predictor = build_predictor(config)
    predictor.load_state_dict(weights)
    return predictor


def stage(part, files, index, kind, interval, masks) -> np.ndarray:
    frames = []
    for plane in part:
        square = np.array(Image.fromarray(plane).resize((SIDE, SIDE)), dtype=np.float32)
        frames.append(torch.from_numpy(square))
    images = torch.stack(frames)[:, None].repeat(1, 3, 1, 1)
    images -= torch.tensor((0.485, 0.456, 0.406))[:, None, None]
    images /= torch.tensor((0.229, 0.224, 0.225))[:, None, None]
    predictor = stock_like(files.stages[index], files.sam2_config)
    depth, height, width = part.shape
    state = predictor.init_state_from_slices(images, height, width)
    dots = torch.zeros(height, width, dtype=torch.bool)
    for y in range(0, height, interval):
        for x in range(0, width, interval):
            dots[y, x] = True
    nothing = torch.zeros(height, width, dtype=torch.bool)
    if kind == "zero":
        prompts = {0: nothing}
    elif kind == "grid-zero":
        prompts = {0: dots}
    elif kind == "grid":
        prompts = dict.fromkeys(range(0, depth, interval), dots)
    else:
        prompts = {z: torch.from_numpy(masks[z]) for z in range(0, depth, interval)}
    for z, mask in prompts.items():
        predictor.add_new_mask(state, z, 1, mask)
    return np.stack([logits[0, 0].numpy() for _, _, logits in predictor.propagate_in_video(state)])


@pytest.mark.parametrize(
    ("shape", "dtype", "config"),
    [
        ((54, 40, 48), "int16", SegmentConfig(preset=Preset.V1)),
        ((8, 40, 48), "float32", SegmentConfig(preset=Preset.V2)),
        ((4, 41, 55), "uint8", SegmentConfig(preset=Preset.V2, split_processing=True)),
        ((4, 60, 70), "float32", SegmentConfig(preset=Preset.V2, normalize=Normalize.SOFTPLUS)),
        (
            (53, 30, 30),
            "int8",
            SegmentConfig(
                preset=Preset.V1, stage1_prompt=Stage1Prompt.GRID, stage2_prompt=Stage2Prompt.GRID_ZERO
            ),
        ),
        (
            (11, 30, 30),
            "uint16",
            SegmentConfig(
                preset=Preset.V2,
                stage1_prompt=Stage1Prompt.ZERO,
                stage2_prompt=Stage2Prompt.STAGE1_MASKS,
                split_processing=True,
            ),
        ),
        ((3, 30, 3), "float32", SegmentConfig(stage2_prompt=Stage2Prompt.GRID)),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, tuple) else None,
)
def test_both_stages_give_the_published_bits(shape, dtype, config, files: ModelFiles) -> None:
    data = volume(shape, dtype)
    before = data.copy()
    first, fused_input, second = published(data, config, files)
    result = run(data, config, files)
    assert np.array_equal(data, before)
    assert second.std() > 0.01
    assert second.min() > -1000, "the object should not be absent everywhere"
    if config.normalize is Normalize.SOFTPLUS:  # numpy's softplus rounds in other places than torch's
        np.testing.assert_allclose(result.stage1_logits, first, atol=1e-3)
        np.testing.assert_allclose(result.stage2_input, fused_input, atol=1e-3)
        return
    np.testing.assert_array_equal(result.stage1_logits, first)
    np.testing.assert_array_equal(result.stage2_input, fused_input)
    np.testing.assert_array_equal(result.logits, second)
    threshold = -0.5 if config.preset is Preset.V1 else -0.25
    np.testing.assert_array_equal(result.mask, second > threshold)
    assert result.post_processed is None


def test_presets_fill_what_is_not_set(files: ModelFiles) -> None:
    v1 = etsam.resolve(SegmentConfig(preset=Preset.V1), files)
    v2 = etsam.resolve(SegmentConfig(preset=Preset.V2, split_processing=True), files)
    assert (v1.logit_threshold, v1.stage1_threshold, v1.prompt_interval) == (-0.5, 0.0, 50)
    assert (v2.logit_threshold, v2.stage1_threshold, v2.prompt_interval) == (-0.25, -0.25, 10)
    assert (v1.stage2_prompt, v2.stage2_prompt) == (Stage2Prompt.STAGE1_MASKS, Stage2Prompt.ZERO)
    assert v1.stage1_prompt is v2.stage1_prompt is Stage1Prompt.GRID_ZERO
    own = etsam.resolve(SegmentConfig(logit_threshold=0.0, prompt_interval=7), files)
    assert (own.logit_threshold, own.prompt_interval) == (0.0, 7)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(np.full((2, 20, 20), 7.0, np.float32), id="constant"),
        pytest.param(np.zeros((2, 20, 20), np.int16), id="zero"),
        pytest.param(-volume((3, 20, 20), "float32").clip(1), id="all negative"),
        pytest.param(volume((1, 20, 20), "float32"), id="one slice"),
        pytest.param(volume((2, 20, 1), "float32"), id="one column"),
        pytest.param(volume((2, 20, 20), "float32") + np.float32(6800), id="offset"),
        pytest.param(volume((2, 20, 20), "float16"), id="float16"),
    ],
)
def test_degenerate_input_has_a_finite_result(data, files: ModelFiles) -> None:
    result = run(data, SegmentConfig(), files)
    assert result.logits.shape == data.shape
    assert result.logits.dtype == np.float32
    assert np.isfinite(result.logits).all()
    assert result.mask.dtype == bool


def test_bright_membranes_are_seen_as_their_negative(files: ModelFiles) -> None:
    data = volume((4, 20, 24), "float32")
    turned = run(data, SegmentConfig(polarity=Polarity.BRIGHT), files)
    negative = run(-data, SegmentConfig(), files)
    np.testing.assert_array_equal(turned.logits, negative.logits)
    assert not np.array_equal(turned.logits, run(data, SegmentConfig(), files).logits)


def test_backward_view_is_the_flipped_volume_and_views_are_averaged(files: ModelFiles) -> None:
    data = volume((3, 20, 24), "float32")
    forward = run(data, SegmentConfig(), files).logits
    flipped = run(data[::-1], SegmentConfig(), files).logits[::-1]
    backward = run(data, SegmentConfig(views=(Direction.BACKWARD,)), files).logits
    both = run(data, SegmentConfig(views=(Direction.FORWARD, Direction.BACKWARD)), files)
    np.testing.assert_array_equal(backward, flipped)
    np.testing.assert_allclose(both.logits, (forward + backward) / 2, atol=1e-6)


def test_no_prompt_segments_every_slice_from_the_image(files: ModelFiles) -> None:
    config = SegmentConfig(stage1_prompt=Stage1Prompt.NONE, stage2_prompt=Stage2Prompt.NONE)
    result = run(volume((4, 20, 24), "float32"), config, files)
    assert np.isfinite(result.logits).all()
    assert not np.all(result.logits[0] == -10.0)


def test_every_slice_of_every_stage_is_reported(files: ModelFiles) -> None:
    told = []
    run(
        volume((3, 20, 24), "float32"),
        SegmentConfig(split_processing=True),
        files,
        on_slice=lambda *progress: told.append(progress),
    )
    assert told == [(f"stage {stage}", done, 12) for stage in (1, 2) for done in range(1, 13)]


def test_one_network_at_a_time(files: ModelFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[weakref.ref] = []

    def watched(config):
        assert all(reference() is None for reference in built), "the network before is still in memory"
        predictor = build_predictor(config)
        built.append(weakref.ref(predictor))
        return predictor

    monkeypatch.setattr(etsam, "build_predictor", watched)
    run(volume((2, 20, 24), "float32"), SegmentConfig(split_processing=True), files)
    assert len(built) == 2


def test_quadrants_need_two_pixels(files: ModelFiles) -> None:
    with pytest.raises(InputError, match="split"):
        run(volume((2, 20, 1), "float32"), SegmentConfig(split_processing=True), files)


def test_weights_of_another_model_are_refused(files: ModelFiles, tmp_path: Path) -> None:
    state = torch.load(files.stages[0], weights_only=True)["model"]
    state.pop("no_mem_embed")
    torch.save({"model": state}, tmp_path / "wrong.pt")
    with pytest.raises(WeightsError, match=r"wrong\.pt.*no_mem_embed"):
        run(
            volume((2, 20, 24), "float32"),
            SegmentConfig(),
            replace(files, stages=(tmp_path / "wrong.pt",) * 2),
        )
