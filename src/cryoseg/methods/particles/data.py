"""Find and read micrographs with labels for training."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryoseg.config import Mode0
from cryoseg.config.segment import Polarity
from cryoseg.core.grids.axes import check_labels
from cryoseg.core.grids.blank import find_blank_pixels
from cryoseg.core.grids.resample import nearest, resample_image, rescale_points
from cryoseg.core.grids.robust import CLIP, fill_by_mirror, particle_view, robust_map, view_shape
from cryoseg.core.picking.micrograph_picks import draw_discs, mask_centers
from cryoseg.errors import InputError
from cryoseg.events import OnEvent, Warn, ignore
from cryoseg.io.images.micrographs import MICROGRAPH_SUFFIXES, read_micrograph, read_warnings
from cryoseg.io.inputs import listed_pixel_sizes, resolve_inputs, stem
from cryoseg.io.pairs import find_labeled, first_folder
from cryoseg.io.picks.names import ImageName, distinct_names, match_names
from cryoseg.io.picks.picks import LISTED_SUFFIXES, read_picks
from cryoseg.methods.particles.samples import TrainingMicrograph
from cryoseg.types import Picks

TRAIN_FOLDERS, VALID_FOLDERS = ("train", "training_set"), ("valid", "val", "validation")
LEAST_DIAMETER_PX = 3.0
REMEDY = "`cryoseg convert --scale` converts"
_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class MicrographPair:
    """A micrograph and its labels: a mask, numbered particles, or coordinates.

    Attributes
    ----------
    name, image
        Name and file of the micrograph.
    mask
        File of the mask or of numbered particles, or None for coordinates.
    numbered
        Whether the values of `mask` are numbers of particles.
    centers
        (n, 2) y, x of particles in pixels, or None.
    polarity
        Polarity of the particles, or None if the data do not contain it.
    pixel_size
        Pixel size in angstrom that a list of the images gives, or None.
    diameter_px
        Diameter of the particles in pixels; None for that of the `ReadOptions`.
    border_px
        Width of the border without labels in pixels; None for that of the `ReadOptions`.
    warnings
        Warnings about the coordinates.
    """

    name: str
    image: Path
    mask: Path | None = None
    numbered: bool = False
    centers: NDArray[np.float64] | None = None
    polarity: Polarity | None = None
    pixel_size: float | None = None
    diameter_px: float | None = None
    border_px: int | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Settings for reading training micrographs.

    Attributes
    ----------
    particle_pixels
        Diameter to which particles are scaled, in pixels.
    diameter_px, diameter_angstrom
        Diameter of a particle in pixels of the file or in angstrom; if both are None, it is measured.
    pixel_size
        Pixel size in angstrom; None for that of the files.
    polarity
        Polarity of the particles where the data do not contain it.
    border_px
        Width in pixels of a border in which particles are not labeled; its background is unknown.
    core
        Diameter of the target discs in particle diameters; 1 keeps the labels unchanged.
    square
        Sides of the whole image and of its logits in pixels for training on whole micrographs, or None.
    mode0
        Type of the bytes of MRC files, signed or unsigned.
    """

    particle_pixels: float
    diameter_px: float | None = None
    diameter_angstrom: float | None = None
    pixel_size: float | None = None
    polarity: Polarity = Polarity.DARK
    border_px: int = 0
    core: float = 1.0
    square: tuple[int, int] | None = None
    mode0: Mode0 = Mode0.AUTO


def find_micrographs(
    sources: Sequence[str], picks: Sequence[Path] = ()
) -> tuple[list[MicrographPair], list[MicrographPair]]:
    """Find pairs for training, and those in folders for validation.

    A source is a folder or CSV list for `io.pairs.find_labeled`, or a folder with subfolders `train` and
    `valid`. With `picks`, the sources are images, folders and globs, and coordinate files
    name the image of every particle or carry the image's name themselves.
    """
    if picks:
        return _with_picks(sources, picks), []
    training: list[MicrographPair] = []
    held_out: list[MicrographPair] = []
    for source in map(Path, sources):
        if not source.exists():
            raise InputError(f"{source}: no such folder; give a folder with images and labels.")
        train, valid = (first_folder(source, names) for names in (TRAIN_FOLDERS, VALID_FOLDERS))
        training += _from_folder(train or source)
        held_out += _from_folder(valid) if train and valid else []
    return training, held_out


