"""Every setting of the tool: frozen dataclasses, checked when they are made, and the enums they use.

The command line reads its defaults from here, so that each default has one source. Nothing
here imports numpy or torch.
"""

from cryoseg.config.common import DeviceName, Mode0, Naming, Precision
from cryoseg.config.evaluate import EvaluateConfig, Length, Metric
from cryoseg.config.segment import (
    Direction,
    ModelChoice,
    ModelName,
    Normalize,
    Polarity,
    PostprocessStep,
    Preset,
    SegmentConfig,
    SegmentOutputs,
    SegmentRequest,
    Stage1Prompt,
    Stage2Prompt,
)

__all__ = [
    "DeviceName",
    "Direction",
    "EvaluateConfig",
    "Length",
    "Metric",
    "Mode0",
    "ModelChoice",
    "ModelName",
    "Naming",
    "Normalize",
    "Polarity",
    "PostprocessStep",
    "Precision",
    "Preset",
    "SegmentConfig",
    "SegmentOutputs",
    "SegmentRequest",
    "Stage1Prompt",
    "Stage2Prompt",
]
