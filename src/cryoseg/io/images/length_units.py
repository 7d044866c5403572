"""Units of length, by the symbols and names that image files use, in angstrom."""

from __future__ import annotations

_METER = 1e10
_INCH = 0.0254 * _METER
_PREFIXES = {  # symbol, name: power of ten
    ("Y", "yotta"): 24,
    ("Z", "zetta"): 21,
    ("E", "exa"): 18,
    ("P", "peta"): 15,
    ("T", "tera"): 12,
    ("G", "giga"): 9,
    ("M", "mega"): 6,
    ("k", "kilo"): 3,
    ("h", "hecto"): 2,
    ("da", "deca"): 1,
    ("", ""): 0,
    ("d", "deci"): -1,
    ("c", "centi"): -2,
    ("m", "milli"): -3,
    ("µ", "micro"): -6,
    ("n", "nano"): -9,
    ("p", "pico"): -12,
    ("f", "femto"): -15,
    ("a", "atto"): -18,
    ("z", "zepto"): -21,
    ("y", "yocto"): -24,
}
_SYMBOLS = {f"{symbol}m": 10.0**power * _METER for (symbol, _), power in _PREFIXES.items()} | {
    "Å": 1.0,
    "A": 1.0,
    "um": 1e4,
    "thou": _INCH / 1000,
    "li": _INCH / 12,
    "in": _INCH,
    "ft": 12 * _INCH,
    "yd": 36 * _INCH,
    "mi": 63360 * _INCH,
    "ua": 149_597_870_700 * _METER,
    "ly": 9_460_730_472_580_800 * _METER,
    "pc": 3.085677581491367e16 * _METER,
    "pt": _INCH / 72,
}
_NAMES = {f"{name}meter": 10.0**power * _METER for (_, name), power in _PREFIXES.items()} | {
    "angstrom": 1.0,
    "micron": 1e4,
    "inch": _INCH,
    "foot": 12 * _INCH,
    "yard": 36 * _INCH,
    "mile": 63360 * _INCH,
    "parsec": _SYMBOLS["pc"],
}


def angstrom_per(unit: str) -> float:
    """Angstrom in a unit of length, 0.0 where it is none, such as pixels.

    Parameters
    ----------
    unit
        A symbol (case tells mm from Mm) or an English name (of any case, also in the plural).

    Source: OME schema 2016-06, UnitsLength; OME-NGFF 0.4, units of UDUNITS-2.
    """
    # Both micro signs of Unicode, and ImageJ's spelling of one, are the same prefix.
    unit = unit.strip().replace("\\u00B5", "µ").replace("\\u00b5", "µ").replace("\u03bc", "µ")
    unit = unit.replace("\\u00C5", "Å").replace("\\u00c5", "Å").replace("\u212b", "Å")
    name = unit.lower().replace("metre", "meter").replace("ångström", "angstrom").removesuffix("s")
    return _SYMBOLS.get(unit) or _NAMES.get(name) or _SYMBOLS.get(unit.lower(), 0.0)