def _from_folder(folder: Path) -> list[MicrographPair]:
    return [
        MicrographPair(
            name=found.name,
            image=found.image,
            mask=found.labels,
            # As `cryoseg simulate micrographs` names images and labels that number the particles.
            numbered=stem(found.image).endswith("_micrograph") and stem(found.labels).endswith("_labels"),
            polarity=found.polarity,
        )
        for found in find_labeled(folder, kind="micrograph", suffixes=MICROGRAPH_SUFFIXES)
    ]


def _with_picks(sources: Sequence[str], picks: Sequence[Path]) -> list[MicrographPair]:
    files = resolve_inputs(picks, suffixes=LISTED_SUFFIXES)
    items = resolve_inputs(list(sources), suffixes=MICROGRAPH_SUFFIXES)
    for item in (*files, *items):
        if item.error is not None:
            raise InputError(item.error)
    images = [item.path for item in items if item.is_new]
    sizes = listed_pixel_sizes(items)
    sets = [
        (ImageName(name, file.path), found)
        for file in files
        if file.is_new
        for name, found in read_picks(file.path).items()
    ]
    own = match_names([name for name, _ in sets], [ImageName(str(path), path) for path in images])
    sets_of: defaultdict[int | None, list[Picks]] = defaultdict(list)
    for chosen, (_, found) in zip(own, sets, strict=True):
        sets_of[chosen].append(found)
    pairs, missing = [], []
    for index, (image, name) in enumerate(zip(images, distinct_names(images, bare=True), strict=True)):
        parts = sets_of[index]
        if sum(map(len, parts)):
            centers = np.concatenate([found.centers[:, -2:] for found in parts])
            warnings = tuple(dict.fromkeys(text for found in parts for text in found.warnings))
            pairs.append(
                MicrographPair(
                    name=name, image=image, centers=centers, pixel_size=sizes.get(image), warnings=warnings
                )
            )
        else:
            missing.append(image.name)
    if missing or not pairs:
        named = ", ".join(dict.fromkeys(name.text for name, _ in sets[:_SHOWN])) or "nothing"
        shown = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
        raise InputError(
            f"{picks[0]}: has no coordinates for {len(missing)} images ({shown}); the coordinate files name "
            f"{named}. Give the images that were picked, or files of their names."
        )
    return pairs


def labelled_diameter(labels: NDArray[np.integer[Any]], *, numbered: bool) -> float:
    """Measure the diameter of the particles in (y, x) labels in pixels; 0.0 without particles.

    For numbered particles it is the diameter of a disc of their median area. In a mask, where discs touch,
    it is twice the median over components of the largest distance to the background.
    """
    if numbered:
        _, areas = np.unique(labels[labels > 0], return_counts=True)
        return float(2 * np.sqrt(np.median(areas) / np.pi)) if len(areas) else 0.0
    depth = ndimage.distance_transform_edt(np.pad(labels > 0, 1))
    components, count = ndimage.label(depth > 0)
    if not count:
        return 0.0
    deepest = ndimage.maximum(depth, components, np.arange(1, count + 1))
    return float(2 * np.median(deepest))


