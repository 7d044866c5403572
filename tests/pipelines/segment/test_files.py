"""Segmentation of one tomogram, and the names of the files that `cryoseg segment` writes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from cryoseg.config import ModelChoice, ModelName, Naming, PostprocessStep, SegmentConfig, SegmentOutputs
from cryoseg.core.grids.blank import BLANK_LOGIT
from cryoseg.errors import ConfigError, InputError
from cryoseg.events import Event, StageProgress, Warn
from cryoseg.io.inputs import OWN_OUTPUTS
from cryoseg.pipelines.segment.files import output_paths
from cryoseg.pipelines.segment.model import prepare_run
from cryoseg.pipelines.segment.tomogram import check_tomogram, segment_tomogram
from cryoseg.types import Geometry, Tomogram

FILTERED = SegmentConfig(postprocess=(PostprocessStep.THIN_NOISE,))


def test_names() -> None:
    ours = output_paths(Path("o"), "ts", FILTERED, SegmentOutputs(store_logits=True, preview=True))
    assert {kind: path.name for kind, path in ours.items()} == {
        "mask": "ts_membrane_mask.mrc",
        "logits": "ts_membrane_logits.mrc",
        "post_processed_mask": "ts_membrane_post_processed_mask.mrc",
        "preview": "ts_membrane_preview.png",
        "record": "ts_membrane.json",
    }
    assert list(ours)[-1] == "record"


@pytest.mark.parametrize(("split", "tag"), [(False, ""), (True, "_split_processing")])
def test_etsam_names(split: bool, tag: str) -> None:
    config = SegmentConfig(split_processing=split)
    theirs = output_paths(Path("o"), "ts", config, SegmentOutputs(store_logits=True, naming=Naming.ETSAM))
    assert [path.name for path in theirs.values()] == [
        f"ts_etsam_predicted{tag}_mask.mrc",
        f"ts_etsam_predicted{tag}_logits.mrc",
        f"ts_etsam_predicted{tag}.json",
    ]


TINY = ModelChoice(name=ModelName.MEMBRANE_TINY)


def _tomogram(data: np.ndarray) -> Tomogram:
    return Tomogram(data=data, geometry=Geometry(voxel_size=(12.0,) * 3), source=Path("ts.mrc"))


def test_nothing_is_marked_in_padding_whatever_the_threshold() -> None:
    data = np.random.default_rng(0).normal(50, 5, (2, 48, 96)).astype(np.float32)
    data[:, :, 48:] = 50
    config = SegmentConfig(logit_threshold=-100.0)
    result = segment_tomogram(_tomogram(data), config, model=TINY, device="cpu")
    assert result.mask[:, :, :48].all()
    assert not result.mask[:, :, 48:].any()
    assert (result.logits[:, :, 48:] == BLANK_LOGIT).all()


def test_a_constant_volume_has_an_empty_mask_and_a_warning() -> None:
    said: list[Event] = []
    data = np.full((12, 32, 32), 7, np.int16)
    result = segment_tomogram(_tomogram(data), FILTERED, model=TINY, device="cpu", on_event=said.append)
    assert result.post_processed is not None
    assert not result.mask.any()
    assert not result.post_processed.any()
    assert any(isinstance(event, Warn) and "same value" in event.text for event in said)


@pytest.mark.parametrize(
    ("shape", "is_told"), [((64, 32, 64), True), ((64, 33, 64), False), ((8, 32, 64), False)]
)
def test_a_volume_that_was_not_rotated_is_told(shape: tuple[int, int, int], is_told: bool) -> None:
    said: list[Event] = []
    check_tomogram(
        _tomogram(np.ones(shape, np.float32)), prepare_run(SegmentConfig(), TINY, device="cpu"), said.append
    )
    assert [event.text for event in said if isinstance(event, Warn)] == [
        "ts.mrc: has 32 voxels along y and 64 along z, as reconstructions of IMOD before their rotation. "
        "The model segments slices along z: rotate the volume first, as `trimvol -rx` of IMOD does."
    ] * is_told


def test_orientations_are_averaged() -> None:
    data = np.random.default_rng(1).normal(0, 1, (3, 48, 64)).astype(np.float32)
    data[:, 20:24] -= 4
    events: list[Event] = []
    config = SegmentConfig(tta=2, uncertainty=True)
    both = segment_tomogram(_tomogram(data), config, model=TINY, device="cpu", on_event=events.append)
    first, second = (
        segment_tomogram(_tomogram(turned), model=TINY, device="cpu")
        for turned in (data, data[::-1, ::-1, ::-1])
    )
    ones, others = first.logits, second.logits[::-1, ::-1, ::-1]
    np.testing.assert_allclose(both.logits, (ones + others) / 2, atol=1e-5)
    np.testing.assert_array_equal(
        both.mask, both.logits > np.float32(prepare_run(config, TINY, device="cpu").config.logit_threshold)
    )
    assert both.uncertainty is not None
    np.testing.assert_allclose(both.uncertainty, np.abs(expit(ones) - expit(others)) / 2, atol=1e-5)
    stages = [event.stage for event in events if isinstance(event, StageProgress)]
    assert stages[0] == "stage 1, orientation 1 of 2"
    assert stages[-1] == "stage 2, orientation 2 of 2"
    assert first.uncertainty is None


def test_uncertainty_needs_several_orientations() -> None:
    with pytest.raises(ConfigError, match="--tta 4"):
        SegmentConfig(uncertainty=True)


def test_memory_of_orientations_is_planned() -> None:
    shape = (10, 100, 100)
    plans = [
        prepare_run(config, TINY, device="cpu").bytes_needed(shape)[0]
        for config in (SegmentConfig(), SegmentConfig(tta=2), SegmentConfig(tta=8, uncertainty=True))
    ]
    assert [plan - plans[0] for plan in plans] == [0, 4 * 10**5, 12 * 10**5]


def test_the_uncertainty_has_a_file() -> None:
    paths = output_paths(Path("o"), "ts", SegmentConfig(tta=4, uncertainty=True), SegmentOutputs())
    assert paths["uncertainty"].name == "ts_membrane_uncertainty.mrc"
    assert OWN_OUTPUTS.search(paths["uncertainty"].name)


@pytest.mark.parametrize("steps", [(), (PostprocessStep.THIN_NOISE,)])
def test_the_final_mask_is_a_band(steps: tuple[PostprocessStep, ...]) -> None:
    grid = np.indices((16, 48, 48)) - 23.5
    data = np.random.default_rng(1).normal(0, 0.3, (16, 48, 48)).astype(np.float32)
    data[np.abs(np.hypot(grid[1], grid[2]) - 14) < 2] -= 4
    settings = {"postprocess": steps, "min_slices": 2}
    plain, band = (
        segment_tomogram(_tomogram(data), SegmentConfig(**settings, **more), model=TINY, device="cpu")
        for more in ({}, {"band_width_nm": 2.4})
    )
    before, after = (one.mask if one.post_processed is None else one.post_processed for one in (plain, band))
    np.testing.assert_array_equal(band.logits, plain.logits)
    if steps:
        np.testing.assert_array_equal(band.mask, plain.mask)
    # The band is thinner than the predicted one, and lies in it.
    assert 0.2 < after.sum() / before.sum() < 0.95
    assert (after & before).sum() > 0.95 * after.sum()


def test_a_band_needs_a_voxel_size() -> None:
    unset = replace(_tomogram(np.zeros((4, 32, 32), np.float32)), geometry=Geometry(voxel_size=(0.0,) * 3))
    with pytest.raises(InputError, match="no voxel size, which --band-width needs"):
        segment_tomogram(unset, SegmentConfig(band_width_nm=4), model=TINY, device="cpu")
