"""sam2's own loss on clips whose labels may be unknown in places."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cryoseg.errors import ConfigError
from cryoseg.methods.etsam.training_network import ClipBatch

try:
    from training.loss_fns import CORE_LOSS_KEY, MultiStepMultiMasksAndIous
except ImportError as error:
    raise ConfigError(
        f'Training ETSAM needs {error.name}, which is not installed; run pip install "cryoseg[train]".'
    ) from error

SURELY_NOT = -100.0  # a logit whose probability, focal loss and gradient are 0


def etsam_loss() -> MultiStepMultiMasksAndIous:
    """Focal, Dice, IoU and presence terms with ETSAM's weights.

    Notes
    -----
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
    """Loss of a batch of clips, a scalar with gradient.

    Voxels with label -1 count as a confident and right "no membrane", which adds nothing to any
    term. A slice without a single known voxel is left out.

    Parameters
    ----------
    loss
        From `etsam_loss`.
    outputs
        Of `ClipNetwork`, one per slice.
    clips
        What the network saw.
    """
    unknown = (clips.labels < 0).transpose(0, 1)  # (T, B, S, S)
    taught = [t for t in range(clips.num_frames) if not bool(unknown[t].all())]
    key = "multistep_pred_multimasks_high_res"
    covered = [
        {
            **outputs[t],
            key: [
                masks.float().masked_fill(unknown[t][:, None], SURELY_NOT)
                if unknown[t].any()
                else masks.float()
                for masks in outputs[t][key]
            ],
        }
        for t in taught
    ]
    if not covered:
        return torch.stack([masks.sum() for masks in outputs[0][key]]).sum() * 0.0
    return loss(covered, clips.masks[taught])[CORE_LOSS_KEY]
