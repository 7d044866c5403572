from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cryoseg.config.prompt_sam import (
    ApmKind,
    FreezeType,
    InputScale,
    PromiseConfig,
    PromptConfig,
    Prompter,
    PromptMethod,
)
from cryoseg.config.setting import restore
from cryoseg.errors import ConfigError, WeightsError
from cryoseg.methods.particles.published_weights import import_checkpoint
from cryoseg.methods.promise.network import PromiseSam, points_from_mask, prompting_blocks
from cryoseg.methods.sam.geometry import PUBLISHED, SamGeometry, build_sam

NANO = SamGeometry(
    embed_dim=24,
    depth=4,
    num_heads=2,
    global_blocks=(1, 2, 3),
    image_size=64,
    window=2,
    out_channels=32,
    decoder_mlp_dim=32,
    decoder_heads=2,
    iou_hidden_dim=16,
)


def nano(**changes: object) -> PromiseSam:
    torch.manual_seed(0)
    return PromiseSam(NANO, config(**changes))


def config(**changes: object) -> PromptConfig:
    promise = PromiseConfig(**{"points": 4, **changes})  # type: ignore[arg-type]
    return PromptConfig(method=PromptMethod.PROMISE, promise=promise, input_scale=InputScale.UNIT)


def test_published_parameter_counts() -> None:
    with torch.device("meta"):
        network = PromiseSam(PUBLISHED["sam_vit_b"], PromptConfig(method=PromptMethod.PROMISE))
    assert network.apm_feature_map is not None
    assert network.apm_resnet is not None
    assert network.ips_ffn is not None

    def count(module: torch.nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    dead = 525_312  # the publication's second head, which we leave out
    assert count(network.apm_feature_map) == 6_488_832
    assert count(network.apm_resnet) == 22_227_616 - dead
    assert count(network.ips_ffn) == 1_312_768
    assert prompting_blocks(PUBLISHED["sam_vit_b"]) == (11, 8, 5)
    assert prompting_blocks(PUBLISHED["sam_vit_h"]) == (31, 23, 15)


def test_without_an_offset_masks_are_those_of_plain_sam() -> None:
    network = nano(prompter=Prompter.GT)
    images = torch.randn(2, 3, 64, 64)
    points = (torch.rand(2, 4, 2) * 64, torch.tensor([[1, 1, 0, 0]] * 2))
    with torch.inference_mode():
        found, _, _ = network.all_masks(images, points)
        plain = build_sam(NANO)
        plain.load_state_dict(
            {n.removeprefix("sam."): v for n, v in network.state_dict().items() if n.startswith("sam.")}
        )
        for i in range(2):
            sparse, dense = plain.prompt_encoder(
                points=(points[0][i : i + 1], points[1][i : i + 1]), boxes=None, masks=None
            )
            expected, _ = plain.mask_decoder(
                image_embeddings=plain.image_encoder(images[i : i + 1]),
                image_pe=plain.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=True,
            )
            torch.testing.assert_close(found[i : i + 1], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", list(ApmKind))
def test_gradients_reach_the_points_through_a_frozen_sam(kind: ApmKind) -> None:
    network = nano(apm=kind)
    network.freeze()
    network.set_training(True)
    logits, _, prompts = network.all_masks(torch.randn(2, 3, 64, 64))
    assert logits.shape == (2, 3, 16, 16)
    assert prompts is not None
    assert prompts[1].tolist() == [[1, 1, 0, 0]] * 2
    assert (prompts[0] >= 0).all()
    assert (prompts[0] <= 64).all()
    logits[:, 0].sum().backward()
    for name, parameter in network.named_parameters():
        learns = not name.startswith("sam.")
        assert parameter.requires_grad == learns, name
        assert (parameter.grad is not None) == learns, name


def test_freeze_types_free_what_they_name() -> None:
    free = nano(freeze=FreezeType.MASK_DECODER_FREE)
    assert free.is_trained("sam.mask_decoder.iou_token.weight")
    assert not free.is_trained("sam.image_encoder.pos_embed")
    assert nano(freeze=FreezeType.NOTHING).is_trained("sam.image_encoder.pos_embed")


@pytest.mark.parametrize("prompter", [Prompter.GRID, Prompter.NONE])
def test_other_prompters_need_no_truth(prompter: Prompter) -> None:
    with torch.inference_mode():
        logits, _, prompts = nano(prompter=prompter).all_masks(torch.randn(2, 3, 64, 64))
    assert logits.shape == (2, 3, 16, 16)
    assert (prompts is None) == (prompter is Prompter.NONE)
    if prompts is not None:
        assert prompts[0][0].tolist() == [[16, 16], [48, 16], [16, 48], [48, 48]]


def test_the_best_mask_is_the_one_with_the_highest_predicted_iou() -> None:
    network = nano()
    images = torch.randn(3, 3, 64, 64)
    with torch.inference_mode():
        logits, iou, _ = network.all_masks(images)
        mask, judged = network(images)
    assert torch.equal(judged[:, 0], iou.max(dim=1).values)
    for i, best in enumerate(iou.argmax(dim=1)):
        assert torch.equal(mask[i, 0], logits[i, best])
    first = nano(best_mask=False)
    with torch.inference_mode():
        assert torch.equal(first(images)[0], first.all_masks(images)[0][:, :1])


def test_two_global_blocks_are_enough_for_either_prompter() -> None:
    geometry = replace(NANO, global_blocks=(1, 3))
    for kind in ApmKind:
        network = PromiseSam(geometry, config(apm=kind))
        assert network.blocks == (3, 1)
        assert network(torch.randn(1, 3, 64, 64))[0].shape == (1, 1, 16, 16)


def test_only_the_prompter_enters_training_mode() -> None:
    network = nano()
    network.set_training(True)
    training = {name for name, module in network.named_modules() if module.training}
    assert "apm_resnet.bn1" in training
    assert not any(name.startswith("sam") for name in training)
    assert network.smallest_batch == 2


def test_a_checkpoint_of_the_authors_is_recognized_by_its_tensors(tmp_path: Path) -> None:
    network = nano(points=5)
    state = {name.removeprefix("sam."): value for name, value in network.state_dict().items()}
    old = {name.replace("ips_ffn.", "ffn."): value for name, value in state.items()}
    old |= {"apm_resnet.fc2.weight": torch.zeros(8, 8)}
    torch.save(old, tmp_path / "model_val_best.pt")
    found = import_checkpoint(tmp_path / "model_val_best.pt", geometry=NANO)
    # The published network was trained on the first of the three masks, whatever SAM thought of it.
    assert found.network.config.promise == PromiseConfig(points=5, zero_start=False, best_mask=False)
    for name, value in network.state_dict().items():
        assert torch.equal(found.network.state_dict()[name], value)
    torch.save({**state, "apm_cross.x": torch.zeros(1)}, tmp_path / "cross.pt")
    with pytest.raises(WeightsError, match=r"cross\.pt: contains ProMISe's older cross-attention prompter"):
        import_checkpoint(tmp_path / "cross.pt", geometry=NANO)


def test_a_published_shift_alone_needs_the_truth_and_older_names_are_known(tmp_path: Path) -> None:
    network = nano(prompter=Prompter.GT, zero_start=False)
    state = {name.removeprefix("sam."): value for name, value in network.state_dict().items()}
    for start in ("ips_ffn.", "ffn."):
        renamed = {name.replace("ips_ffn.", start): value for name, value in state.items()}
        torch.save(renamed, tmp_path / "model.pt")
        found = import_checkpoint(tmp_path / "model.pt", geometry=NANO)
        assert found.network.needs_truth
        assert torch.equal(
            found.network.state_dict()["ips_ffn.lin1.weight"], network.state_dict()["ips_ffn.lin1.weight"]
        )
    del renamed["ffn.lin2.bias"]
    torch.save(renamed, tmp_path / "model.pt")
    with pytest.raises(WeightsError, match=r"model\.pt.*ips_ffn\.lin2\.bias"):
        import_checkpoint(tmp_path / "model.pt", geometry=NANO)


def test_points_from_a_mask_lie_where_their_labels_say() -> None:
    mask = np.zeros((20, 30), bool)
    mask[5:10, 20:28] = True
    places, labels = points_from_mask(mask, 16, np.random.default_rng(0))
    assert sorted(labels.tolist()) == [0] * 8 + [1] * 8
    x, y = places.astype(int).T
    np.testing.assert_array_equal(mask[y, x], labels == 1)


def test_empty_full_and_single_point_prompts_are_defined() -> None:
    rng = np.random.default_rng(0)
    empty, full = np.zeros((8, 8), bool), np.ones((8, 8), bool)
    assert set(points_from_mask(empty, 6, rng)[1].tolist()) == {0}
    assert set(points_from_mask(full, 6, rng)[1].tolist()) == {1}
    assert points_from_mask(full, 1, rng)[1].tolist() == [1]
    assert points_from_mask(empty, 1, rng)[1].tolist() == [0]
    assert nano(points=1).all_masks(torch.randn(1, 3, 64, 64))[2][1].tolist() == [[1]]


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing would be left"):
        PromiseConfig(prompter=Prompter.GRID, ips=False)
    with pytest.raises(ConfigError, match="--points 0"):
        PromiseConfig(points=0)
    with pytest.raises(ConfigError, match="for promise"):
        PromptConfig(method=PromptMethod.HEAD, promise=PromiseConfig())


def test_settings_survive_json_and_older_files_have_none() -> None:
    known = config(prompter=Prompter.GRID, freeze=FreezeType.MASK_DECODER_FREE)
    assert restore(PromptConfig, json.loads(json.dumps(known.to_dict())), source="card") == known
    assert known.label == "promise ips+grid"
    assert config(prompter=Prompter.GT).label == "promise ips+gt (upper bound)"
    assert "promise" not in PromptConfig(method=PromptMethod.PREFIX).to_dict()


def test_unknown_pixels_give_no_background_point() -> None:
    mask, known = np.zeros((8, 8), bool), np.zeros((8, 8), bool)
    mask[2, 2], known[2:4, 2:4] = True, True
    places, labels = points_from_mask(mask, 12, np.random.default_rng(0), known=known)
    assert ((places >= 2) & (places <= 3)).all()
    assert set(labels.tolist()) == {0, 1}
