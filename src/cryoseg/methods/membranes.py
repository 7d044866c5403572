"""Training data that ETSAM and membrane-tiny share: pairs of tomogram and labels, and stage-1 logits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoseg.config import Mode0
from cryoseg.config.segment import Polarity
from cryoseg.core.grids.blank import find_blank
from cryoseg.errors import ConfigError, InputError, WeightsError
from cryoseg.events import OnEvent, Warn, ignore
from cryoseg.io.images.volumes import VOLUME_SUFFIXES, read_mask
from cryoseg.io.outputs import atomic_output, make_folder
from cryoseg.io.pairs import LabeledImage, find_labeled
from cryoseg.io.records import hash_file
from cryoseg.methods.training.run import Runtime
from cryoseg.types import Tomogram


class Fold(StrEnum):
    """The part of a tomogram's labeled slices that is used; the labels of the others become unknown."""

    TRAINING = "training"
    VALIDATION = "validation"


VALIDATION_SHARE = 0.1  # of several volumes
FOLDS = 4  # every fourth labeled slice is held out, from the second on


@dataclass(frozen=True, kw_only=True)
class Pair(LabeledImage):
    """A tomogram and its labels: 1 membrane, 0 background, -1 unknown.

    Attributes
    ----------
    fold
        Part of the labeled slices to use, so that one tomogram can serve for training and validation.
    mode0
        Type of the bytes of MRC files, signed or unsigned.
    """

    fold: Fold | None = None
    mode0: Mode0 = Mode0.AUTO


def find_pairs(
    sources: Sequence[str], *, labels: Path | None = None, mode0: Mode0 = Mode0.AUTO
) -> list[Pair]:
    """Find the pairs in folders and lists, which `io.pairs.find_labeled` describes."""
    pairs: dict[Path, Pair] = {}
    for source in sources:
        for found in find_labeled(Path(source), kind="tomogram", suffixes=VOLUME_SUFFIXES, labels=labels):
            pairs[found.image] = Pair(**vars(found), mode0=mode0)
    return list(pairs.values())


def split_pairs(
    data: Sequence[str],
    validation_data: Sequence[str],
    *,
    seed: int,
    labels: Path | None = None,
    mode0: Mode0 = Mode0.AUTO,
) -> tuple[list[Pair], list[Pair]]:
    """Return training and validation pairs.

    Without validation data a tenth of the volumes is held out; of a single volume, every fourth labeled
    slice. `labels` is the folder of the labels of tomograms in STAR files.
    """
    pairs = find_pairs(data, labels=labels, mode0=mode0)
    if validation_data:
        held_out = find_pairs(validation_data, labels=labels, mode0=mode0)
        known = {pair.image.resolve() for pair in held_out}
        training = [pair for pair in pairs if pair.image.resolve() not in known]
        if not training:
            raise ConfigError(
                "--validation: contains every training volume, so none is left for training. Give other "
                "volumes, or leave the option out to hold out a tenth."
            )
        return training, held_out
    if len(pairs) == 1:
        return [replace(pairs[0], fold=Fold.TRAINING)], [replace(pairs[0], fold=Fold.VALIDATION)]
    order = np.random.default_rng(seed).permutation(len(pairs))
    count = max(1, round(VALIDATION_SHARE * len(pairs)))
    return [pairs[i] for i in order[count:]], [pairs[i] for i in order[:count]]


