"""Import published checkpoints of SAM, Prompt_sam_cryoPPP and ProMISe.

Sources: yangyang-69/Prompt_sam_cryoPPP notebooks/train_*.py@d4f8b28
and xinkunwang111/ProMISe ProMISe/eval.py@ce0cfdb.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from cryoseg.config.prompt_sam import PromiseConfig, PromptConfig, Prompter, PromptMethod
from cryoseg.errors import WeightsError
from cryoseg.io.records import hash_file
from cryoseg.methods.model_file import load_state_dict, load_strict
from cryoseg.methods.particles.files import Loaded, build_prompt_sam, native_recipe
from cryoseg.methods.prompt_sam.adapters import MLP, SPACE
from cryoseg.methods.sam.geometry import SamGeometry, geometry_of_state

_BLOCK = re.compile(r"sam\.image_encoder\.blocks\.(\d+)\.(\w+)")
_UNUSED_LINEAR = re.compile(r"\.blocks\.\d+\.linear\.(weight|bias)$")
# Part of checkpoints of ProMISe whose output is never used.
UNUSED_HEAD = "apm_resnet.fc2."
_PARTS = ("image_encoder.", "prompt_encoder.", "mask_decoder.")


def remap_keys(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Rename published tensors to those of our networks; drop those that the released code does not use.

    The second result are sentences about changes.
    """
    kept: dict[str, Tensor] = {}
    remarks = []
    for name, value in state.items():
        plain = name.removeprefix("sam.sam.")
        if _UNUSED_LINEAR.search(plain) or plain.startswith(UNUSED_HEAD):
            continue
        if plain.startswith("ffn."):
            plain = f"ips_{plain}"
        ours = f"sam.{plain}" if plain.startswith(_PARTS) else plain
        if ours.endswith(".prompt_embeddings") and value.ndim == 4 and value.shape[0] > 1:
            remarks.append(
                f"{name}: {value.shape[0]} sets of tokens, one per image of a batch; the first one is used"
            )
            value = value[:1]
        kept[ours] = value
    return kept, remarks


def config_of_state(state: dict[str, Tensor], depth: int) -> PromptConfig:
    """Recognize the method and its choice per block from the tensors of a checkpoint.

    Published networks of ProMISe use the first of SAM's masks; those without a prompter need points from the
    truth. A `WeightsError` is raised for its older prompter, whose tensors are not documented.
    """
    if any(name.startswith("apm_cross") for name in state):
        raise WeightsError(
            "contains ProMISe's older cross-attention prompter, whose tensors are not documented; use a "
            "checkpoint with the ResNet prompter, or train with --apm cross."
        )
    shifts = any(name.startswith("ips_ffn.") for name in state)
    head = state.get("apm_resnet.fc.weight")
    if shifts or head is not None:
        promise = PromiseConfig(prompter=Prompter.GT, zero_start=False, best_mask=False)
        if head is not None:
            promise = replace(promise, prompter=Prompter.APM, ips=shifts, points=len(head) // 2)
        return PromptConfig(method=PromptMethod.PROMISE, promise=promise)
    choices = [0] * depth
    tokens = 0
    grid = state["sam.image_encoder.pos_embed"].shape[2] if "sam.image_encoder.pos_embed" in state else 0
    method = PromptMethod.NATIVE
    if any(name.startswith("unet.") for name in state):
        return PromptConfig.faithful(PromptMethod.HEAD)
    for name, value in state.items():
        match = _BLOCK.match(name)
        if match is None or int(match[1]) >= depth:
            continue
        if match[2] == "prompt_embeddings":
            method, choices[int(match[1])] = PromptMethod.PREFIX, 1
            tokens = value.shape[1] * grid
        elif match[2] in ("Space_Adapter", "MLP_Adapter"):
            method = PromptMethod.ENCODER
            choices[int(match[1])] |= SPACE if match[2] == "Space_Adapter" else MLP
    if method is PromptMethod.NATIVE:
        return PromptConfig()
    return PromptConfig.faithful(method, blocks=tuple(choices), num_tokens=tokens or None)


def import_checkpoint(path: Path, *, geometry: SamGeometry | None = None) -> Loaded:
    """Read a published file of SAM, or a head, prefix, encoder, fine-tuned or ProMISe checkpoint.

    The method is recognized by the tensors. The fine-tuning of the released scripts trains adapters, so that
    such a file has the method `encoder`. Without `geometry`, ViT-H, L and B are recognized by their width.
    """
    state, remarks = remap_keys(load_state_dict(path, key="state_dict"))
    geometry = geometry or geometry_of_state(state, path)
    try:
        config = config_of_state(state, geometry.depth)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    position = state.get("sam.image_encoder.pos_embed")
    if position is not None and tuple(position.shape[1:3]) != (geometry.grid, geometry.grid):
        raise WeightsError(
            f"{path}: has a token grid of {tuple(position.shape[1:3])}, its encoder one of {geometry.grid}."
        )
    network = build_prompt_sam(geometry, config)
    load_strict(network, state, path)
    return Loaded(
        network=network,
        recipe=native_recipe(config, geometry),
        hashes={path.name: hash_file(path)},
        remarks=tuple(remarks),
    )
