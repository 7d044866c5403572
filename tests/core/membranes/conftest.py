"""Masks of membranes."""

from collections.abc import Callable

import numpy as np
import pytest


@pytest.fixture
def shell() -> Callable[..., np.ndarray]:
    """A function that gives a cube with a spherical shell about its center."""

    def make(radius: float, thickness: float, size: int = 44, center: float = 21.6) -> np.ndarray:
        z, y, x = np.mgrid[:size, :size, :size] - center
        return np.abs(np.sqrt(z * z + y * y + x * x) - radius) < thickness / 2

    return make
