"""The interface between segmentation methods and `cryoseg segment`.

A method is a module with three functions, which `cryoseg.methods.registry` lists:

- `resolve(config, files)` returns a `SegmentConfig` in which the model has set every field that was None,
  except `pixel_size`, and raises `ConfigError` for settings that the model cannot follow;
- `segment(volume, config, files, execution, on_slice)` returns a `SegmentResult` without post-processing. It
  holds one network in memory at a time;
- `assumed_pixel_size(files)` returns the pixel size in angstrom for tomograms whose header gives none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


@dataclass(frozen=True, kw_only=True)
class Method:
    """One row of `METHODS`.

    Attributes
    ----------
    weights
        Names in `cryoseg.methods.weights.WEIGHTS`, one per stage.
    resolve, segment, assumed_pixel_size
        Functions of the method, as described at the top of this module.
    host_bytes
        Measured memory of program, network and activations on a CPU at each `memory_level`, in bytes,
        without volumes.
    """

    weights: tuple[str, ...]
    resolve: Callable[[SegmentConfig, ModelFiles], SegmentConfig]
    segment: Callable[[SegmentInput, SegmentConfig, ModelFiles, Execution, OnSlice], SegmentResult]
    assumed_pixel_size: Callable[[ModelFiles], float]
    host_bytes: tuple[int, int, int]
