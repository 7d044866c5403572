"""Answers of servers that are damaged, or of another form than asked for."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cryoseg.errors import CryosegError, InputError
from cryoseg.io.web import archives, http

RUNS = {"data": {"runs": [{"id": 7, "name": "ts_01", "datasetId": 10000}]}}
CONTENT = {
    "data": {
        "tomograms": [
            {
                "id": 1,
                "processing": "raw",
                "voxelSpacing": 10.0,
                "httpsMrcFile": "https://host.example/a/ts.mrc",
                "fileSizeMrc": 100.0,
                "s3OmezarrDir": "s3://bucket/a/ts.zarr",
            }
        ],
        "annotationFiles": [
            {
                "format": "mrc",
                "httpsPath": "https://host.example/a/mask.mrc",
                "fileSize": 10,
                "tomogramVoxelSpacing": {"voxelSpacing": 10.0},
                "annotationShape": {
                    "shapeType": "SegmentationMask",
                    "annotation": {"id": 3, "objectName": "membrane"},
                },
            }
        ],
    }
}
DATASET = {
    "data": [
        {
            "label": "mask.mrc",
            "directoryLabel": "10000/247/target_mask",
            "dataFile": {"id": 5, "filesize": 9, "checksum": {"type": "MD5", "value": "0" * 32}},
        }
    ]
}
LISTING = """<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
<Contents><Key>a/ts.zarr/0/0</Key><Size>{size}</Size></Contents>{more}</ListBucketResult>"""
TOKEN = "<NextContinuationToken>again</NextContinuationToken>"
JUNK = st.sampled_from([None, "", "x", -1, 1e300, [], {}, [None], {"a": 1}, "../up", "a\\b"])
STEPS = st.lists(st.integers(0, 9), min_size=1, max_size=7)


def damaged(answer: Any, steps: list[int], junk: Any) -> Any:
    """A copy of an answer with one place of it exchanged; `steps` lead there."""
    answer = copy.deepcopy(answer)
    place = answer
    for step in steps:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = keys[step % len(keys)]
        if not isinstance(place[key], dict | list) or not place[key] or step == steps[-1]:
            break
        place = place[key]
    place[key] = junk
    return answer


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=STEPS, junk=JUNK, which=st.integers(0, 2))
def test_damaged_answers_end_in_our_own_errors(
    monkeypatch: pytest.MonkeyPatch, steps: list[int], junk: Any, which: int
) -> None:
    answers = [copy.deepcopy(RUNS), copy.deepcopy(CONTENT), copy.deepcopy(DATASET)]
    answers[which] = damaged(answers[which], steps, junk)
    asks = ((lambda: archives.find_run("10000", "7"), answers[:2]), (archives.list_dataset, answers[2:]))
    for ask, replies in asks:
        queue = iter(replies)
        monkeypatch.setattr(archives, "fetch_json", lambda *_, _queue=queue, **__: next(_queue))
        try:
            ask()
        except CryosegError as error:
            text = str(error)
        else:
            text = ""
        assert "\n" not in text


def test_whole_answers_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = iter([RUNS, CONTENT, DATASET])
    monkeypatch.setattr(archives, "fetch_json", lambda *_, **__: next(queue))
    run = archives.find_run("10000", "ts_01")
    assert (run.dataset, run.number, run.name) == (10000, 7, "ts_01")
    assert run.tomograms[0].omezarr_key == "a/ts.zarr/"
    assert run.annotations[0].is_mask
    ((folder, (file,)),) = archives.list_dataset().items()
    assert folder == "10000/247/target_mask"
    assert (file.path, file.size, file.md5) == ("target_mask/mask.mrc", 9, "0" * 32)


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("no xml", "no listing"),
        (LISTING.format(size="many", more=""), "no size of a/ts.zarr/0/0"),
        (LISTING.format(size=5, more=TOKEN), "has no end"),
        (LISTING.format(size=5, more="").replace("a/ts.zarr/0/0", "b"), "holds nothing there"),
        (LISTING.format(size=5, more="").replace("0/0", "../../0"), "outside its folder"),
    ],
)
def test_damaged_listings_are_refused(monkeypatch: pytest.MonkeyPatch, page: str, words: str) -> None:
    monkeypatch.setattr(http, "fetch_text", lambda url: page)
    with pytest.raises(InputError, match=words):
        http.list_bucket("https://bucket.example", "a/ts.zarr/", folder="tomogram")
