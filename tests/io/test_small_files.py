"""Lists of runs, scores, and containers of weights: what they hold, and what is refused."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cryoseg.config import EvaluateConfig, Metric
from cryoseg.core.metrics.masks import evaluate_mask
from cryoseg.errors import InputError, WeightsError
from cryoseg.io.records import read_score, score_to_json, write_record
from cryoseg.io.web.archives import ListedRun, read_testset
from cryoseg.io.web.weight_files import (
    Kind,
    check_structure,
    describe,
    file_digests,
    record_sha256,
    recorded_sha256,
    sniff,
)


def save(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_runs_of_a_list(tmp_path: Path) -> None:
    text = "\ufeffdataset_id,run_id,annotation_ids,split,organism_name,more\n10000, 247 ,1|2,test,Yeast,x\n"
    text += "10001,ts_3,none,,,\n"
    assert read_testset(save(tmp_path / "a.csv", text)) == [
        ListedRun(dataset_id="10000", run_id="247", annotation_ids=(1, 2), split="test", organism="Yeast"),
        ListedRun(dataset_id="10001", run_id="ts_3"),
    ]
    assert read_testset(tmp_path / "a.csv")[0].name == "10000/247"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no run"),
        ("dataset_id,run_id\n", "holds no run"),
        ("dataset_id,name\n1,2\n", "no column run_id"),
        ("dataset_id,run_id\n1,../up\n", "line 2 has run_id '../up'"),
        ("dataset_id,run_id,annotation_ids\n1,2,x\n", "annotation_ids 'x'"),
        ("dataset_id,run_id\n1,2\n1,2\n", "names 1/2 a second time"),
        (b"\xff\xfe\x00", "cannot be read as a CSV file"),
    ],
)
def test_damaged_lists_of_runs_are_refused(tmp_path: Path, text: str | bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_testset(save(tmp_path / "a.csv", text))
    with pytest.raises(InputError, match="cannot be read"):
        read_testset(tmp_path / "missing.csv")


def test_a_score_comes_back_whole(tmp_path: Path) -> None:
    z, y, x = np.indices((6, 20, 20))
    truth = np.abs(np.hypot(y - 10, x - 10) - 6) < 1.5
    logits = np.where(truth, 2.0, -2.0).astype(np.float32) + 0.1 * (z - 3)
    config = EvaluateConfig(metrics=tuple(Metric), logit_threshold=0.0)
    score = evaluate_mask(logits, truth, config, voxel_size=(10.0, 10.0, 10.0))
    write_record(tmp_path / "a.json", {"score": score_to_json(score)})
    found = read_score(tmp_path / "a.json")
    assert score_to_json(found) == score_to_json(score)
    assert found.overlap == score.overlap
    assert score_to_json({"a": (np.float32("inf"), float("nan"), np.int64(3), None)}) == {
        "a": ["inf", "nan", 3, None]
    }


@pytest.mark.parametrize("score", [None, [], {}, {"overlap": 3}, {"overlap": {"true_positives": []}}])
def test_other_scores_are_refused(tmp_path: Path, score: object) -> None:
    path = save(tmp_path / "a.json", json.dumps({"score": score}))
    with pytest.raises(InputError, match="holds no score that this version knows"):
        read_score(path)


def _safetensors(data: int = 16, header: bytes | None = None) -> bytes:
    text = header or json.dumps({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    return struct.pack("<Q", len(text)) + text + bytes(data)


def _torch(content: bytes = bytes(300)) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        # A fixed time, so that the content and the names of tests do not depend on the clock.
        archive.writestr(zipfile.ZipInfo("model/data/0", (2020, 1, 1, 0, 0, 0)), content)
    return stream.getvalue()


def test_containers_are_known_by_their_first_bytes(tmp_path: Path) -> None:
    assert check_structure(save(tmp_path / "a", _safetensors())) is Kind.SAFETENSORS
    assert check_structure(save(tmp_path / "b", _torch())) is Kind.TORCH_ZIP
    assert check_structure(save(tmp_path / "c", b"\x80\x02}q\x00.")) is Kind.TORCH_PICKLE
    assert sniff(b"") is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html>", "an HTML page"),
        (b"<?xml version='1.0'?><Error/>", "an XML or HTML text"),
        (b"version https://git-lfs.github.com/spec/v1", "a git-lfs pointer"),
        (b'{"error": "not found"}', "a JSON text"),
        (b"Not found\n", "a plain text"),
        (b"\x00\x01\x02\x03" * 9, "neither a torch file nor safetensors"),
        (_safetensors(data=15), "truncated or damaged"),
        (_safetensors(header=b'{"a": {"data_offsets": [0]}}'), "header is damaged"),
        (_safetensors(header=b"{]" + bytes(9)), "header is damaged"),
        (struct.pack("<Q", 2**39) + b"{" + bytes(99), "claims 549755813888 bytes"),
        (_torch()[:100], "truncated or damaged"),
        (_torch().replace(bytes(300), b"\1" * 300), "record model/data/0 is damaged"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_holds_no_weights_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(WeightsError, match=words):
        check_structure(save(tmp_path / "a", content))


def test_missing_files_and_folders_are_no_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such file"):
        check_structure(tmp_path / "missing")
    with pytest.raises(WeightsError, match="is a folder"):
        check_structure(tmp_path)
    assert describe(b"") == "an empty file"


def test_a_digest_is_recorded_beside_the_file(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pt", b"weights")
    told: list[tuple[int, int]] = []
    wanted = hashlib.sha256(b"weights").hexdigest()
    assert file_digests(path, ("sha256", "md5"), on_bytes=lambda *seen: told.append(seen))["sha256"] == wanted
    assert told == [(7, 7)]
    assert recorded_sha256(path) is None
    assert record_sha256(path) == wanted
    assert recorded_sha256(path) == wanted
    (tmp_path / "a.pt.sha256").write_text("no digest")
    assert recorded_sha256(path) is None
