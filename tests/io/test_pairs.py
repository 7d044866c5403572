"""Which labels belong to which image."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cryoseg.config.segment import Polarity
from cryoseg.errors import InputError
from cryoseg.io.images.micrographs import MICROGRAPH_SUFFIXES
from cryoseg.io.images.volumes import VOLUME_SUFFIXES
from cryoseg.io.pairs import LabeledImage, base_name, find_labeled

KINDS = {"tomogram": VOLUME_SUFFIXES, "micrograph": MICROGRAPH_SUFFIXES}


def find(source: Path, kind: str) -> list[LabeledImage]:
    return find_labeled(source, kind=kind, suffixes=KINDS[kind])


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize("kind", KINDS)
def test_every_layout(tmp_path: Path, kind: str) -> None:
    side = tmp_path / "side"
    touch(side / f"a_{kind}.mrc", side / "a_labels.mrc", side / f"b_{kind}.mrc", side / "b_mask.mrc")
    (side / "a.json").write_text(json.dumps({"polarity": "bright"}))
    assert [(pair.name, pair.labels.name, pair.polarity) for pair in find(side, kind)] == [
        ("a", "a_labels.mrc", Polarity.BRIGHT),
        ("b", "b_mask.mrc", None),
    ]
    for images in (f"{kind}s", "images"):
        folder = tmp_path / images
        touch(folder / images / "x.mrc", folder / images / "w.mrc")
        touch(folder / "masks" / "w.mrc", folder / "masks" / "x_mask.mrc")
        assert [(pair.name, pair.labels.name) for pair in find(folder, kind)] == [
            ("w", "w.mrc"),
            ("x", "x_mask.mrc"),
        ]
    table = tmp_path / "list.csv"
    table.write_text(f"{kind},mask,polarity\nside/a_{kind}.mrc,side/a_labels.mrc,dark\n")
    (pair,) = find(table, kind)
    assert (pair.image, pair.polarity) == (side / f"a_{kind}.mrc", Polarity.DARK)


def test_what_does_not_belong_together_is_named(tmp_path: Path) -> None:
    touch(tmp_path / "images" / "a.mrc", tmp_path / "images" / "b.mrc", tmp_path / "labels" / "b.mrc")
    with pytest.raises(InputError, match=r"no label for 1 of 2 images \(a.mrc\); its files are b.mrc"):
        find(tmp_path, "tomogram")
    touch(tmp_path / "labels" / "a.mrc", tmp_path / "labels" / "a.rec")
    with pytest.raises(InputError, match="has the same name"):
        find(tmp_path, "tomogram")
    touch(tmp_path / "alone" / "a_tomogram.mrc")
    with pytest.raises(InputError, match=r"no a_labels.mrc beside it"):
        find(tmp_path / "alone", "tomogram")
    touch(tmp_path / "bare" / "images" / "a.mrc")
    with pytest.raises(InputError, match="has images but no labels"):
        find(tmp_path / "bare", "micrograph")
    with pytest.raises(InputError, match="no pairs found"):
        find(tmp_path / "labels", "micrograph")


@pytest.mark.parametrize(
    ("name", "base"),
    [("ts_1_membrane_mask.mrc", "ts_1"), ("ts_1_tomogram_labels.mrc.gz", "ts_1"), ("mask.mrc", "mask")],
)
def test_names_without_what_programs_put_behind(name: str, base: str) -> None:
    assert base_name(Path(name)) == base
