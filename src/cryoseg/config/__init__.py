"""Settings: frozen dataclasses that check their values, and the enumerations that they use.

The command line derives its options and defaults from these classes. The package does not import numpy or
torch.
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
