from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cryoseg.io.images.pixel_size import contradiction, settle_pixel_size, with_pixel_size
from cryoseg.types import Geometry, Tomogram

NANOMETERS = "0.1 times the header's 12 A"


@pytest.mark.parametrize(
    ("header", "given", "said"),
    [
        (12.0, 1.2, NANOMETERS),
        (1.2, 12.0, "10 times the header's 1.2 A"),
        (12.0, 12.0, None),
        (3.0, 12.0, None),  # binned by 4
        (12.0, 3.0, None),
        (0.0, 1.2, None),  # a header that is not believed contradicts nothing
        (1.0, 12.0, None),
        (0.0134, 13.4, None),
    ],
)
def test_pixel_size_far_from_the_header_is_told(header: float, given: float, said: str | None) -> None:
    geometry = Geometry(voxel_size=(header,) * 3)
    doubt = contradiction(geometry, given)
    assert doubt is None if said is None else said in (doubt or "")
    tomogram = Tomogram(data=np.zeros((2, 2, 2)), geometry=geometry, source=Path("ts.mrc"), warnings=("a",))
    changed = with_pixel_size(tomogram, given)
    assert changed.geometry.voxel_size == (given,) * 3
    assert len(changed.warnings) == (1 if said is None else 2)
    size, warning = settle_pixel_size(tomogram, override=given, assumed=10.0)
    assert size.angstrom == given
    assert (warning is None) == (said is None)
