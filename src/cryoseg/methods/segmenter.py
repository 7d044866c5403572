"""The form of a segmentation method: what `cryoseg.methods.registry` lists and the pipeline calls.

A method is a module with three functions:

- `resolve(config, files)` fills every field of a `SegmentConfig` that is None (except `pixel_size`)
  with the model's own setting, and refuses what the model cannot do;
- `segment(data, config, files, *, pixel_size, device, precision, blank, on_slice, keep_stages, memory_level)`
  gives a `SegmentResult` without post-processing; it loads one network at a time; `blank` are the voxels
  without signal, which get `BLANK_LOGIT`; `memory_level` 1 and 2 halve batches to save memory, with the same
  result;
- `assumed_pixel_size(files)` is the scale in angstrom that is taken where a header gives none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from numpy.typing import NDArray

from cryoseg.config import Precision, SegmentConfig
from cryoseg.types import BoolArray, SegmentResult

OnSlice = Callable[[str, int, int], None]  # name of the stage, slices done, slices in all


def no_progress(stage: str, done: int, total: int) -> None:
    """An `OnSlice` that does nothing."""


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """Where the weights of a method lie.

    Attributes
    ----------
    stages
        One file per stage, in order.
    sam2_config
        Name or path of a SAM 2 configuration; None takes the method's own.
    """

    stages: tuple[Path, ...]
    sam2_config: str | None = None


class Segment(Protocol):
    """See the module's text."""

    def __call__(
        self,
        data: NDArray[Any],
        config: SegmentConfig,
        files: ModelFiles,
        *,
        pixel_size: float,
        device: torch.device,
        precision: Precision,
        blank: BoolArray | None = ...,
        on_slice: OnSlice = ...,
        keep_stages: bool = ...,
        memory_level: int = ...,
    ) -> SegmentResult:
        """Segment `data`, (z, y, x) of any real type, finite; `config` is resolved."""
        ...


@dataclass(frozen=True, kw_only=True)
class Method:
    """One row of `METHODS`.

    Attributes
    ----------
    weights
        Names in `cryoseg.methods.weights.WEIGHTS`, one per stage.
    host_bytes
        Of program, network and activations on a CPU for each `memory_level`, without volumes; measured.
    """

    weights: tuple[str, ...]
    resolve: Callable[[SegmentConfig, ModelFiles], SegmentConfig]
    segment: Segment
    assumed_pixel_size: Callable[[ModelFiles], float]
    host_bytes: tuple[int, int, int]
