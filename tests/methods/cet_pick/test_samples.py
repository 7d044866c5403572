"""Labels of CET-pick: what is dropped and why, and how a tomogram reaches the working grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cryoseg.config.cet_pick import CetPickConfig, Specimen
from cryoseg.errors import InputError
from cryoseg.methods.cet_pick.detector import settings_for
from cryoseg.methods.cet_pick.samples import LabeledTomogram, checked, known_voxel_size, prepare
from cryoseg.types import Geometry, Tomogram

SHAPE = (16, 48, 48)
CONFIG = CetPickConfig.preset(Specimen.GLOBULAR, 100.0)


def tomogram(voxel_size: float = 10.0) -> Tomogram:
    data = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    size = (voxel_size, voxel_size, voxel_size)
    return Tomogram(data=data, geometry=Geometry(voxel_size=size), source=Path("ts.mrc"))


def events(item: LabeledTomogram) -> tuple[list[LabeledTomogram], str]:
    seen = []
    items = checked([item], CONFIG, lambda event: seen.append(event.text))  # type: ignore[union-attr]
    return items, " ".join(seen)


def test_repeated_labels_are_dropped_and_few_are_warned_of() -> None:
    # The second label lies 5 A from the first, less than a tenth of the diameter of 100 A.
    labels = np.array([[8.0, 20, 20], [8, 20, 20.5], [8, 40, 40]])
    (item,), text = events(LabeledTomogram(tomogram=tomogram(), labels=labels))
    np.testing.assert_array_equal(item.labels, labels[[0, 2]])
    assert "1 labels repeat others" in text
    assert "Only 2 labels" in text


def test_labels_outside_are_dropped_with_a_warning() -> None:
    labels = np.array([[8.0, 4 * i, 4 * i] for i in range(1, 11)] + [[8.0, 20, 49]])
    (item,), text = events(LabeledTomogram(tomogram=tomogram(), labels=labels, negatives=labels[-1:] * 0))
    assert len(item.labels) == 10
    assert "1 of 11 labels" in text


def test_tomograms_without_labels_are_an_error() -> None:
    with pytest.raises(InputError, match="no labels"):
        checked([LabeledTomogram(tomogram=tomogram(), labels=np.empty((0, 3)))], CONFIG, print)


def test_an_unknown_voxel_size_is_an_error() -> None:
    with pytest.raises(InputError, match="gives no voxel size"):
        known_voxel_size(LabeledTomogram(tomogram=tomogram(0.0), labels=np.empty((0, 3))))


def test_negatives_and_mask_reach_the_working_grid() -> None:
    mask = np.zeros(SHAPE, bool)
    mask[:, :, :24] = True
    item = LabeledTomogram(
        tomogram=tomogram(),
        labels=np.array([[8.0, 12, 12], [8, 30, 12]]),
        negatives=np.array([[8.0, 30, 36]]),
        mask=mask,
    )
    prepared = prepare(item, CONFIG, settings_for(CONFIG, (10.0, 10.0, 10.0)), np.array([False, True]))
    volume = prepared.volume
    assert (len(prepared.train_labels), len(prepared.held_labels)) == (1, 1)
    assert volume.mask is not None
    assert volume.empty is not None
    # Particles can be in the half of smaller x alone, and the ball around the negative lies in the other.
    half = volume.mask.shape[2] // 2
    assert volume.mask[:, :, : half - 1].all()
    assert not volume.mask[:, :, half + 1 :].any()
    assert volume.empty.any()
    assert not volume.empty[:, :, : half - 1].any()
