"""Model, settings, device and precision of a run of `cryoseg segment`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cryoseg.config import ModelChoice, ModelName, Precision, SegmentConfig
from cryoseg.errors import WeightsError
from cryoseg.methods.device import select_device, select_precision
from cryoseg.methods.membrane_tiny.network import METHOD as MEMBRANE_TINY
from cryoseg.methods.model_file import read_model_metadata
from cryoseg.methods.registry import METHODS
from cryoseg.methods.segmenter import Method, ModelFiles
from cryoseg.methods.weights import WEIGHTS, canonical_name, find_weights, locate, require


@dataclass(frozen=True, kw_only=True)
class ResolvedModel:
    """A method with its weights, and the reason for the choice."""

    name: ModelName
    method: Method
    files: ModelFiles
    reason: str


@dataclass(frozen=True, kw_only=True)
class SegmentRun:
    """Everything that is the same for all tomograms of a run.

    Attributes
    ----------
    model
        Method with its weights.
    config
        Settings; only `pixel_size` may be None.
    device, precision
        Device and precision of the networks.
    """

    model: ResolvedModel
    config: SegmentConfig
    device: torch.device
    precision: Precision

    def bytes_needed(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the bytes that a tomogram of shape (z, y, x) needs at each memory level.

        Resampling to the scale of the network is not included.
        """
        # Float32 logits, of several views each and their sum, and their mean over orientations; mean and
        # squares of the probability; the mask; labels and masks of post-processing; the band.
        views = len(self.config.views or ())
        volumes = views + 1 if views > 1 else 1
        volumes += (self.config.tta > 1) + 2 * self.config.uncertainty
        each = (
            4 * volumes + 1 + (8 if self.config.postprocess else 0) + (self.config.band_width_nm is not None)
        )
        total = each * int(np.prod(shape, dtype=np.int64))
        return tuple(fixed + total for fixed in self.model.method.HOST_BYTES)


def prepare_run(
    config: SegmentConfig,
    model: ResolvedModel | ModelChoice,
    *,
    device: str = "auto",
    precision: Precision = Precision.AUTO,
) -> SegmentRun:
    """Resolve weights, settings, device and precision.

    Raises
    ------
    CryosegError
        If weights or device are missing, or the model does not support the settings.
    """
    chosen = select_device(device)
    found = resolve_model(model) if isinstance(model, ModelChoice) else model
    return SegmentRun(
        model=found,
        config=found.method.resolve(config, found.files),
        device=chosen,
        precision=select_precision(precision, chosen),
    )


def resolve_model(choice: ModelChoice) -> ResolvedModel:
    """Find the weights of a choice of model.

    Raises
    ------
    WeightsError
        If weights are missing; the message lists the folders that were searched.
    """
    if choice.model_file is not None:
        path = choice.model_file
        if not path.is_file() and canonical_name(str(path)) is None:
            raise WeightsError(
                f"--model {path}: no such file; give a packaged model, or one of {', '.join(ModelName)}."
            )
        path = find_weights(path, checkpoints_dir=choice.checkpoints_dir)
        method = read_model_metadata(path)["method"]
        if method != MEMBRANE_TINY:
            raise WeightsError(
                f"{choice.model_file}: is a model for {method}, not for membranes; use one of "
                f"{', '.join(ModelName)}."
            )
        return _resolved(ModelName.MEMBRANE_TINY, (path,), reason="given as a file")
    etsam = METHODS[ModelName.ETSAM].WEIGHTS
    own = (choice.stage1_checkpoint, choice.stage2_checkpoint)
    name = choice.name
    if any(own) or choice.sam2_config or name is ModelName.ETSAM:
        stages = tuple(
            given or require(known, checkpoints_dir=choice.checkpoints_dir)
            for given, known in zip(own, etsam, strict=True)
        )
        for stage in stages:
            if not stage.is_file():
                raise WeightsError(
                    f"{stage}: no such checkpoint file; check --stage1-checkpoint and --stage2-checkpoint."
                )
        return _resolved(ModelName.ETSAM, stages, reason="asked for", sam2_config=choice.sam2_config)
    reason = "asked for"
    if name is ModelName.AUTO:
        found = {known: locate(known, checkpoints_dir=choice.checkpoints_dir) for known in etsam}
        stages = tuple(path for path in found.values() if path is not None)
        if len(stages) == len(found):
            return _resolved(ModelName.ETSAM, stages, reason="both ETSAM checkpoints are installed")
        missing = ", ".join(WEIGHTS[known].file_name for known, path in found.items() if path is None)
        name, reason = ModelName.MEMBRANE_TINY, f"the weights of ETSAM are not installed: {missing}"
    stages = tuple(require(known, checkpoints_dir=choice.checkpoints_dir) for known in METHODS[name].WEIGHTS)
    return _resolved(name, stages, reason=reason)


def _resolved(
    name: ModelName, stages: tuple[Path, ...], *, reason: str, sam2_config: str | None = None
) -> ResolvedModel:
    files = ModelFiles(stages=stages, sam2_config=sam2_config)
    return ResolvedModel(name=name, method=METHODS[name], files=files, reason=reason)
