"""Settings of preprocessing and picking in the file of a particle model."""

from __future__ import annotations

from dataclasses import dataclass

from cryoseg.config.prompt_sam import InputScale
from cryoseg.config.segment import Polarity
from cryoseg.config.train_sam import PARTICLE_PIXELS
from cryoseg.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ParticleRecipe:
    """Settings of preprocessing and picking, which the metadata of the model file contain.

    Attributes
    ----------
    image_size
        Side of a tile in pixels of the network.
    particle_pixels
        Diameter to which particles are scaled, in pixels of the network.
    overlap
        Overlap of neighboring tiles in pixels of the network.
    core
        Diameter of the discs that the network segments, in particle diameters; picking enlarges them.
    logit_threshold
        Threshold chosen on validation micrographs.
    peak_sigma
        Standard deviation of the blur before the search for peaks, in particle diameters, chosen on them too.
    score_slope, score_intercept
        Platt's calibration: a score is the sigmoid of slope * raw score + intercept.
    score_threshold
        Score with the best F1 on the validation micrographs.
    polarity
        Polarity of the particles in the network's input.
    normalization
        Scale of the network's input.
    pixel_size
        Pixel size of the training micrographs in angstrom, for information; 0.0 if unknown.
    crop_black
        Whether `cryoseg segment-image` crops black borders of pictures.
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
