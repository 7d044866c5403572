"""Names of the files that `cryoseg segment` writes."""

from pathlib import Path

import pytest

from cryoseg.config import Naming, PostprocessStep, SegmentConfig, SegmentOutputs
from cryoseg.pipelines.segment.files import output_paths

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
        f"ts_etsam{tag}_predicted_mask.mrc",
        f"ts_etsam{tag}_predicted_logits.mrc",
        f"ts_etsam{tag}_predicted.json",
    ]
