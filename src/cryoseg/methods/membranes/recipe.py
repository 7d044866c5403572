"""Settings in the file of a membrane model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class MembraneRecipe:
    """Settings of preprocessing and thresholding, which the metadata of the model file contain.

    Attributes
    ----------
    window
        Number of slices of a training clip, and so of the memory of inference.
    tile, overlap
        Largest side of the square tiles and overlap of neighboring tiles in pixels.
    pixel_size_range
        Lowest and highest pixel size of the training data in angstrom.
    assumed_pixel_size
        Pixel size in angstrom for tomograms whose header gives none.
    logit_threshold
        Threshold chosen on validation volumes.
    """

    window: int = 4
    tile: int = 320
    overlap: int = 32
    pixel_size_range: tuple[float, float] = (7.0, 18.0)
    assumed_pixel_size: float = 12.0
    logit_threshold: float = 0.0
