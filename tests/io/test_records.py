from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from cryoseg.config import PostprocessStep, Preset, SegmentConfig
from cryoseg.errors import InputError, OutputError
from cryoseg.io.records import hash_file, read_record, write_record


def test_everything_a_pipeline_knows_has_a_form(tmp_path):
    path = tmp_path / "p.json"
    config = SegmentConfig(postprocess=(PostprocessStep.THIN_NOISE,))
    record = {
        "version": "0.1",
        "config": config,
        "input": Path("a/b.mrc"),
        "pixel_size": np.float32(13.5),
        "shape": np.array([1, 2, 3]),
        "nan": float("nan"),
        "infinite": np.float64("inf"),
        "set": {"b", "a"},
        "done": np.bool_(True),
        "name": "Zürich",
        Preset.V2: None,
    }
    write_record(path, record)
    loaded = read_record(path)
    assert loaded["config"]["postprocess"] == ["thin-noise"]
    assert loaded["config"]["preset"] == "v1"
    assert loaded["input"] == "a/b.mrc"
    assert loaded["pixel_size"] == 13.5
    assert loaded["shape"] == [1, 2, 3]
    assert loaded["nan"] is None
    assert loaded["infinite"] is None
    assert loaded["set"] == ["a", "b"]
    assert loaded["done"] is True
    assert loaded["v2"] is None
    text = path.read_text(encoding="utf-8")
    assert "Zürich" in text
    assert list(loaded) == sorted(loaded)
    assert json.dumps(loaded, indent=2, sort_keys=True, ensure_ascii=False) + "\n" == text


def test_what_has_no_form_is_a_mistake_and_leaves_nothing(tmp_path):
    with pytest.raises(TypeError, match="object"):
        write_record(tmp_path / "p.json", {"a": object()})
    assert list(tmp_path.iterdir()) == []


def test_existing_record_is_kept_without_overwrite(tmp_path):
    write_record(tmp_path / "p.json", {"a": 1})
    with pytest.raises(OutputError, match="--overwrite"):
        write_record(tmp_path / "p.json", {"a": 2})
    write_record(tmp_path / "p.json", {"a": 3}, overwrite=True)
    assert read_record(tmp_path / "p.json") == {"a": 3}


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff\xfe", b"[" * 100000])
def test_damaged_record_is_refused(tmp_path, content):
    (tmp_path / "p.json").write_bytes(content)
    with pytest.raises(InputError, match="no JSON"):
        read_record(tmp_path / "p.json")


def test_missing_files_are_refused(tmp_path):
    for function in (read_record, hash_file):
        with pytest.raises(InputError, match="cannot be read"):
            function(tmp_path / "none")


def test_hash_is_sha256_of_the_bytes(tmp_path):
    content = bytes(range(256)) * 5000
    (tmp_path / "f").write_bytes(content)
    assert hash_file(tmp_path / "f") == hashlib.sha256(content).hexdigest()
