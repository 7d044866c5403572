"""Segment cryo-EM and cryo-ET data with Segment Anything models.

The public names are imported lazily, so that ``import cryoseg`` and
``cryoseg --help`` never start torch.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "SegmentConfig": "cryoseg.config",
    "Tomogram": "cryoseg.types",
    "read_tomogram": "cryoseg.io.images.volumes",
    "segment_tomogram": "cryoseg.pipelines.segment.tomogram",
    "postprocess_mask": "cryoseg.core.masks.postprocess",
    "evaluate_mask": "cryoseg.core.metrics.masks",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'cryoseg' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
