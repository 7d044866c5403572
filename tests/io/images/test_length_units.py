from __future__ import annotations

import pytest

from cryoseg.io.images.tiff import angstrom_per


@pytest.mark.parametrize(
    ("unit", "angstrom"),
    [
        ("Å", 1),
        ("A", 1),
        ("\u212b", 1),
        ("Angstroms", 1),
        ("nm", 10),
        ("nanometre", 10),
        ("µm", 1e4),
        ("\u03bcm", 1e4),
        ("\\u00B5m", 1e4),
        ("micron", 1e4),
        ("pm", 0.01),
        ("mm", 1e7),
        ("Mm", 0),
        ("m", 1e10),
        ("inch", 2.54e8),
        ("cm", 1e8),
        ("Micrometers", 1e4),
        ("pixel", 0),
        ("reference frame", 0),
        ("", 0),
    ],
)
def test_units_in_angstrom(unit: str, angstrom: float) -> None:
    assert angstrom_per(unit) == pytest.approx(angstrom)
