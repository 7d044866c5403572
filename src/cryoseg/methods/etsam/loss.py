"""Loss of sam2 on clips with unknown labels."""

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

BACKGROUND_LOGIT = -100.0  # a logit whose probability, focal loss and gradient are 0


def etsam_loss() -> MultiStepMultiMasksAndIous:
    """Return the loss of sam2: focal, Dice, IoU and presence terms with the weights of ETSAM.

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
    """Return the loss of a batch of clips, a scalar with gradient.

    Voxels with label -1 get the logit of certain background, which adds nothing to any term. Slices without
    a known voxel are left out.

    Parameters
    ----------
    loss
        Loss from `etsam_loss`.
    outputs
        Outputs of `ClipNetwork`, one per slice.
    clips
        Input of the network.
    """
    unknown = (clips.labels < 0).transpose(0, 1)  # (T, B, S, S)
    known = [t for t in range(clips.num_frames) if not bool(unknown[t].all())]
    key = "multistep_pred_multimasks_high_res"
    covered = [
        {
            **outputs[t],
            key: [
                masks.float().masked_fill(unknown[t][:, None], BACKGROUND_LOGIT)
                if unknown[t].any()
                else masks.float()
                for masks in outputs[t][key]
            ],
        }
        for t in known
    ]
    if not covered:
        return torch.stack([masks.sum() for masks in outputs[0][key]]).sum() * 0.0
    return loss(covered, clips.masks[known])[CORE_LOSS_KEY]
