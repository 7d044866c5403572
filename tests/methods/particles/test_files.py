"""Recipes of particle models refuse what no model can have."""

from __future__ import annotations

import pytest

from cryoseg.errors import ConfigError
from cryoseg.methods.particles.files import ParticleRecipe


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"overlap": 256}, "between 0 and the tile side 256"),
        ({"overlap": -1}, "between 0 and the tile side 256"),
        ({"core": 0.0}, "above 0 and at most 1"),
        ({"core": 1.5}, "above 0 and at most 1"),
        ({"particle_pixels": 0.0}, "must be positive"),
    ],
)
def test_impossible_recipes_are_refused(changes: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ParticleRecipe(image_size=256, **changes)  # type: ignore[arg-type]
