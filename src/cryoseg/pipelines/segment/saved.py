"""Read saved masks, logits and label volumes, and the thresholds and steps in their records."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoseg.config.common import Mode0
from cryoseg.config.segment import PRESET_LOGIT_THRESHOLD, PRESET_POSTPROCESS, PostprocessStep, Preset
from cryoseg.core.masks.binarize import VoxelKind, threshold_logits, voxel_kind
from cryoseg.errors import InputError, naming
from cryoseg.events import Note, OnEvent, warn_of
from cryoseg.io.images.pixel_size import with_pixel_size
from cryoseg.io.images.volumes import read_tomogram, require_voxel_size
from cryoseg.io.inputs import stem
from cryoseg.io.records import read_record
from cryoseg.types import BoolArray, LabelArray, Tomogram

# A label volume has this share of background at least; gray values have next to none of one value.
_LEAST_BACKGROUND = 0.2

_OUTPUT = re.compile(r"_(?:mask|logits)\.\w.*$", re.I)
# End of the names of masks and logits that `cryoseg segment` and the script of ETSAM give.
KIND = re.compile(
    r"(?:_(?P<what>membrane|etsam_predicted(?:_split_processing)?))?"
    r"_(?P<kind>post_processed_mask|mask|logits)$",
    re.I,
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
        Rule by which the bytes of MRC files are read.
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
    warn_of(path.name, volume.warnings, on_event)
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
        with naming(path):
            mask = threshold_logits(volume.data, logit_threshold)
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


def recorded_threshold(path: Path) -> tuple[float, str]:
    """Return the threshold in the record of logits, and its origin in words.

    Without a recorded threshold, the default of ETSAM is returned.
    """
    fallback = PRESET_LOGIT_THRESHOLD[Preset.V1]
    beside = _record_of(path)
    if beside is None:
        return fallback, "default of ETSAM, since there is no record; --logit-threshold changes it"
    found = _find_number(read_record(beside), "logit_threshold")
    if found is None:
        return fallback, f"default of ETSAM, since {beside.name} records none; --logit-threshold changes it"
    return found, f"recorded in {beside.name}"


def recorded_steps(path: Path) -> tuple[tuple[PostprocessStep, ...], str]:
    """Return the post-processing steps in the record of logits or of a mask, and their origin in words.

    If its run applied no steps, those of the recorded preset are returned; without a record, `thin-noise`.
    """
    beside = _record_of(path)
    settings = None if beside is None else read_record(beside).get("settings")
    if beside is not None and isinstance(settings, dict):
        applied = settings.get("postprocess") or ()
        if steps := tuple(one for one in PostprocessStep if one in applied):
            return steps, f"recorded in {beside.name}"
        for preset in Preset:
            if preset == settings.get("preset"):
                return PRESET_POSTPROCESS[preset], f"of preset {preset}, which {beside.name} records"
    return PRESET_POSTPROCESS[Preset.V1], "default; --step changes them"


def _record_of(path: Path) -> Path | None:
    """Return the record that `cryoseg segment` wrote beside logits or a mask; None if there is none."""
    name, found = _OUTPUT.subn(".json", path.name)
    beside = path.with_name(name)
    return beside if found and beside.is_file() else None


def _find_number(record: dict[str, Any], key: str) -> float | None:
    """Return the first number under a key of the record or of one of its sections."""
    for section in (record, *(value for value in record.values() if isinstance(value, dict))):
        value = section.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    return None
