"""Pairs of tomogram and labels on disk, found and read for training."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cryoseg.config import Mode0
from cryoseg.config.segment import Polarity
from cryoseg.core.grids.blank import FilledSlices, find_blank
from cryoseg.core.grids.resample import Resampled, Slices, nearest
from cryoseg.core.grids.robust import robust_map
from cryoseg.core.grids.working_grid import model_shape
from cryoseg.errors import ConfigError, InputError, WeightsError
from cryoseg.events import OnEvent, Warn, ignore
from cryoseg.io.images.pixel_size import settle_pixel_size
from cryoseg.io.images.volumes import VOLUME_SUFFIXES, check_finite, read_mask, read_tomogram
from cryoseg.io.pairs import find_labeled
from cryoseg.io.records import hash_file
from cryoseg.methods.membranes.clips import TrainingVolume
from cryoseg.methods.membranes.recipe import MembraneRecipe
from cryoseg.types import Tomogram


class Fold(StrEnum):
    """Which of a tomogram's labeled slices count; the others become unknown."""

    TRAINING = "training"
    VALIDATION = "validation"


VALIDATION_SHARE = 0.1  # of several volumes
FOLDS = 4  # every fourth labeled slice judges, the second one first


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A tomogram and its labels (1 membrane, 0 free of it, -1 unknown).

    `polarity` is what a CSV column or the simulation's JSON says, or None. `fold` keeps only some of
    the labeled slices, so that one tomogram can both teach and judge. `mode0` is how bytes are read.
    """

    name: str
    tomogram: Path
    labels: Path
    polarity: Polarity | None = None
    fold: Fold | None = None
    mode0: Mode0 = Mode0.AUTO


def find_pairs(sources: Sequence[str], *, mode0: Mode0 = Mode0.AUTO) -> list[Pair]:
    """Find the pairs of folders and CSV lists; `io.pairs.find_labeled` says what those look like.

    Raises
    ------
    InputError
        If a source is missing or holds no pair, or a tomogram has no labels.
    """
    pairs: dict[Path, Pair] = {}
    for source in sources:
        for found in find_labeled(Path(source), kind="tomogram", suffixes=VOLUME_SUFFIXES):
            pairs[found.image] = Pair(
                name=found.name,
                tomogram=found.image,
                labels=found.labels,
                polarity=found.polarity,
                mode0=mode0,
            )
    return list(pairs.values())


def split_pairs(
    data: Sequence[str],
    validation_data: Sequence[str],
    *,
    seed: int,
    mode0: Mode0 = Mode0.AUTO,
) -> tuple[list[Pair], list[Pair]]:
    """Training and validation pairs.

    Without validation data a tenth of the volumes is held out, or, of a single volume, every fourth
    labeled slice.
    """
    pairs = find_pairs(data, mode0=mode0)
    if validation_data:
        held_out = find_pairs(validation_data, mode0=mode0)
        known = {pair.tomogram.resolve() for pair in held_out}
        training = [pair for pair in pairs if pair.tomogram.resolve() not in known]
        if not training:
            raise ConfigError(
                "--validation: holds every training volume, so nothing is left to learn from. Give other "
                "volumes, or leave it out: a tenth is held out then."
            )
        return training, held_out
    if len(pairs) == 1:
        return [replace(pairs[0], fold=Fold.TRAINING)], [replace(pairs[0], fold=Fold.VALIDATION)]
    order = np.random.default_rng(seed).permutation(len(pairs))
    count = max(1, round(VALIDATION_SHARE * len(pairs)))
    return [pairs[i] for i in order[count:]], [pairs[i] for i in order[:count]]


def load_volume(
    pair: Pair,
    *,
    polarity: Polarity = Polarity.DARK,
    stage1_logits: Path | None = None,
    on_event: OnEvent = ignore,
) -> TrainingVolume:
    """Read and normalize one pair, on the grid on which the packaged model will see such a tomogram.

    Parameters
    ----------
    pair
        From `find_pairs`.
    polarity
        Of the membranes where the pair does not say.
    stage1_logits
        `.npy` file of (z, y, x) float16 logits on that grid, for training stage 2.
    on_event
        Receives what was doubtful about the files.

    Raises
    ------
    InputError
        If the shapes differ, the labels are not -1, 0, 1, or no voxel is labelled membrane.
    """
    tomogram = read_tomogram(pair.tomogram, mode0=pair.mode0)
    check_finite(tomogram)
    values = read_labels(pair, tomogram, on_event)
    blank = find_blank(tomogram.data)
    invert = (pair.polarity or polarity) is Polarity.BRIGHT
    intensity = robust_map(tomogram.data, invert=invert, blank=blank)
    source: Slices = tomogram.data if blank is None else FilledSlices(tomogram.data, blank, intensity.center)
    recipe = MembraneRecipe()
    size, _ = settle_pixel_size(tomogram, override=None, assumed=recipe.assumed_pixel_size)
    shape = model_shape(tomogram.data.shape, size.angstrom, recipe.pixel_size_range)
    seen: Slices = source if shape == tomogram.data.shape else Resampled(source, shape)
    data = np.empty(shape, np.float16)
    for z in range(len(data)):
        data[z] = intensity(seen[z])
    return TrainingVolume(
        name=pair.name,
        data=data,
        labels=_labels_on_grid(values, shape),
        stage1_logits=None if stage1_logits is None else np.load(stage1_logits),
    )


def _labels_on_grid(labels: NDArray[np.int8], shape: tuple[int, int, int]) -> NDArray[np.int8]:
    """(z, y, x) labels on another grid; on a coarser one, a few painted slices are not passed over."""
    if shape[0] >= len(labels):
        return np.asarray(nearest(labels, shape))
    moved = np.full(shape, -1, np.int8)
    for z in np.flatnonzero((labels >= 0).any(axis=(1, 2))):
        place = int((z + 0.5) * shape[0] / len(labels))
        slice_ = nearest(labels[z], shape[1:])
        moved[place] = np.where(slice_ >= 0, slice_, moved[place])
    return moved


def read_labels(pair: Pair, tomogram: Tomogram, on_event: OnEvent = ignore) -> NDArray[np.int8]:
    """(z, y, x) labels of a pair: 1 membrane, 0 none, -1 unknown; only those of its fold.

    Voxels in blank regions of the tomogram are unknown. `on_event` receives what was doubtful about the
    two files.

    Raises
    ------
    InputError
        If they do not lie on the tomogram's grid, hold other values, or hold no membrane.
    """
    labels = read_mask(pair.labels, mode0=pair.mode0)
    for volume in (tomogram, labels):
        for warning in volume.warnings:
            on_event(Warn(text=f"{volume.source.name}: {warning}"))
    if tomogram.data.shape != labels.data.shape:
        raise InputError(
            f"{pair.labels}: has shape {labels.data.shape} (z, y, x) and its tomogram {tomogram.data.shape}; "
            "labels must lie on the tomogram's grid."
        )
    values = labels.data.astype(np.int8)
    if not np.isin(np.unique(labels.data), (-1, 0, 1)).all():
        raise InputError(f"{pair.labels}: labels must be 1 (membrane), 0 (none) or -1 (unknown).")
    if (blank := find_blank(tomogram.data)) is not None:
        values[blank] = -1
    if pair.fold is not None:
        painted = np.flatnonzero((values >= 0).any(axis=(1, 2)))
        with_membrane = np.flatnonzero((values > 0).any(axis=(1, 2)))
        if len(with_membrane) < 2:
            raise InputError(
                f"{pair.labels}: {len(with_membrane) or 'no'} slice has membrane; paint at least two, so "
                "that one can judge, or name another volume with --validation."
            )
        judging = painted[1::FOLDS]
        shared = np.isin(with_membrane, judging)
        if shared.all() or not shared.any():  # nothing to learn from, or nothing to judge by
            judging = with_membrane[1::FOLDS]
        dropped = judging if pair.fold is Fold.TRAINING else np.setdiff1d(painted, judging)
        values[dropped] = -1
    if not (values > 0).any():
        raise InputError(
            f"{pair.labels}: no voxel is labelled membrane; leave this volume out or check its labels."
        )
    return values


def logits_path(folder: Path, pair: Pair) -> Path:
    """Where the stage-1 logits of a pair are kept; two folders may hold volumes of one name."""
    place = hashlib.sha256(str(pair.tomogram.resolve()).encode()).hexdigest()[:10]
    return folder / f"{pair.name}_{place}.npy"


def logits_folder(run: Path, stage1: Path, polarity: Polarity) -> Path:
    """Where a stage-2 run keeps the logits of one stage 1; another one has another folder.

    Raises
    ------
    WeightsError
        If there are no such weights.
    """
    if not stage1.is_file():
        raise WeightsError(
            f"{stage1}: missing. Give the weights of stage 1, or its run after the first validation."
        )
    return run / "stage1_logits" / f"{hash_file(stage1)[:10]}_{polarity}"


def digest(weights: Mapping[str, Tensor]) -> str:
    """Of weights by content; the files that hold them may have any name."""
    found = hashlib.sha256()
    for name in sorted(weights):
        found.update(weights[name].contiguous().numpy().tobytes())
    return found.hexdigest()[:16]
