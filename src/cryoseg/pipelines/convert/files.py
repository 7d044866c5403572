"""Convert coordinates from one format to another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from cryoseg.config.convert import ConvertConfig, Downsampling
from cryoseg.config.pick import PickFormat
from cryoseg.core.grids.axes import points_outside
from cryoseg.core.grids.resample import rescale_points
from cryoseg.errors import ConfigError, InputError
from cryoseg.events import Note, OnEvent, Warn, ignore
from cryoseg.io.picks.frame import PickFrame
from cryoseg.io.picks.motive_lists import tomogram_numbers
from cryoseg.io.picks.picks import PICKS_TAG, format_of, held_columns, read_picks, write_picks
from cryoseg.io.picks.relion_poses import PIXEL_SHIFTS, PRIORS, SHIFTS
from cryoseg.io.picks.sets import PickSets, collect, shared_fields
from cryoseg.io.picks.text import is_topaz_table
from cryoseg.pipelines.convert.near import near_membranes
from cryoseg.types import PER_PICK, Picks

# Fields of `Picks`, as messages name them.
NAMED = {
    "fractions": "fractions of a voxel",
    "tracks": "filaments",
    "rotations": "orientations",
    "half_sets": "half sets",
}
SHOWN = 5  # columns in a message


def flavor_for(path: Path) -> PickFormat:
    """Return the format of a file name; STAR files hold voxels of the tomogram.

    Raises
    ------
    ConfigError
        If no format with this suffix can be written.
    """
    for flavor in PickFormat:
        if path.suffix.lower() == flavor.suffix:
            return flavor
    known = sorted({flavor.suffix for flavor in PickFormat})
    raise ConfigError(f"{path}: cannot write this format. Known suffixes are {', '.join(known)}.")


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
    flavor = config.flavor or flavor_for(target)
    keep = config.keep_shifts and "shifts" in flavor.traits.holds
    # Shape and voxel size are those of the output.
    reading = replace(
        frame,
        shape=frame.shape if config.scale == 1.0 else None,
        voxel_size=frame.voxel_size * config.scale,
        unbinned=config.from_relion4,
        keep_shifts=keep,
    )
    sets = read_picks(source, reading)
    if keep and any(picks.shifts is not None for picks in sets.values()):
        on_event(Note(text=f"{source.name}: shifts are kept beside the coordinates."))
    downsampling = config.downsampling or (
        Downsampling.FOURIER if is_topaz_table(source) else Downsampling.AVERAGE
    )
    if config.scale != 1.0:
        place = "s i" if downsampling is Downsampling.FOURIER else "s i + (s - 1) / 2"
        on_event(Note(text=f"{source.name}: pixel i of the smaller image lies at {place} ({downsampling})."))
    moved: list[tuple[str, Picks]] = []
    own = source.stem.removesuffix(PICKS_TAG)
    # The number of the only tomogram of a motive list says less than the name that is given.
    is_number = len(sets) == 1 and format_of(source).traits.is_numbered and next(iter(sets)).isdecimal()
    for key, found in sets.items():
        picks = found if config.score_threshold is None else _above(found, config.score_threshold, source)
        shape = frame.shape or (picks.shape if config.scale == 1.0 else None)
        if config.scale != 1.0:
            is_fourier = downsampling is Downsampling.FOURIER
            places = picks.centers
            places = places * config.scale if is_fourier else rescale_points(places, config.scale)
            shifts = None if picks.shifts is None else picks.shifts * config.scale
            picks = replace(picks, centers=np.asarray(places), shifts=shifts)
        if config.mirrored:
            picks = _mirrored(picks, config.mirrored, shape, source)
        image = replace(
            picks,
            shape=shape,
            pixel_size=frame.voxel_size or picks.pixel_size / config.scale,
            diameter_px=config.diameter_px or picks.diameter_px * config.scale,
        )
        moved.append(((config.name if is_number else None) or key or config.name or own, image))
    written, partial = collect(moved), list[str]()
    if config.near is not None:
        written = near_membranes(written, config.near, config.keep, on_event=on_event)
    if flavor.traits.several and flavor is not PickFormat.CSV:
        written, partial = shared_fields(written)
    _warn_of_losses(source, written, flavor, on_event)
    if partial:
        said = f"{source.name}: only some images have the following, which is lost: {_shown(partial)}."
        on_event(Warn(text=said))
    write_picks(target, written, frame, flavor=flavor, overwrite=overwrite)
    if flavor.traits.is_numbered:
        numbers = tomogram_numbers(target, list(written))
        shown = [f"{name} is {number}" for name, number in list(numbers.items())[:SHOWN]]
        more = f" and so on to {len(numbers)}" if len(numbers) > SHOWN else ""
        if flavor.traits.beside:
            more += f" (table map: {target.with_suffix(flavor.traits.beside).name})"
        on_event(Note(text=f"{target.name} numbers the tomograms: {', '.join(shown)}{more}."))
    return sum(len(picks) for picks in written.values())


def _mirrored(picks: Picks, axes: str, shape: tuple[int, ...] | None, source: Path) -> Picks:
    """Mirror axes; orientations after an odd number of mirrors are those of the mirrored reference."""
    if shape is None:
        raise InputError("--flip needs the image's size: --size (x, y, z; or x, y), or --image.")
    centers, signs = picks.centers.copy(), np.ones(3)
    for axis in axes:
        index = "zyx".index(axis) - 3
        if -index > min(centers.shape[1], len(shape)):
            raise InputError(f"--flip {axis}: {source} and the image have no such axis. Flip x or y.")
        centers[:, index] = shape[index] - 1 - centers[:, index]
        signs["xyz".index(axis)] = -1
    warnings, rotations = picks.warnings, picks.rotations
    if rotations is not None:
        # Two mirrors are a rotation. One is none: the image shows the mirrored particle.
        is_odd = signs.prod() < 0
        rotations = signs[:, None] * rotations * (signs if is_odd else 1)
        if is_odd:
            said = f"{source.name}: orientations are those of a reference that is mirrored in {axes} too."
            warnings = (*warnings, said)
    lost = [name for name in picks.columns if name in (*SHIFTS, *PIXEL_SHIFTS, *PRIORS)]
    if lost:
        warnings = (*warnings, f"{source.name}: not carried over to a mirrored image: {', '.join(lost)}.")
    dimensions = centers.shape[1]
    return replace(
        picks,
        centers=centers,
        rotations=rotations,
        shifts=None if picks.shifts is None else picks.shifts * signs[::-1][-dimensions:],
        columns={name: texts for name, texts in picks.columns.items() if name not in lost},
        warnings=warnings,
    )


def _warn_of_losses(source: Path, sets: PickSets, flavor: PickFormat, on_event: OnEvent) -> None:
    """Warn of doubts of the reader, points outside the image, and what the output format cannot hold."""
    picks = sets.values()
    texts = [text for one in picks for text in one.warnings]
    for name, one in sets.items():
        axes = one.centers.shape[1]
        outside = (
            points_outside(one.centers, one.shape[-axes:]) if one.shape and len(one.shape) >= axes else None
        )
        if outside:
            texts.append(f"{name}: {outside}. Check the voxel size of the coordinates.")
    holds = flavor.traits.holds
    lost = [
        NAMED.get(name, name)
        for name in PER_PICK
        if name not in holds and any(getattr(one, name) is not None for one in picks)
    ]
    if "fractions" not in holds and any((one.centers != np.round(one.centers)).any() for one in picks):
        lost.append(NAMED["fractions"])
    held = held_columns(flavor)
    columns = [*dict.fromkeys(name for one in picks for name in one.columns if name not in held)]
    columns = [] if "columns" in holds else columns
    if lost or columns:
        words = ", ".join(filter(None, (", ".join(lost), _shown(columns))))
        texts.append(f"{source.name}: {flavor} cannot hold the following, which is lost: {words}.")
    for text in dict.fromkeys(texts):
        on_event(Warn(text=text))


def _shown(columns: list[str]) -> str:
    more = f" and {len(columns) - SHOWN} others" if len(columns) > SHOWN else ""
    return ", ".join(NAMED.get(name, name) for name in columns[:SHOWN]) + more


def _above(picks: Picks, threshold: float, source: Path) -> Picks:
    if picks.scores is None:
        raise InputError(f"{source}: holds no scores, which --score-threshold needs. Leave the option out.")
    return picks.take(picks.scores > threshold)
