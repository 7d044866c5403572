"""Pairs of tomogram and labels as training sees them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cryoseg.config.train import ClipConfig
from cryoseg.io.images.volumes import write_logits, write_mask
from cryoseg.methods.membrane_tiny.clips import load_volume, sample_clip
from cryoseg.methods.membranes import Pair
from cryoseg.types import Geometry


def test_blank_regions_are_unknown_and_leave_the_statistics_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    signal = rng.normal(100, 5, (4, 64, 64)).astype(np.float32)
    labels = (rng.random(signal.shape) < 0.2).astype(np.int8)
    padding = ((0, 0), (0, 0), (0, 400))
    geometry = Geometry(voxel_size=(12.0,) * 3)
    volumes = {}
    for name, width in (("bare", ((0, 0),) * 3), ("padded", padding)):
        pair = Pair(name=name, image=tmp_path / f"{name}.mrc", labels=tmp_path / f"{name}_labels.mrc")
        write_logits(pair.image, np.pad(signal, width), geometry, label="")
        write_mask(pair.labels, np.pad(labels, width), geometry, label="")
        volumes[name] = load_volume(pair)
    np.testing.assert_array_equal(volumes["padded"].data[:, :, :64], volumes["bare"].data)
    np.testing.assert_array_equal(volumes["padded"].labels[:, :, :64], volumes["bare"].labels)
    assert not volumes["padded"].data[:, :, 64:].any()
    assert (volumes["padded"].labels[:, :, 64:] == -1).all()
    # Of 12 crops of 64 pixels in 464, ten would lie in the padding by chance.
    config = ClipConfig(size=64, length=2, empty_fraction=1.0, zoom=1.0)
    known = [
        (sample_clip([volumes["padded"]], np.random.default_rng(i), config)[1] >= 0).any() for i in range(12)
    ]
    assert sum(map(bool, known)) >= 6
