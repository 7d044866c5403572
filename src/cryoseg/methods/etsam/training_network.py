"""The training network of sam2 with prompts for volumes, and its loss on clips with unknown labels.

`training.model.sam2.SAM2Train` differs from the predictor of sam2 only in its prompts; it has the same
weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sam2.modeling.backbones.hieradet import Hiera
from torch import Tensor, nn

from cryoseg.config.train import ClipPrompts, Part
from cryoseg.errors import ConfigError
from cryoseg.methods.sam.sam2_config import build_network

try:
    from training.loss_fns import CORE_LOSS_KEY, MultiStepMultiMasksAndIous
    from training.model.sam2 import SAM2Train
except ImportError as error:
    raise ConfigError(
        f'Training ETSAM needs {error.name}, which is not installed; run pip install "cryoseg[train]".'
    ) from error

# Values of sam2's fine-tuning configuration, which ETSAM kept.
# Source: jianlin-cheng/ETSAM sam2/configs/etsam_training/etsam_stage1.yaml@b859060.
PROMPTING: dict[str, Any] = {
    "prob_to_use_pt_input_for_train": 0.5,
    "prob_to_use_box_input_for_train": 0.5,
    "prob_to_sample_from_gt_for_train": 0.1,
    "num_frames_to_correct_for_train": 2,
    "rand_frames_to_correct_for_train": True,
    "num_init_cond_frames_for_train": 2,
    "rand_init_cond_frames_for_train": True,
    "add_all_frames_to_correct_as_cond": True,
    "num_correction_pt_per_frame": 7,
}
PARTS: dict[Part, tuple[str, ...]] = {
    Part.IMAGE_ENCODER: ("image_encoder.",),
    Part.PROMPT_ENCODER: ("sam_prompt_encoder.",),
    Part.MASK_DECODER: ("sam_mask_decoder.",),
    Part.MEMORY: ("memory_attention.", "memory_encoder."),
}
TRUNK = "image_encoder.trunk."


@dataclass(frozen=True, kw_only=True)
class ClipBatch:
    """Clips as the training network of sam2 reads them.

    Attributes
    ----------
    images
        (B, T, 3, S, S) float32 normalized images.
    labels
        (B, T, S, S) int8 labels: 1 membrane, 0 background, -1 unknown.
    prompts
        (B, S, S) bool masks that prompt the first slice with `ClipPrompts.INFERENCE`; None to start from
        the images alone.
    """

    images: Tensor
    labels: Tensor
    prompts: Tensor | None = None

    @property
    def num_frames(self) -> int:
        """Number T of slices."""
        return self.images.shape[1]

    @property
    def masks(self) -> Tensor:
        """Masks of membrane, (T, B, S, S) bool, without unknown voxels."""
        return (self.labels > 0).transpose(0, 1)

    @property
    def known_slices(self) -> list[int]:
        """Indices of the slices with a known voxel in any clip."""
        return (self.labels >= 0).any(dim=0).any(dim=-1).any(dim=-1).nonzero().flatten().tolist()

    @property
    def flat_img_batch(self) -> Tensor:
        """Images of all clips, (B * T, 3, S, S)."""
        return self.images.flatten(0, 1)

    @property
    def flat_obj_to_img_idx(self) -> Tensor:
        """Index of slice t of clip b in `flat_img_batch`, (T, B)."""
        clips, length = self.images.shape[:2]
        return torch.arange(length)[:, None] + length * torch.arange(clips)[None, :]

    def to(self, device: torch.device) -> ClipBatch:
        """Copy the clips to a device."""
        prompts = None if self.prompts is None else self.prompts.to(device)
        return ClipBatch(images=self.images.to(device), labels=self.labels.to(device), prompts=prompts)


class ClipNetwork(SAM2Train):
    """The training network of sam2, which can also use the prompts of `cryoseg segment`."""

    prompts: ClipPrompts = ClipPrompts.SAM2
    prob_to_use_pt_input_for_train: float

    def reseed(self, seed: Sequence[int]) -> None:
        """Seed all random choices of the next clip, here and in torch."""
        self.rng = np.random.default_rng(list(seed))
        torch.manual_seed(int(self.rng.integers(2**31)))

    # The name of the argument is that of sam2.
    def forward(self, input: ClipBatch) -> list[dict[str, Any]]:  # noqa: A002
        """Return the outputs of sam2 for every slice, as its loss needs them."""
        return super().forward(input)

    def prepare_prompt_inputs(
        self,
        backbone_out: dict[str, Any],
        input: ClipBatch,  # noqa: A002
        start_frame_idx: int = 0,
    ) -> dict[str, Any]:
        """Choose prompts as sam2 does, or prompt the first slice as in inference."""
        if self.prompts is ClipPrompts.SAM2:
            chosen = super().prepare_prompt_inputs(backbone_out, input, start_frame_idx)
            if {*input.known_slices} <= {*chosen["mask_inputs_per_frame"]}:
                # sam2 returns a mask that prompts a slice as it is, so the loss would have no gradient.
                usual = self.prob_to_use_pt_input_for_train
                self.prob_to_use_pt_input_for_train = 1.0
                chosen = super().prepare_prompt_inputs(backbone_out, input, start_frame_idx)
                self.prob_to_use_pt_input_for_train = usual
            return chosen
        masks = {} if input.prompts is None else {start_frame_idx: input.prompts[:, None].float()}
        return {
            **backbone_out,
            "gt_masks_per_frame": {t: mask[:, None] for t, mask in enumerate(input.masks)},
            "num_frames": input.num_frames,
            "use_pt_input": False,
            "init_cond_frames": [start_frame_idx],
            "frames_not_in_init_cond": list(range(start_frame_idx + 1, input.num_frames)),
            "mask_inputs_per_frame": masks,
            "point_inputs_per_frame": {},
            "frames_to_add_correction_pt": [],
        }


def build_clip_network(
    config: str, *, prompts: ClipPrompts, drop_path: float = 0.0, freeze: Sequence[Part] = ()
) -> ClipNetwork:
    """Build the untrained training network of a SAM 2 configuration, a name or path for `find_config`.

    `drop_path` is the probability of skipping a block of the encoder; the weights of parts in `freeze` do not
    change.
    """
    overrides: dict[str, Any] = {**PROMPTING, "image_encoder.trunk.drop_path_rate": drop_path}
    network = build_network(config, ClipNetwork, overrides=overrides)
    network.prompts = prompts
    prefixes = tuple(prefix for part in freeze for prefix in PARTS[part])
    for name, parameter in network.named_parameters():
        if prefixes and name.startswith(prefixes):
            parameter.requires_grad = False
    return network


def layered_groups(
    network: nn.Module, *, weight_decay: float, encoder_rate: float, layer_decay: float
) -> list[dict[str, Any]]:
    """Return the trainable parameters in groups of equal learning rate and weight decay.

    Each group has `params`, `weight_decay` and `scale`, the factor of the learning rate.

    Parameters
    ----------
    network
        Network with a Hiera as `image_encoder.trunk`.
    weight_decay
        Weight decay of all parameters but biases and norms.
    encoder_rate
        Learning rate of the image encoder relative to the rest.
    layer_decay
        Factor of the learning rate per layer below the last one of the encoder, except for its position
        embedding.

    Source: jianlin-cheng/ETSAM sam2/configs/etsam_training/etsam_stage1.yaml@b859060.
    """
    norms = {
        f"{name}.{leaf}"
        for name, module in network.named_modules()
        if isinstance(module, nn.LayerNorm)
        for leaf, _ in module.named_parameters(recurse=False)
    }
    trunk = network.get_submodule(TRUNK.rstrip("."))
    assert isinstance(trunk, Hiera)
    top = trunk.get_num_layers() + 1
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        scale = encoder_rate if name.startswith("image_encoder.") else 1.0
        if name.startswith(TRUNK) and "pos_embed" not in name:
            scale *= math.pow(layer_decay, top - trunk.get_layer_id(name.removeprefix(TRUNK)))
        decay = 0.0 if "bias" in name or name in norms else weight_decay
        groups.setdefault((scale, decay), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay, "scale": scale}
        for (scale, decay), parameters in groups.items()
    ]


BACKGROUND_LOGIT = -100.0  # a logit whose probability, focal loss and gradient are 0


def etsam_loss() -> MultiStepMultiMasksAndIous:
    """Return the loss of sam2: focal, Dice, IoU and presence terms with the weights of ETSAM.

    Source: jianlin-cheng/ETSAM sam2/configs/etsam_training/etsam_stage{1,2}.yaml@b859060.
    """
    return MultiStepMultiMasksAndIous(
        weight_dict={"loss_mask": 20.0, "loss_dice": 1.0, "loss_iou": 1.0, "loss_class": 1.0},
        supervise_all_iou=True,
        iou_use_l1_loss=True,
        pred_obj_scores=True,
        focal_gamma_obj_score=0.0,
        focal_alpha_obj_score=-1.0,
    )


def clip_loss(loss: MultiStepMultiMasksAndIous, outputs: list[dict[str, Any]], clips: ClipBatch) -> Tensor:
    """Return the loss of a batch of clips, a scalar with gradient, from the outputs of `ClipNetwork`.

    Voxels with label -1 get the logit of certain background, which adds nothing to any term. Slices without
    a known voxel are left out.
    """
    unknown = (clips.labels < 0).transpose(0, 1)  # (T, B, S, S)
    known = clips.known_slices
    key = "multistep_pred_multimasks_high_res"
    covered = [
        {
            **outputs[t],
            key: [
                masks.float().masked_fill(unknown[t][:, None], BACKGROUND_LOGIT) for masks in outputs[t][key]
            ],
        }
        for t in known
    ]
    if not covered:
        return torch.stack([masks.sum() for masks in outputs[0][key]]).sum() * 0.0
    return loss(covered, clips.masks[known])[CORE_LOSS_KEY]
