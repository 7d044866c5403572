"""Read the membranes of masks, logits and label volumes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoseg.config.common import Mode0
from cryoseg.core.masks.binarize import VoxelKind, threshold_logits, voxel_kind
from cryoseg.errors import InputError
from cryoseg.events import Note, OnEvent, Warn
from cryoseg.io.images.pixel_size import with_pixel_size
from cryoseg.io.images.volumes import read_tomogram, require_voxel_size
from cryoseg.io.inputs import stem
from cryoseg.pipelines.segment.postprocess import recorded_threshold
from cryoseg.types import BoolArray, LabelArray, Tomogram

# A label volume has this share of background at least; gray values have next to none of one value.
_LEAST_BACKGROUND = 0.2

# End of the names of masks and logits.
KIND = re.compile(
    r"(?:_membrane|_etsam_predicted(?:_split_processing)?)?_(?P<kind>post_processed_mask|mask|logits)$", re.I
)


@dataclass(frozen=True, kw_only=True)
class MembraneVolume:
    """A volume that marks membranes.

    Attributes
    ----------
    source
        Volume as it was read, with its voxel size.
    marked
        (z, y, x) mask, or labels of the components.
    threshold
        Threshold of logits; None for other volumes.
    """

    source: Tomogram
    marked: BoolArray | LabelArray
    threshold: float | None = None

    @property
    def voxel_size(self) -> float:
        """Voxel size in angstrom."""
        return float(self.source.geometry.voxel_size[2])


def tomogram_stem(path: Path) -> str:
    """Return the name of the tomogram of a mask or of logits, such as ts_01 of ts_01_membrane_mask.mrc."""
    return KIND.sub("", stem(path))


def marked_of(data: NDArray[Any]) -> BoolArray | LabelArray:
    """Return a (z, y, x) mask, or the labels if there are several, whose components are measured."""
    # Labels are -1 where nothing was annotated.
    is_mask = voxel_kind(data) is VoxelKind.MASK
    marked: BoolArray = np.not_equal(data, 0) if is_mask else np.greater(data, 0)
    return marked if is_mask or len(np.unique(data[marked])) == 1 else data


def read_membranes(
    path: Path,
    *,
    pixel_size: float | None = None,
    logit_threshold: float | None = None,
    mode0: Mode0 = Mode0.AUTO,
    on_event: OnEvent,
) -> MembraneVolume:
    """Read a mask, logits or labels of membranes.

    Parameters
    ----------
    path
        File of the volume.
    pixel_size
        Pixel size in angstrom that overrides the header.
    logit_threshold
        Threshold of logits; None takes the one in the record beside them.
    mode0
        How bytes of MRC files are read.
    on_event
        Callback for warnings of the reader and the threshold that is used.

    Raises
    ------
    InputError
        If the voxel size is unknown, or the values are those of a tomogram.
    """
    volume = read_tomogram(path, mode0=mode0)
    if pixel_size is not None:
        volume = with_pixel_size(volume, pixel_size)
    for warning in volume.warnings:
        on_event(Warn(text=f"{path.name}: {warning}"))
    require_voxel_size(volume)
    kind = voxel_kind(volume.data)
    if kind is VoxelKind.MASK:
        return MembraneVolume(source=volume, marked=marked_of(volume.data))
    if kind is VoxelKind.LOGITS:
        if logit_threshold is None:
            logit_threshold, origin = recorded_threshold(path)
            if not origin.startswith("recorded"):
                raise InputError(
                    f"{path}: holds real numbers, and no record beside it names a threshold. Pass "
                    "--logit-threshold if they are logits; a tomogram must be segmented first."
                )
            on_event(Note(text=f"{path.name}: logits above {logit_threshold:g} are membrane ({origin})."))
        try:
            mask = threshold_logits(volume.data, logit_threshold)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        return MembraneVolume(source=volume, marked=mask, threshold=logit_threshold)
    # Labels are -1 where nothing was annotated.
    empty = sum(int(np.count_nonzero((image == 0) | (image == -1))) for image in volume.data)
    background = empty / volume.data.size
    if background < _LEAST_BACKGROUND:
        raise InputError(
            f"{path}: only {100 * background:.0f} % of the voxels are background, so that these are gray "
            "values and no labels. Segment the tomogram first, and measure its mask."
        )
    return MembraneVolume(source=volume, marked=marked_of(volume.data))
