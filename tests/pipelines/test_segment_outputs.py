"""Which files a run may write, and what becomes of a batch when something breaks."""

from pathlib import Path

import numpy as np
import pytest

from cryoseg.config import Naming, PostprocessStep, SegmentConfig, SegmentOutputs
from cryoseg.errors import InputError, OutputError
from cryoseg.io.inputs import InputItem
from cryoseg.io.volumes import made_by, write_mask
from cryoseg.pipelines.batch import run_batch
from cryoseg.pipelines.events import Event, Note, Row, Status
from cryoseg.pipelines.segment_outputs import keep_finished, output_paths
from cryoseg.types import Geometry

FILTERED = SegmentConfig(postprocess=(PostprocessStep.THIN_NOISE,))


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Path]:
    return output_paths(tmp_path, "ts", FILTERED, SegmentOutputs())


def mask(path: Path, label: str) -> None:
    write_mask(path, np.zeros((2, 3, 4), bool), Geometry(), label=label)


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


def test_nothing_there_is_free_to_write(paths: dict[str, Path]) -> None:
    assert keep_finished("ts.mrc", paths) is None


def test_everything_there_is_kept(paths: dict[str, Path]) -> None:
    for path in paths.values():
        path.write_bytes(b"x")
    row = keep_finished("ts.mrc", paths)
    assert row is not None
    assert row.status is Status.SKIPPED
    assert "--overwrite" in row.message


def test_pieces_of_a_broken_run_are_replaced(paths: dict[str, Path]) -> None:
    mask(paths["mask"], made_by("segment"))
    assert keep_finished("ts.mrc", paths) is None


def test_a_mask_of_another_program_is_not(paths: dict[str, Path]) -> None:
    mask(paths["mask"], "drawn by hand")
    with pytest.raises(OutputError, match=r"ts_membrane_mask\.mrc.*--overwrite"):
        keep_finished("ts.mrc", paths)


def test_a_finished_run_without_the_file_asked_for_now_is_not(paths: dict[str, Path]) -> None:
    mask(paths["mask"], made_by("segment"))
    paths["record"].write_text("{}")
    with pytest.raises(OutputError, match=r"but not ts_membrane_post_processed_mask\.mrc"):
        keep_finished("ts.mrc", paths)


def test_a_batch_outlives_every_failure() -> None:
    def work(path: Path) -> Row:
        match path.name:
            case "bad":
                raise InputError("bad: one sentence.")
            case "defect":
                return [][1]
            case "large":
                raise MemoryError
        return Row(name=path.name, status=Status.DONE)

    items = [InputItem(path=Path(name)) for name in ("bad", "defect", "large", "good")]
    items.insert(0, InputItem(path=Path("absent"), error="absent: no such file."))
    events: list[Event] = []
    report = run_batch(items, work, on_event=events.append)
    assert [row.status for row in report.rows] == [Status.FAILED] * 4 + [Status.DONE]
    messages = [row.message for row in report.rows]
    assert messages[:2] == ["absent: no such file.", "bad: one sentence."]
    assert "IndexError" in messages[2]
    assert "--verbose" in messages[2]
    assert "not enough memory" in messages[3]
    assert not any("Traceback" in message for message in messages)
    assert report.exit_status == 1
    details = [event for event in events if isinstance(event, Note)]
    assert [event.detail for event in details] == [True]
    assert "Traceback" in details[0].text


def test_an_interrupt_ends_the_batch() -> None:
    def work(path: Path) -> Row:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_batch([InputItem(path=Path("a"))], work, on_event=lambda event: None)
