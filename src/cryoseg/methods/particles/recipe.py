"""The recipe of a particle model: how micrographs are prepared for it and its logits are read."""

from __future__ import annotations

from dataclasses import dataclass

from cryoseg.config.prompt_sam import InputScale
from cryoseg.config.segment import Polarity
from cryoseg.config.train_sam import PARTICLE_PIXELS
from cryoseg.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ParticleRecipe:
    """How micrographs are prepared and logits are read; kept in the metadata of the model file.

    Attributes
    ----------
    image_size
        Side of a tile, in pixels of the network.
    particle_pixels
        Diameter of a particle at the network's scale: a micrograph is scaled to it.
    overlap
        What neighboring tiles share, in pixels of the network.
    core
        Diameter of the discs that the network draws, in particle diameters; logits grow to the whole.
    logit_threshold
        Chosen on validation micrographs.
    peak_sigma
        Of the blur before peaks are sought, in particle diameters; chosen there, too.
    score_slope, score_intercept
        A pick's score is the sigmoid of slope * raw score + intercept (Platt's calibration).
    score_threshold
        Score with the best F1 on the validation micrographs.
    polarity
        Of the particles in what the network sees.
    normalization
        See `InputScale`.
    pixel_size
        In angstrom, of the micrographs it was trained on; 0.0 if unknown. For information.
    crop_black
        Ordinary pictures lose their black border before (`cryoseg segment-image`).
    """

    image_size: int
    particle_pixels: float = PARTICLE_PIXELS
    overlap: int = 48
    core: float = 1.0
    logit_threshold: float = 0.0
    peak_sigma: float = 0.12
    score_slope: float = 1.0
    score_intercept: float = 0.0
    score_threshold: float = 0.0
    polarity: Polarity = Polarity.DARK
    normalization: InputScale = InputScale.GREY
    pixel_size: float = 0.0
    crop_black: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < self.image_size:
            raise ConfigError(
                f"overlap {self.overlap}: must lie between 0 and the tile side {self.image_size}."
            )
        if not 0 < self.core <= 1:
            raise ConfigError(f"core {self.core:g}: must be above 0 and at most 1.")
        if self.particle_pixels <= 0:
            raise ConfigError(f"particle_pixels {self.particle_pixels:g}: must be positive.")
