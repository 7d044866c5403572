"""How a membrane model prepares its inputs and reads its results."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class MembraneRecipe:
    """How inputs are prepared and results are read; kept in the metadata of the model file.

    Attributes
    ----------
    window
        Slices of a training clip: the memory of inference.
    tile, overlap
        Largest side of the square tiles, and what neighbors share, in pixels.
    pixel_size_range
        (lowest, highest) pixel size in angstrom that the network saw in training.
    assumed_pixel_size
        Taken where the header does not say.
    logit_threshold
        Chosen on held-out validation volumes.
    """

    window: int = 4
    tile: int = 320
    overlap: int = 32
    pixel_size_range: tuple[float, float] = (7.0, 18.0)
    assumed_pixel_size: float = 12.0
    logit_threshold: float = 0.0
