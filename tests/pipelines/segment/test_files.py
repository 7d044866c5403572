"""Segmentation of one tomogram, and the names of the files that `cryoseg segment` writes."""

from pathlib import Path

import numpy as np
import pytest

from cryoseg.config import ModelChoice, ModelName, Naming, PostprocessStep, SegmentConfig, SegmentOutputs
from cryoseg.core.grids.blank import BLANK_LOGIT
from cryoseg.events import Event, Warn
from cryoseg.pipelines.segment.files import segment_tomogram
from cryoseg.pipelines.segment.outputs import output_paths
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
