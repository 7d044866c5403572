"""Settings come back from a record as they went in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cryoseg.config import Direction, Polarity, PostprocessStep, SegmentConfig
from cryoseg.config.pick import FilamentConfig, Side, TomogramPickConfig
from cryoseg.config.pick_micrograph import MicrographPickConfig
from cryoseg.config.restore import restore
from cryoseg.errors import ConfigError
from cryoseg.io.records import read_record, write_record


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
