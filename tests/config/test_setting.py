"""The range of a setting is checked in one place, and its error names the option."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest

from cryoseg.config import Direction, Polarity, PostprocessStep, SegmentConfig
from cryoseg.config.pick import FilamentConfig, Side, TomogramPickConfig
from cryoseg.config.pick_micrograph import MicrographPickConfig
from cryoseg.config.setting import (
    Settings,
    option_of,
    read_range,
    read_sizes,
    restore,
    setting,
    write_range,
    write_sizes,
)
from cryoseg.errors import ConfigError
from cryoseg.io.records import read_record, write_record


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


@dataclass(frozen=True, kw_only=True)
class Odd:
    """Kinds of fields that no settings of today have together."""

    where: Path
    size: tuple[int, int, int]
    share: float = 0.5


@pytest.mark.parametrize(
    "settings",
    [
        SegmentConfig(),
        SegmentConfig(
            logit_threshold=-1,
            polarity=Polarity.BRIGHT,
            postprocess=(PostprocessStep.THIN_NOISE, PostprocessStep.BRIDGES),
            views=(Direction.BACKWARD,),
            pixel_size=13.3,
        ),
        TomogramPickConfig(),
        TomogramPickConfig(mask_side=Side.OUTSIDE, filament=FilamentConfig(min_points=7), max_picks=3),
        MicrographPickConfig(particle_diameter_px=30, polarity=Polarity.AS_IS),
        Odd(where=Path("a/b.mrc"), size=(3, 2, 1)),
    ],
    ids=lambda one: type(one).__name__,
)
def test_through_a_record_and_back(settings: Any, tmp_path: Path) -> None:
    write_record(tmp_path / "r.json", {"settings": settings})
    values = read_record(tmp_path / "r.json")["settings"]
    assert restore(type(settings), values, source="r.json") == settings


def test_a_missing_field_takes_its_default() -> None:
    assert restore(SegmentConfig, {"min_slices": 4}, source="r") == SegmentConfig(min_slices=4)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"min_slice": 4}, "min_slice, which this version of cryoseg does not know"),
        ({"min_slices": "4"}, "min_slices is '4'"),
        ({"min_slices": 4.5}, "min_slices is 4.5"),
        ({"min_slices": True}, "min_slices is True"),
        ({"split_processing": 1}, "split_processing is 1"),
        ({"polarity": "grey"}, "polarity is 'grey'"),
        ({"postprocess": "bridges"}, "postprocess is 'bridges'"),
        ({"postprocess": ["bridge"]}, "postprocess is 'bridge'"),
        ({"min_slices": None}, "min_slices is None"),
        ({"min_slices": 0}, "must be at least 1"),
    ],
)
def test_what_does_not_fit_is_named(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        restore(SegmentConfig, json.loads(json.dumps(values)), source="r.json: settings")
    assert told in str(caught.value)


def test_a_required_field_and_a_tuple_of_another_length() -> None:
    with pytest.raises(ConfigError, match="lacks a setting"):
        restore(Odd, {"size": [1, 2, 3]}, source="r")
    with pytest.raises(ConfigError, match="size is"):
        restore(Odd, {"where": "a", "size": [1, 2]}, source="r")