def read_labels(pair: Pair, tomogram: Tomogram, on_event: OnEvent = ignore) -> NDArray[np.int8]:
    """Read the (z, y, x) labels of a pair's fold: 1 membrane, 0 background, -1 unknown.

    Voxels in blank regions of the tomogram are unknown. `on_event` receives warnings about the two files. An
    `InputError` is raised if the labels have another shape than the tomogram, other values, or no membrane.
    """
    labels = read_mask(pair.labels, mode0=pair.mode0)
    for volume in (tomogram, labels):
        for warning in volume.warnings:
            on_event(Warn(text=f"{volume.source.name}: {warning}"))
    if tomogram.data.shape != labels.data.shape:
        raise InputError(
            f"{pair.labels}: has shape {labels.data.shape} (z, y, x) and its tomogram {tomogram.data.shape}; "
            "labels must have the shape of the tomogram."
        )
    values = labels.data.astype(np.int8)
    if not np.isin(np.unique(labels.data), (-1, 0, 1)).all():
        raise InputError(f"{pair.labels}: labels must be 1 (membrane), 0 (none) or -1 (unknown).")
    if (blank := find_blank(tomogram.data)) is not None:
        values[blank] = -1
    if pair.fold is not None:
        labeled = np.flatnonzero((values >= 0).any(axis=(1, 2)))
        with_membrane = np.flatnonzero((values > 0).any(axis=(1, 2)))
        if len(with_membrane) < 2:
            raise InputError(
                f"{pair.labels}: {len(with_membrane) or 'no'} slice has membrane; label at least two, so "
                "that one can be held out, or give another volume with --validation."
            )
        held_out = labeled[1::FOLDS]
        shared = np.isin(with_membrane, held_out)
        if shared.all() or not shared.any():  # no membrane for training, or none for validation
            held_out = with_membrane[1::FOLDS]
        dropped = held_out if pair.fold is Fold.TRAINING else np.setdiff1d(labeled, held_out)
        values[dropped] = -1
    if not (values > 0).any():
        raise InputError(
            f"{pair.labels}: no voxel is labelled membrane; leave this volume out or check its labels."
        )
    return values


def logits_folder(run: Path, stage1: Path, polarity: Polarity) -> Path:
    """Return the folder in which a stage-2 run keeps the logits of these stage-1 weights."""
    if not stage1.is_file():
        raise WeightsError(
            f"{stage1}: missing. Give the weights of stage 1, or its run after the first validation."
        )
    return run / "stage1_logits" / f"{hash_file(stage1)[:10]}_{polarity}"


@dataclass(frozen=True, kw_only=True)
class TrainingPairs:
    """Pairs of tomogram and labels of one training.

    Attributes
    ----------
    training, held_out
        Training pairs, and pairs that choose the best weights and the threshold.
    polarity
        Polarity of the membranes where a pair does not say.
    logits
        Folder of stage-1 logits, for stage 2.
    """

    training: Sequence[Pair]
    held_out: Sequence[Pair]
    polarity: Polarity
    logits: Path | None = None

    def record(self) -> dict[str, Any]:
        """Return the names of the pairs and the polarity as plain JSON."""
        return {
            "training": [pair.name for pair in self.training],
            "validation": [pair.name for pair in self.held_out],
            "polarity": str(self.polarity),
        }

    def stage1_logits(self, pair: Pair) -> Path:
        """Return the file of the stage-1 logits of a pair, named by a hash of the tomogram's path."""
        assert self.logits is not None
        place = hashlib.sha256(str(pair.image.resolve()).encode()).hexdigest()[:10]
        return self.logits / f"{pair.name}_{place}.npy"


def write_stage1_logits(
    data: TrainingPairs, runtime: Runtime, build: Callable[[], Callable[[Pair], NDArray[np.float32]]]
) -> None:
    """Write the stage-1 logits of every pair as float16 `.npy` files; existing files are kept.

    Several processes share the volumes. `build` returns the function from a pair to its (z, y, x) logits;
    it is called only if logits are missing.
    """
    assert data.logits is not None
    make_folder(data.logits)
    files = {data.stage1_logits(pair): pair for pair in (*data.training, *data.held_out)}
    missing = [(file, pair) for file, pair in files.items() if not file.exists()]
    mine = missing[runtime.processes.rank :: runtime.processes.count]
    if mine:
        logits_of = build()
        for file, pair in runtime.progress(mine, "stage-1 logits", "volumes"):
            logits = logits_of(pair).astype(np.float16)
            with atomic_output(file, overwrite=True) as temporary, temporary.open("wb") as stream:
                np.save(stream, logits)
    runtime.processes.wait()
