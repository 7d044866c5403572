"""Annotation folders, compared with the layout that the portal's backend documents."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cryoseg.errors import ConfigError
from cryoseg.io.images.volumes import read_mask
from cryoseg.io.picks.frame import PickFrame
from cryoseg.io.picks.portal_annotation import MEMBRANE, PortalAnnotation
from cryoseg.types import Geometry, Picks, Tomogram

AUTHORS = [{"name": "A. Author", "ORCID": "0000-0000-0000-0000", "primary_author_status": True}]
RIBOSOME = {"name": "cytosolic ribosome", "id": "GO:0022626"}


def given(folder: Path, **entries: object) -> Path:
    path = folder / "given.json"
    path.write_text(json.dumps({"authors": AUTHORS, **entries}))
    return path


def test_a_mask_is_written_as_mrc_and_zarr_with_its_metadata(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).random((4, 5, 6)) > 0.5
    tomogram = Tomogram(data=mask, geometry=Geometry(voxel_size=(13.48,) * 3))
    annotation = PortalAnnotation.read(given(tmp_path, deposition_id=10301), target=MEMBRANE)
    annotation.write_mask(tmp_path / "out", "TS_1", tomogram, mask, method="cryoseg segment")
    inside = "TS_1/Reconstructions/VoxelSpacing13.480/Annotations/100"
    folder = tmp_path / "out" / inside
    assert sorted(path.name for path in folder.iterdir()) == [
        "membrane-1.0.json",
        "membrane-1.0_segmentationmask.mrc",
        "membrane-1.0_segmentationmask.zarr",
    ]
    for kind in ("mrc", "zarr"):
        found = read_mask(folder / f"membrane-1.0_segmentationmask.{kind}")
        np.testing.assert_array_equal(found.data, mask)
        assert found.geometry.voxel_size == pytest.approx((13.48,) * 3)
    metadata = json.loads((folder / "membrane-1.0.json").read_text())
    dates = metadata.pop("dates")
    assert set(dates) == {"deposition_date", "release_date", "last_modified_date"}
    assert metadata.pop("annotation_software").startswith("cryoseg ")
    assert metadata == {
        "annotation_object": {"name": "membrane", "id": "GO:0016020"},
        "annotation_method": "cryoseg segment",
        "authors": AUTHORS,
        "deposition_id": 10301,
        "files": [
            {
                "format": kind,
                "path": f"{inside}/membrane-1.0_segmentationmask.{kind}",
                "shape": "SegmentationMask",
                "is_visualization_default": False,
            }
            for kind in ("zarr", "mrc")
        ],
        "ground_truth_status": False,
        "is_curator_recommended": False,
        "method_type": "automated",
        "object_count": 0,
        "version": "1.0",
    }


@pytest.mark.parametrize(
    ("changes", "shape", "count"),
    [
        ({}, "Point", 3),
        ({"rotations": np.tile(np.eye(3), (3, 1, 1))}, "OrientedPoint", 3),
        ({"tracks": np.array([1, 1, 2])}, "InstanceSegmentation", 2),
    ],
)
def test_picks_are_points_by_what_is_known(
    tmp_path: Path, changes: dict[str, np.ndarray], shape: str, count: int
) -> None:
    centers = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.5]])
    method = "manual annotation"
    path = given(tmp_path, annotation_object=RIBOSOME, version="2.1", annotation_method=method)
    annotation = PortalAnnotation.read(path)
    frame = PickFrame(voxel_size=10.0)
    annotation.write_picks(tmp_path / "out", "TS_1", Picks(centers=centers, **changes), frame, method="x")
    folder = tmp_path / "out" / "TS_1/Reconstructions/VoxelSpacing10.000/Annotations/100"
    metadata = json.loads((folder / "cytosolic_ribosome-2.1.json").read_text())
    assert metadata["annotation_method"] == method
    assert metadata["object_count"] == count
    (entry,) = metadata["files"]
    assert (entry["format"], entry["shape"]) == ("ndjson", shape)
    points = [json.loads(line) for line in (tmp_path / "out" / entry["path"]).read_text().splitlines()]
    assert points[2]["location"] == {"x": 9.5, "y": 8.0, "z": 7.0}
    assert entry["path"].endswith(f"cytosolic_ribosome-2.1_{shape.lower()}.ndjson")


def test_missing_metadata_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read as JSON"):
        PortalAnnotation.read(tmp_path / "none.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(ConfigError, match="names no authors"):
        PortalAnnotation.read(tmp_path / "list.json")
    with pytest.raises(ConfigError, match="names no authors"):
        PortalAnnotation.read(given(tmp_path, authors=[{"ORCID": "1"}]), target=MEMBRANE)
    with pytest.raises(ConfigError, match="names no object"):
        PortalAnnotation.read(given(tmp_path))
    with pytest.raises(ConfigError, match="names no object"):
        PortalAnnotation.read(given(tmp_path, annotation_object={"name": "ribosome"}))
