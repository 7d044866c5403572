from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cryoseg.config.prompt_sam import InputScale, PromptConfig, PromptMethod
from cryoseg.errors import WeightsError
from cryoseg.methods.particles.published_weights import import_checkpoint
from cryoseg.methods.prompt_sam.network import PromptSam
from cryoseg.methods.sam.geometry import SamGeometry

GEOMETRY = SamGeometry(
    embed_dim=16,
    depth=3,
    num_heads=2,
    global_blocks=(2,),
    image_size=64,
    window=2,
    out_channels=16,
    decoder_mlp_dim=16,
    decoder_heads=2,
    iou_hidden_dim=8,
)


def published(config: PromptConfig) -> tuple[PromptSam, dict[str, Tensor]]:
    """A network with random weights, and its tensors by the names of the released scripts."""
    torch.manual_seed(0)
    network = PromptSam(GEOMETRY, config).eval()
    head = config.method is PromptMethod.HEAD
    state = {}
    for name, value in network.state_dict().items():
        bare = name.removeprefix("sam.")
        state[name if name.startswith("unet.") else f"sam.sam.{bare}" if head else bare] = value
    return network, state


def save(path: Path, state: dict[str, Tensor], *, wrapped: bool) -> Path:
    torch.save(
        {"epoch": 7, "model": "vit_h", "state_dict": state, "best_tol": 0.3} if wrapped else state, path
    )
    return path


@pytest.mark.parametrize(
    "config",
    [
        PromptConfig(),
        PromptConfig.faithful(PromptMethod.HEAD),
        PromptConfig.faithful(PromptMethod.PREFIX, blocks=(0, 1, 1), num_tokens=8),
        PromptConfig.faithful(PromptMethod.ENCODER, blocks=(3, 1, 2)),
    ],
    ids=lambda config: config.method,
)
def test_the_authors_files_come_back_as_they_were(config: PromptConfig, tmp_path: Path) -> None:
    network, state = published(config)
    wrapped = config.method not in (PromptMethod.HEAD, PromptMethod.NATIVE)
    path = save(tmp_path / "checkpoint_best.pth", state, wrapped=wrapped)
    imported = import_checkpoint(path, geometry=GEOMETRY)
    assert imported.network.config == config
    assert not imported.remarks
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(imported.network.eval()(image)[0], network(image)[0])


def test_slots_of_a_batch_and_unused_layers_are_named(tmp_path: Path) -> None:
    _, state = published(PromptConfig.faithful(PromptMethod.PREFIX))
    for i in range(3):
        key = f"image_encoder.blocks.{i}.prompt_embeddings"
        state[key] = state[key].repeat(4, 1, 1, 1)
        state[f"image_encoder.blocks.{i}.linear.weight"] = torch.zeros(4, 5)
    imported = import_checkpoint(save(tmp_path / "c.pth", state, wrapped=True), geometry=GEOMETRY)
    assert len(imported.remarks) == 3
    assert "4 sets of tokens" in imported.remarks[0]
    assert imported.network.config.input_scale is InputScale.UNIT


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("image_encoder.blocks.1.norm1.weight"), r"1 missing .*blocks\.1\.norm1\.weight"),
        (lambda s: s.update(extra=torch.zeros(1)), r"1 unexpected \(extra"),
        (lambda s: s.update({"mask_decoder.iou_token.weight": torch.zeros(1, 9)}), "1 of another shape"),
    ],
    ids=["missing", "unexpected", "reshaped"],
)
def test_nothing_is_loaded_by_halves(change: object, message: str, tmp_path: Path) -> None:
    _, state = published(PromptConfig.faithful(PromptMethod.ENCODER))
    change(state)  # type: ignore[operator]
    with pytest.raises(WeightsError, match=message):
        import_checkpoint(save(tmp_path / "c.pth", state, wrapped=True), geometry=GEOMETRY)


def test_adapters_missing_in_one_block_are_a_choice_and_half_an_adapter_is_not(tmp_path: Path) -> None:
    _, state = published(PromptConfig.faithful(PromptMethod.ENCODER))
    del state["image_encoder.blocks.0.MLP_Adapter.D_fc2.bias"]
    with pytest.raises(WeightsError, match="MLP_Adapter"):
        import_checkpoint(save(tmp_path / "c.pth", state, wrapped=True), geometry=GEOMETRY)


def test_another_network_is_refused_by_name(tmp_path: Path) -> None:
    _, state = published(PromptConfig())
    path = save(tmp_path / "c.pth", state, wrapped=False)
    with pytest.raises(WeightsError, match=r"not a published SAM .* width 16"):
        import_checkpoint(path)
    with pytest.raises(WeightsError, match="token grid"):
        import_checkpoint(path, geometry=replace(GEOMETRY, image_size=128))
