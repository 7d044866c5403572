"""Convert coordinates from one format to another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from cryoseg.config.convert import ConvertConfig, Downsampling
from cryoseg.config.pick import FLAT_FORMATS, PickFormat
from cryoseg.core.grids.resample import rescale_points
from cryoseg.core.picking.label_checks import points_outside
from cryoseg.errors import ConfigError, InputError
from cryoseg.events import Note, OnEvent, Warn, ignore
from cryoseg.io.picks.frame import PickFrame
from cryoseg.io.picks.picks import PICKS_TAG, SUFFIXES, read_picks, write_picks
from cryoseg.io.picks.sets import PickSets, collect
from cryoseg.io.picks.text import is_topaz_table
from cryoseg.types import Picks

# Formats that do not hold scores, filament numbers or fractions of a voxel.
WITHOUT_SCORES = (PickFormat.BOX, PickFormat.CRYOPPP, PickFormat.MOD)
WITHOUT_TRACKS = (PickFormat.COORDS, *FLAT_FORMATS[:-1])
WHOLE_NUMBERS = (PickFormat.BOX, PickFormat.COORDS)
SHOWN = 5  # columns in a message


def flavor_for(path: Path) -> PickFormat:
    """Return the format of a file name; STAR files hold voxels of the tomogram.

    Raises
    ------
    ConfigError
        If no format with this suffix can be written.
    """
    for flavor, suffix in SUFFIXES.items():
        if path.suffix.lower() == suffix:
            return flavor
    raise ConfigError(
        f"{path}: cannot write this format. Known suffixes are {', '.join(sorted(set(SUFFIXES.values())))}."
    )


def convert_picks(
    source: Path,
    target: Path,
    config: ConvertConfig = ConvertConfig(),
    *,
    frame: PickFrame,
    overwrite: bool = False,
    on_event: OnEvent = ignore,
) -> int:
    """Read, transform and write coordinates.

    Parameters
    ----------
    source, target
        Input and output file; the suffixes give the formats.
    config
        Scale, mirrored axes and other changes. Voxel k of a mirrored axis becomes n - 1 - k of the scaled
        volume, whose shape is `frame.shape`. Without a name, the image is named after `source` without
        `PICKS_TAG`.
    frame
        Frame of the tomogram, for formats that need it.
    overwrite
        Whether an existing `target` is replaced.
    on_event
        Callback for notes, and for warnings of doubtful points and lost columns.

    Returns
    -------
    int
        Number of written points.

    Raises
    ------
    InputError
        If the shape for a flip or the scores for a threshold are missing.
    """
    # The shape is that of the output, so it cannot decide the order of columns in a scaled input.
    reading = frame if config.scale == 1.0 else replace(frame, shape=None)
    sets = read_picks(source, reading, unbinned=config.from_relion4)
    downsampling = config.downsampling or (
        Downsampling.FOURIER if is_topaz_table(source) else Downsampling.AVERAGE
    )
    if config.scale != 1.0:
        place = "s i" if downsampling is Downsampling.FOURIER else "s i + (s - 1) / 2"
        on_event(Note(text=f"{source.name}: pixel i of the smaller image lies at {place} ({downsampling})."))
    moved: list[tuple[str, Picks]] = []
    own = source.stem.removesuffix(PICKS_TAG)
    for key, found in sets.items():
        picks = found if config.score_threshold is None else _above(found, config.score_threshold, source)
        centers = picks.centers
        if config.scale != 1.0:
            is_fourier = downsampling is Downsampling.FOURIER
            centers = centers * config.scale if is_fourier else rescale_points(centers, config.scale)
        if config.mirrored:
            if frame.shape is None:
                raise InputError("--flip needs the image's size: --size (x, y, z; or x, y), or --image.")
            centers = centers.copy()
            for axis in config.mirrored:
                index = "zyx".index(axis) - 3
                if -index > min(centers.shape[1], len(frame.shape)):
                    raise InputError(f"--flip {axis}: {source} and the image have no such axis. Flip x or y.")
                centers[:, index] = frame.shape[index] - 1 - centers[:, index]
        image = replace(
            picks,
            centers=np.asarray(centers),
            shape=frame.shape,
            pixel_size=frame.voxel_size,
            diameter_px=config.diameter_px or picks.diameter_px * config.scale,
        )
        moved.append((key or config.name or own, image))
    written = collect(moved)
    flavor = config.flavor or flavor_for(target)
    _warn_of_losses(source, written, flavor, on_event)
    write_picks(target, written, frame, flavor=flavor, overwrite=overwrite)
    return sum(len(picks) for picks in written.values())


def _warn_of_losses(source: Path, sets: PickSets, flavor: PickFormat, on_event: OnEvent) -> None:
    """Warn of doubts of the reader, points outside the image, and columns that the output format lacks."""
    picks = sets.values()
    texts = [text for one in picks for text in one.warnings]
    for name, one in sets.items():
        axes = one.centers.shape[1]
        outside = (
            points_outside(one.centers, one.shape[-axes:]) if one.shape and len(one.shape) >= axes else None
        )
        if outside:
            texts.append(f"{name}: {outside}. Check the voxel size of the coordinates.")
    lost = list(dict.fromkeys(column for one in picks for column in one.left_out))
    lost += ["scores"] if flavor in WITHOUT_SCORES and any(one.scores is not None for one in picks) else []
    lost += ["filaments"] if flavor in WITHOUT_TRACKS and any(one.tracks is not None for one in picks) else []
    if flavor in WHOLE_NUMBERS and any((one.centers != np.round(one.centers)).any() for one in picks):
        lost.append("fractions of a voxel")
    if lost:
        shown = ", ".join(lost[:SHOWN]) + (f" and {len(lost) - SHOWN} others" if len(lost) > SHOWN else "")
        texts.append(f"{source.name}: not carried over to {flavor}: {shown}.")
    for text in dict.fromkeys(texts):
        on_event(Warn(text=text))


def _above(picks: Picks, threshold: float, source: Path) -> Picks:
    if picks.scores is None:
        raise InputError(f"{source}: holds no scores, which --score-threshold needs. Leave the option out.")
    chosen = picks.scores > threshold
    return replace(
        picks,
        centers=picks.centers[chosen],
        scores=picks.scores[chosen],
        tracks=None if picks.tracks is None else picks.tracks[chosen],
    )
