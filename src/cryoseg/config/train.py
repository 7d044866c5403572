"""Settings of `cryoseg train`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from cryoseg.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """The training loop that every method shares.

    Attributes
    ----------
    steps
        Optimizer steps in all; the learning rate follows a cosine over them.
    warmup_steps
        Linear rise of the learning rate.
    learning_rate, final_learning_rate_fraction
        Peak, and where the cosine ends, as a fraction of the peak.
    weight_decay
        AdamW's, on matrices and kernels only.
    clip_norm
        Gradients are scaled down to this L2 norm where theirs is larger; None leaves them as they are.
    ema_decay
        Decay of the averaged weights that are validated and kept; 0 switches averaging off.
    validate_every, checkpoint_every
        In steps.
    max_minutes
        Stop, resumable, after this many minutes; None for no limit.
    seed
        Every random choice of step n follows from (seed, n), so a resumed run repeats exactly.
    """

    steps: int = 3000
    warmup_steps: int = 100
    learning_rate: float = 1e-3
    final_learning_rate_fraction: float = 0.01
    weight_decay: float = 0.05
    clip_norm: float | None = 1.0
    ema_decay: float = 0.995
    validate_every: int = 500
    checkpoint_every: int = 100
    max_minutes: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"--steps {self.steps}: must be at least 1.")
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"--ema-decay {self.ema_decay}: must lie in [0, 1).")
        if not 0 < self.learning_rate < float("inf"):
            raise ConfigError(f"--learning-rate {self.learning_rate}: must be positive.")


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """Clips of consecutive slices and their augmentation.

    Attributes
    ----------
    length
        Slices in a clip; also the memory window of inference.
    size
        Side of the square crop, in pixels.
    batch
        Clips in a step.
    zoom
        Largest factor by which a clip is magnified or shrunk (1 for none).
    noise, blur
        Largest standard deviation of added white noise (in units of the normalized volume) and
        of a Gaussian blur (in pixels).
    empty_fraction
        Fraction of clips that may hold no membrane at all.
    """

    length: int = 4
    size: int = 192
    batch: int = 2
    zoom: float = 1.35
    noise: float = 0.7
    blur: float = 1.0
    empty_fraction: float = 0.1

    def __post_init__(self) -> None:
        if self.size < 32 or self.size % 32:
            raise ConfigError(f"--crop-size {self.size}: must be a multiple of 32, and at least 32.")
        if self.length < 1 or self.batch < 1:
            raise ConfigError("--clip-length and --batch must be at least 1.")


@dataclass(frozen=True, kw_only=True)
class TrainMembraneConfig:
    """Everything that decides what `cryoseg train` makes of its data."""

    stage: int = 1
    loop: LoopConfig = field(default_factory=LoopConfig)
    clip: ClipConfig = field(default_factory=ClipConfig)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)
