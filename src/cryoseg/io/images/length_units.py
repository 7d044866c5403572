"""Units of length in image files, in angstrom."""

from __future__ import annotations

# Symbols are exact, since Mm is not mm; names are compared in lower case and without a plural s.
_SYMBOLS = {"Å": 1.0, "A": 1.0, "pm": 1e-2, "nm": 10.0, "µm": 1e4, "um": 1e4, "mm": 1e7, "cm": 1e8, "m": 1e10}
_NAMES = {
    "angstrom": 1.0,
    "picometer": 1e-2,
    "nanometer": 10.0,
    "micrometer": 1e4,
    "micron": 1e4,
    "millimeter": 1e7,
    "centimeter": 1e8,
    "meter": 1e10,
    "inch": 2.54e8,
}


def angstrom_per(unit: str) -> float:
    """Length of a unit in angstrom, 0.0 where it is unknown or no length, such as pixels.

    Parameters
    ----------
    unit
        A symbol, or an English name in any case, also in the plural.

    Notes
    -----
    Sources: OME schema 2016-06, UnitsLength; OME-NGFF 0.4, units of UDUNITS-2; TIFF 6.0, ResolutionUnit.
    """
    # Unicode has two micro signs and two angstrom signs, and ImageJ escapes them.
    unit = unit.strip().replace("\\u00B5", "µ").replace("\\u00b5", "µ").replace("\u03bc", "µ")
    unit = unit.replace("\\u00C5", "Å").replace("\\u00c5", "Å").replace("\u212b", "Å")
    name = unit.lower().replace("metre", "meter").replace("ångström", "angstrom").removesuffix("s")
    return _SYMBOLS.get(unit) or _NAMES.get(name, 0.0)
