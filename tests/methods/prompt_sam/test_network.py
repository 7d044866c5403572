from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from cryoseg.config.prompt_sam import InputScale, PromptConfig, PromptMethod
from cryoseg.config.setting import restore
from cryoseg.errors import ConfigError
from cryoseg.methods.particles.files import Loaded
from cryoseg.methods.particles.model import ParticleModel, ParticleRecipe
from cryoseg.methods.prompt_sam.network import PromptSam
from cryoseg.methods.sam.geometry import PUBLISHED, TINY, SamGeometry, build_sam

SMALL = SamGeometry(
    embed_dim=32,
    depth=4,
    num_heads=2,
    global_blocks=(1, 3),
    image_size=64,
    patch_size=8,
    window=3,
    out_channels=32,
    decoder_mlp_dim=32,
    decoder_heads=2,
    iou_hidden_dim=16,
)
PROMPTS = (PromptMethod.HEAD, PromptMethod.PREFIX, PromptMethod.ENCODER, PromptMethod.FINETUNE)
GREY = replace(SMALL, in_channels=1, fine_widths=(8, 8))


def count(network: PromptSam) -> int:
    return sum(value.numel() for name, value in network.named_parameters() if network.is_trained(name))


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (PromptConfig(method=PromptMethod.NATIVE), 0),
        (PromptConfig(method=PromptMethod.HEAD), 410_019),
        (PromptConfig(method=PromptMethod.PREFIX), 2_621_440),
        (PromptConfig(method=PromptMethod.ENCODER), 52_531_200),
        (PromptConfig(method=PromptMethod.FINETUNE), 4_058_340),
        (PromptConfig.faithful(PromptMethod.HEAD), 410_019 + 4_058_340),
        (PromptConfig.faithful(PromptMethod.PREFIX), 2_621_440 + 4_058_340),
        (PromptConfig.faithful(PromptMethod.ENCODER), 52_531_200),
    ],
)
def test_vit_h_trains_as_many_parameters_as_published(config: PromptConfig, parameters: int) -> None:
    with torch.device("meta"):
        network = PromptSam(PUBLISHED["sam_vit_h"], config)
    assert count(network) == parameters
    network.freeze()
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == parameters
    assert all(p.is_meta for p in network.parameters())


def test_vit_h_has_the_published_size() -> None:
    with torch.device("meta"):
        sam = build_sam(PUBLISHED["sam_vit_h"])
    assert sum(p.numel() for p in sam.parameters()) == 641_090_608
    assert sum(p.numel() for p in sam.prompt_encoder.parameters()) == 6_220


def test_tiny_has_a_few_million_parameters() -> None:
    with torch.device("meta"):
        sam = build_sam(TINY)
    assert 2e6 < sum(p.numel() for p in sam.parameters()) < 5e6


@pytest.mark.parametrize("geometry", [SMALL, GREY], ids=["patches", "stem"])
@pytest.mark.parametrize("method", [PromptMethod.HEAD, PromptMethod.ENCODER])
def test_a_zero_start_is_unchanged_sam(geometry: SamGeometry, method: PromptMethod) -> None:
    scale = InputScale.GREY if geometry.in_channels == 1 else InputScale.UNIT
    torch.manual_seed(0)
    plain = PromptSam(geometry, PromptConfig(input_scale=scale, grid_side=4)).eval()
    adapted = PromptSam(geometry, PromptConfig(method=method, input_scale=scale, grid_side=4)).eval()
    adapted.load_state_dict(plain.state_dict(), strict=False)
    image = torch.rand(2, geometry.in_channels, 64, 64)
    with torch.inference_mode():
        expected, found = plain(image)[0], adapted(image)[0]
    assert expected.shape == (2, 1, geometry.logit_side, geometry.logit_side)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("method", [PromptMethod.NATIVE, *PROMPTS])
def test_a_batch_gives_what_single_images_give(method: PromptMethod) -> None:
    torch.manual_seed(1)
    config = PromptConfig(method=method, input_scale=InputScale.GREY, grid_side=4, zero_start=False)
    network = PromptSam(GREY, config).eval()
    images = torch.randn(3, 1, 64, 64)
    with torch.inference_mode():
        together = network(images)[0]
        apart = torch.cat([network(image[None])[0] for image in images])
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5)


