"""Checkpoints of SAM and of the Prompt_sam_cryoPPP and ProMISe authors as networks of ours, strictly.

Sources: yangyang-69/Prompt_sam_cryoPPP notebooks/train_*.py@d4f8b28
and xinkunwang111/ProMISe ProMISe/eval.py@ce0cfdb.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from cryoseg.config.prompt_sam import PromptConfig, PromptMethod
from cryoseg.errors import WeightsError
from cryoseg.methods.particles.files import build_prompt_sam
from cryoseg.methods.promise.network import DEAD_HEAD, config_of_promise, import_names
from cryoseg.methods.prompt_sam.adapters import MLP, SPACE
from cryoseg.methods.prompt_sam.network import PromptSam
from cryoseg.methods.sam.geometry import SamGeometry, geometry_of_state
from cryoseg.methods.state import load_state_dict, load_strict

_BLOCK = re.compile(r"sam\.image_encoder\.blocks\.(\d+)\.(\w+)")
_UNUSED_LINEAR = re.compile(r"\.blocks\.\d+\.linear\.(weight|bias)$")
_PARTS = ("image_encoder.", "prompt_encoder.", "mask_decoder.")


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A checkpoint as a network, and what became of each of its tensors.

    Attributes
    ----------
    network
        With the settings of the released scripts, or native SAM.
    ignored
        Tensors that the released code stores and never uses.
    remarks
        Sentences about what was changed.
    """

    network: PromptSam
    ignored: tuple[str, ...]
    remarks: tuple[str, ...]


def remap_keys(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """The authors' names as those of `PromptSam`.

    Returns
    -------
    tuple
        Tensors by our names, ignored names, and remarks.
    """
    kept: dict[str, Tensor] = {}
    ignored, remarks = [], []
    for name, value in state.items():
        plain = name.removeprefix("sam.sam.")
        if _UNUSED_LINEAR.search(plain) or plain.startswith(DEAD_HEAD):
            ignored.append(name)
            continue
        ours = f"sam.{plain}" if plain.startswith(_PARTS) else plain
        if ours.endswith(".prompt_embeddings") and value.ndim == 4 and value.shape[0] > 1:
            remarks.append(
                f"{name}: {value.shape[0]} sets of tokens, one per slot of a batch; took the first"
            )
            value = value[:1]
        kept[ours] = value
    return import_names(kept), ignored, remarks


def config_of_state(state: dict[str, Tensor], depth: int) -> PromptConfig:
    """The method and its choice per block, from the tensors that a checkpoint has."""
    choices = [0] * depth
    tokens = 0
    grid = state["sam.image_encoder.pos_embed"].shape[2] if "sam.image_encoder.pos_embed" in state else 0
    method = PromptMethod.NATIVE
    if promise := config_of_promise(state):
        return PromptConfig(method=PromptMethod.PROMISE, promise=promise)
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


def import_checkpoint(path: Path, *, geometry: SamGeometry | None = None) -> Imported:
    """Read SAM's own file, or a head, prefix, encoder, fine-tuned or ProMISe checkpoint of the authors.

    The method is recognized by the tensors. What the released scripts call fine-tuning trains
    adapters, so such a file comes out as `encoder`.

    Parameters
    ----------
    path
        A torch file or safetensors.
    geometry
        Of the SAM; None recognizes ViT-H, L and B by their width.

    Raises
    ------
    WeightsError
        If a tensor is missing, unexpected or of another shape; the counts and first names are given.
    """
    state, ignored, remarks = remap_keys(load_state_dict(path, key="state_dict"))
    plain = {name.removeprefix("sam."): value for name, value in state.items()}
    geometry = geometry or geometry_of_state(plain, path)
    try:
        config = config_of_state(state, geometry.depth)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    position = plain.get("image_encoder.pos_embed")
    if position is not None and tuple(position.shape[1:3]) != (geometry.grid, geometry.grid):
        raise WeightsError(
            f"{path}: has a token grid of {tuple(position.shape[1:3])}, its encoder one of {geometry.grid}."
        )
    network = build_prompt_sam(geometry, config)
    load_strict(network, state, path)
    return Imported(network=network, ignored=tuple(ignored), remarks=tuple(remarks))
