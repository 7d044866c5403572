"""The range of a setting is checked in one place, and its error names the option."""

from __future__ import annotations

from dataclasses import dataclass, fields

import pytest

from cryoseg.config.setting import (
    Settings,
    option_of,
    read_range,
    read_sizes,
    setting,
    write_range,
    write_sizes,
)
from cryoseg.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Drawing(Settings):
    side: int = setting(64, help="Side.", flags=("--side-length", "--side"), at_least=1)
    share: float = setting(0.5, help="Share.", above=0, below=1)
    pixel_size: float | None = setting(None, help="Size.", at_least=0.1, at_most=1000, unit="angstrom")
    crop: tuple[int, ...] = setting((8, 8), help="Crop.", write=write_sizes, at_least=4)
    is_dark: bool = setting(False, help="Dark.", flags=("--dark/--bright",))
    name: str = "picture"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"side": 0}, "--side-length 0: must be at least 1."),
        ({"share": 0.0}, "--share 0: must be greater than 0 and less than 1."),
        ({"share": 1.0}, "--share 1: must be greater than 0 and less than 1."),
        ({"share": float("nan")}, "--share nan: must be a finite number."),
        ({"pixel_size": 1e4}, "--pixel-size 10000: must be from 0.1 to 1000 angstrom."),
        ({"crop": (8, 2)}, "--crop 8x2: must be at least 4."),
    ],
)
def test_a_value_outside_the_range_is_one_sentence(values: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError) as told:
        Drawing(**values)
    assert str(told.value) == sentence


def test_values_at_the_ends_are_taken() -> None:
    drawing = Drawing(side=1, share=1e-9, pixel_size=1000.0, crop=(4, 4), is_dark=True)
    assert (drawing.side, Drawing().pixel_size, Drawing.side) == (1, None, 64)


def test_options_are_named_after_fields_unless_told() -> None:
    assert [option_of(one) for one in fields(Drawing)] == [
        "--side-length",
        "--share",
        "--pixel-size",
        "--crop",
        "--dark",
        "--name",
    ]


def test_sizes_and_ranges_are_read_and_written() -> None:
    assert read_sizes("ZxYxX", "6x64x64")("8x32x48", option="--crop") == (8, 32, 48)
    assert write_sizes((8, 32, 48)) == "8x32x48"
    assert read_range("3", option="--snr") == (3.0, 3.0)
    assert read_range("0.5:2", option="--snr") == (0.5, 2.0)
    assert write_range((0.5, 2.0)) == "0.5:2"
    for wrong in ("8x32", "8x32x48x2", "axbxc", "8"):
        with pytest.raises(ConfigError, match=f"--crop {wrong}: write ZxYxX, such as 6x64x64"):
            read_sizes("ZxYxX", "6x64x64")(wrong, option="--crop")
    with pytest.raises(ConfigError, match="--snr a:2: give one number"):
        read_range("a:2", option="--snr")
