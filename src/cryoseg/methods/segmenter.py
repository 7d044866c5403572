"""The interface between segmentation methods and `cryoseg segment`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from numpy.typing import NDArray

from cryoseg.config import Precision, SegmentConfig
from cryoseg.types import BoolArray, SegmentResult

OnSlice = Callable[[str, int, int], None]  # name of the stage, slices done, number of slices


def no_progress(stage: str, done: int, total: int) -> None:
    """Ignore the progress of a stage."""


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """The files that hold a model.

    Attributes
    ----------
    stages
        One file of weights per stage, in order.
    sam2_config
        Name or path of a SAM 2 configuration; None for the method's own.
    """

    stages: tuple[Path, ...]
    sam2_config: str | None = None


@dataclass(frozen=True, kw_only=True)
class SegmentInput:
    """A tomogram to segment.

    Attributes
    ----------
    data
        (z, y, x) array of any real type, all finite.
    pixel_size
        Pixel size in angstrom.
    blank
        (z, y, x) mask of the voxels without signal, which get `BLANK_LOGIT`; None if there are none.
    """

    data: NDArray[Any]
    pixel_size: float
    blank: BoolArray | None = None


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How a method computes. The result depends on the device and the precision only.

    Attributes
    ----------
    device, precision
        Device and arithmetic of the networks.
    memory_level
        0, 1 or 2: higher levels use less memory and take more time.
    keep_stages
        Whether the result holds the logits of stage 1 too.
    """

    device: torch.device
    precision: Precision = Precision.FLOAT32
    memory_level: int = 0
    keep_stages: bool = False


class Method(Protocol):
    """A module with a segmentation method, which `cryoseg.methods.registry` lists.

    Attributes
    ----------
    WEIGHTS
        Names in `cryoseg.methods.weights.WEIGHTS`, one per stage.
    HOST_BYTES
        Measured memory of program, network and activations on a CPU at each `memory_level`, in bytes,
        without volumes.
    """

    WEIGHTS: tuple[str, ...]
    HOST_BYTES: tuple[int, int, int]

    def resolve(self, config: SegmentConfig, files: ModelFiles) -> SegmentConfig:
        """Return settings in which the model has set every field that was None, except `pixel_size`.

        A `ConfigError` is raised for settings that the model cannot follow.
        """

    def segment(
        self,
        volume: SegmentInput,
        config: SegmentConfig,
        files: ModelFiles,
        execution: Execution,
        on_slice: OnSlice,
    ) -> SegmentResult:
        """Segment a tomogram without post-processing; hold one network in memory at a time."""

    def assumed_pixel_size(self, files: ModelFiles) -> float:
        """Return the pixel size in angstrom for tomograms whose header gives none."""