def load_micrograph(
    pair: MicrographPair, options: ReadOptions, *, on_event: OnEvent = ignore
) -> tuple[TrainingMicrograph, float]:
    """Read one pair at the scale of the network, and the diameter of a particle in pixels of the file.

    `on_event` receives warnings about the files. An `InputError` is raised if labels and image differ in
    shape, no particle is labeled, many labels lie outside the image, or the diameter does not fit the
    image.
    """
    micrograph = read_micrograph(
        pair.image, pixel_size=options.pixel_size or pair.pixel_size, mode0=options.mode0
    )
    image = micrograph.data
    needs_pixel_size = options.diameter_angstrom is not None
    for text in (*pair.warnings, *read_warnings(micrograph, needs_pixel_size=needs_pixel_size)):
        on_event(Warn(text=text))
    blank = find_blank_pixels(image)
    if blank is not None and blank.all():
        raise InputError(f"{pair.image}: every pixel has the same value; leave this micrograph out.")
    if blank is not None:
        image = fill_by_mirror(image, blank)
    native = _native_labels(pair, image.shape, options.mode0)
    empty = f"{pair.mask or pair.image}: no particle is labelled; leave this micrograph out."
    if native is not None and not (native > 0).any():
        raise InputError(empty)
    diameter = pair.diameter_px or options.diameter_px
    if diameter is None and options.diameter_angstrom is not None:
        if not micrograph.pixel_size:
            raise InputError(f"{pair.image}: gives no pixel size. Pass --pixel-size in angstrom.")
        diameter = options.diameter_angstrom / micrograph.pixel_size
    if diameter is None and native is not None:
        diameter = labelled_diameter(native, numbered=pair.numbered)
    if diameter is None:
        raise InputError(f"{pair.image}: coordinates need --particle-diameter or --particle-diameter-px.")
    if not LEAST_DIAMETER_PX <= diameter <= min(image.shape):
        raise InputError(
            f"{pair.image}: a particle diameter of {diameter:g} px does not fit an image of "
            f"{image.shape[1]} x {image.shape[0]} px; check --particle-diameter and --pixel-size."
        )
    height, width = image.shape
    scaling = {"diameter_px": diameter, "particle_pixels": options.particle_pixels}
    shape = view_shape((height, width), **scaling)
    invert = (pair.polarity or options.polarity) is Polarity.BRIGHT
    grey = particle_view(image, **scaling, invert=invert)
    scale = np.array(shape) / (height, width)
    if native is None:
        assert pair.centers is not None
        points, warning = check_labels(pair.centers, image.shape, name=str(pair.image), remedy=REMEDY)
        if warning:
            on_event(Warn(text=warning))
        centers = rescale_points(points, scale)
        labels = draw_discs(centers, shape, diameter_px=options.core * options.particle_pixels)
    else:
        numbers = native if pair.numbered else ndimage.label(native)[0]
        labels = nearest(numbers, shape).astype(np.int32)
        centers = _centers(labels, pair, options.particle_pixels)
        if options.core < 1:
            discs = draw_discs(centers, shape, diameter_px=options.core * options.particle_pixels)
            labels = np.where(labels < 0, labels, discs)
    if not (labels > 0).any():
        raise InputError(empty)
    border = options.border_px if pair.border_px is None else pair.border_px
    frame = round(border * float(scale.mean()))
    if frame:
        inner = np.zeros(shape, bool)
        inner[frame : shape[0] - frame, frame : shape[1] - frame] = True
        labels[~inner & (labels == 0)] = -1
    if blank is not None:
        labels[nearest(blank, shape) & (labels == 0)] = -1
    square = square_labels = None
    if options.square is not None:
        square, square_labels = _as_square(image, native, pair, diameter, options.square, invert)
    loaded = TrainingMicrograph(
        name=pair.name,
        grey=grey.astype(np.float16),
        labels=labels,
        centers=centers,
        square=square,
        square_labels=square_labels,
    )
    return loaded, diameter


def _centers(labels: NDArray[np.int32], pair: MicrographPair, particle_pixels: float) -> NDArray[np.float64]:
    """Return (n, 2) centers y, x of numbered particles or of the discs of a mask."""
    if pair.numbered:
        present = np.unique(labels[labels > 0])
        return np.array(ndimage.center_of_mass(labels > 0, labels, present)).reshape(-1, 2)
    return mask_centers(labels > 0, diameter_px=particle_pixels)


def _native_labels(pair: MicrographPair, shape: tuple[int, ...], mode0: Mode0) -> NDArray[np.int32] | None:
    if pair.mask is None:
        return None
    values = read_micrograph(pair.mask, mode0=mode0).data
    if values.shape != shape:
        raise InputError(
            f"{pair.mask}: is {values.shape[1]} x {values.shape[0]} px, its image {shape[1]} x {shape[0]}; "
            "labels must have the size of the image."
        )
    if pair.numbered:
        return np.asarray(values, np.int32)
    # Masks in JPEG files have values between black and white.
    return np.asarray(values > values.max() / 2, np.int32) if values.max() > 0 else values.astype(np.int32)


def _as_square(
    image: NDArray[np.float32],
    native: NDArray[np.int32] | None,
    pair: MicrographPair,
    diameter: float,
    sides: tuple[int, int],
    invert: bool,
) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
    """Resize a micrograph to a square RGB image in [0, 1], and its labels to a soft mask.

    Source: yangyang-69/Prompt_sam_cryoPPP notebooks/dataset.py@d4f8b28, which uses three different filters.
    """
    if native is None:
        assert pair.centers is not None
        native = draw_discs(pair.centers, (image.shape[0], image.shape[1]), diameter_px=diameter)
    eight_bit = image.min() >= 0 and image.max() <= 255 and not invert
    unit = image / 255 if eight_bit else robust_map(image, invert=invert)(image) / (2 * CLIP) + 0.5
    small = resample_image(unit, (sides[0], sides[0])).clip(0, 1).astype(np.float16)
    labels = resample_image((native > 0).astype(np.float32), (sides[1], sides[1])).astype(np.float16)
    return np.repeat(small[None], 3, axis=0), labels