def test_only_what_is_trained_gets_gradients() -> None:
    config = PromptConfig(
        method=PromptMethod.FINETUNE, input_scale=InputScale.GREY, grid_side=2, tuned_blocks=(3,)
    )
    network = PromptSam(GREY, config)
    network.freeze()
    network(torch.randn(1, 1, 64, 64))[0].sum().backward()
    with_gradient = {name.split(".")[1] for name, p in network.named_parameters() if p.grad is not None}
    assert with_gradient == {"image_encoder", "mask_decoder"}
    assert not any("blocks.2" in name for name, p in network.named_parameters() if p.requires_grad)


def test_the_stem_is_trained_on_request() -> None:
    config = PromptConfig(
        method=PromptMethod.FINETUNE, input_scale=InputScale.GREY, grid_side=2, tune_stem=True
    )
    network = PromptSam(GREY, config)
    network.freeze()
    encoder = network.sam.image_encoder
    assert all(p.requires_grad for part in (encoder.patch_embed, encoder.neck) for p in part.parameters())
    assert encoder.pos_embed.requires_grad
    assert not any(p.requires_grad for p in encoder.blocks.parameters())


def test_prefix_rows_are_replaced_and_cut_off() -> None:
    config = PromptConfig(
        method=PromptMethod.PREFIX, input_scale=InputScale.GREY, blocks=(0, 1, 0, 1), num_tokens=16
    )
    network = PromptSam(GREY, config)
    shapes = []
    for block in network.sam.image_encoder.blocks:
        block.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape[1:3])))
    embedding = network.sam.image_encoder(torch.randn(1, 1, 64, 64))
    assert shapes == [(8, 8), (10, 8), (10, 8), (10, 8)]
    assert embedding.shape[2:] == (8, 8)


def test_the_grid_runs_along_x_first() -> None:
    network = PromptSam(GREY, PromptConfig(input_scale=InputScale.GREY))
    points, labels = network.grid_points(2, 1, torch.device("cpu"))
    assert points.tolist() == [[[16, 16], [48, 16], [16, 48], [48, 48]]]
    assert labels.tolist() == [[1, 1, 1, 1]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": PromptMethod.PREFIX, "blocks": (1, 1)}, "2 numbers"),
        ({"method": PromptMethod.PREFIX, "num_tokens": 12}, "multiple of 8"),
        ({"method": PromptMethod.HEAD, "input_scale": InputScale.SAM}, "channels"),
        ({"method": PromptMethod.FINETUNE, "tuned_blocks": (4,)}, "blocks 0 to 3"),
    ],
)
def test_settings_that_do_not_fit_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PromptSam(GREY, PromptConfig(**{"input_scale": InputScale.GREY, **options}))


def test_tiles_and_whole_images_go_through_the_particle_model() -> None:
    torch.manual_seed(2)
    network = PromptSam(GREY, PromptConfig(input_scale=InputScale.GREY, grid_side=4))
    recipe = ParticleRecipe(image_size=64, overlap=16)
    loaded = Loaded(network=network, recipe=recipe)
    model = ParticleModel(loaded, name="test", device=torch.device("cpu"))
    tiles = np.random.default_rng(0).normal(size=(3, 64, 64)).astype(np.float32)
    logits = model.tile_logits(tiles, [].append)
    assert (logits.shape, logits.dtype) == ((3, 64, 64), np.float32)
    np.testing.assert_allclose(model.tile_logits(tiles[1:2], [].append)[0], logits[1], atol=1e-5)
    whole = model.whole_image_logits(np.random.default_rng(1).integers(0, 255, (80, 120, 3), np.uint8))
    assert (whole.shape, whole.dtype) == ((256, 256), np.float32)
    with pytest.raises(ConfigError, match=r"\(n, 64, 64\)"):
        model.tile_logits(tiles[:, :32], [].append)
    assert restore(ParticleRecipe, json.loads(json.dumps(asdict(recipe))), source="card") == recipe
