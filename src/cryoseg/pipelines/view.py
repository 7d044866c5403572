"""`cryoseg view`: a volume with its logits, mask and picks in one HTML file."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cryoseg import __version__
from cryoseg.config.view import ViewConfig
from cryoseg.core.binarize import VoxelKind, voxel_kind
from cryoseg.core.binning import (
    Factors,
    Greys,
    bin_mask,
    bin_volume,
    binned_shape,
    logit_step,
    quantize_logits,
    to_greys,
)
from cryoseg.errors import InputError
from cryoseg.io.inputs import is_known_suffix, stem
from cryoseg.io.micrographs import PICTURE_SUFFIXES, TIFF_SUFFIXES, read_micrograph
from cryoseg.io.mrc_header import build_header
from cryoseg.io.outputs import atomic_output
from cryoseg.io.pick_frame import PickFrame
from cryoseg.io.picks import read_picks
from cryoseg.io.volumes import check_finite, improbable_voxel_size, made_by, read_mask, read_tomogram
from cryoseg.pipelines.events import Note, OnEvent, StageProgress, Warn, ignore
from cryoseg.pipelines.postprocess import recorded_threshold
from cryoseg.types import Geometry, Picks, Tomogram
from cryoseg.view.volume_page import VolumePage, render

LARGEST_BINNING = 16
MARKED_SHARE = 0.25  # of a block; membranes are thin, and half a block would lose them
CONTRAST_PERCENTILES = (1.0, 99.0)
# A tomogram's noise leaves gzip little to save; from this estimate the search for a binning begins.
LEAST_PAGE_BYTES_PER_VOXEL = 0.8
UNKNOWN_DENSITY = (0.0, -1.0, -2.0, -1.0)  # MRC2014's sign for statistics that nobody computed


@dataclass(frozen=True, kw_only=True)
class ViewSources:
    """The files of one page.

    Attributes
    ----------
    tomogram
        Volume, micrograph or picture.
    logits, mask, picks
        Of the same grid; None leaves them out.
    """

    tomogram: Path
    logits: Path | None = None
    mask: Path | None = None
    picks: Path | None = None


@dataclass(frozen=True, kw_only=True)
class ViewResult:
    """What was written.

    Attributes
    ----------
    path
        The page.
    binning
        (z, y, x).
    logit_step
        Of the quantized logits; None without logits.
    megabytes
        Size of the page.
    """

    path: Path
    binning: Factors
    logit_step: float | None
    megabytes: float


@dataclass(frozen=True, kw_only=True)
class _Material:
    """Everything at full size."""

    tomogram: Tomogram
    logits: Tomogram | None
    mask: Tomogram | None
    picks: Picks | None
    threshold: float


def write_view(
    sources: ViewSources,
    output: Path,
    config: ViewConfig | None = None,
    *,
    overwrite: bool = False,
    on_event: OnEvent = ignore,
) -> ViewResult:
    """Write the page.

    Parameters
    ----------
    sources
        What to show.
    output
        Ends in .html.
    config
        Settings.
    overwrite
        Replace an existing page.
    on_event
        Told warnings and progress.

    Raises
    ------
    InputError
        If a file cannot be used or does not fit the tomogram, or the page would be too large.
    OutputError
        If the page exists or cannot be written.
    """
    config = config or ViewConfig()
    if output.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{output}: the page is HTML. Give a name that ends in .html.")
    material = _read(sources, config, on_event)
    shape = material.tomogram.data.shape
    limit = config.max_megabytes * 1e6
    first = config.binning or _first_binning(shape, limit)
    last = config.binning or LARGEST_BINNING
    with atomic_output(output, overwrite=overwrite) as temporary:
        for binning in range(first, last + 1):
            factors = (binning if shape[0] > 1 else 1, binning, binning)
            on_event(StageProgress(name=output.name, stage="packing", done=0, total=1, unit="pages"))
            page = _page(sources, material, config, factors)
            data = render(page).encode("utf-8")
            if len(data) <= limit:
                temporary.write_bytes(data)
                break
        else:
            raise InputError(
                f"{sources.tomogram}: the page would have {len(data) / 1e6:.0f} MB at a binning of {last}, "
                f"and {config.max_megabytes:g} are allowed. Pass --bin {last + 1} or a larger "
                "--max-megabytes."
            )
    on_event(StageProgress(name=output.name, stage="packing", done=1, total=1, unit="pages"))
    step = page.facts["logits"]["step"] if page.facts["logits"] else None
    result = ViewResult(path=output, binning=factors, logit_step=step, megabytes=len(data) / 1e6)
    on_event(Note(text=f"{output}: {result.megabytes:.1f} MB, binning {binning}."))
    return result


def _first_binning(shape: tuple[int, ...], limit: float) -> int:
    binning = 1
    while binning < LARGEST_BINNING and (
        np.prod(binned_shape(shape, (binning if shape[0] > 1 else 1, binning, binning)))
        * LEAST_PAGE_BYTES_PER_VOXEL
        > limit
    ):
        binning += 1
    return binning


def _read(sources: ViewSources, config: ViewConfig, on_event: OnEvent) -> _Material:
    tomogram = _read_image(sources.tomogram, config, on_event)
    logits = mask = picks = None
    threshold = 0.0
    if sources.logits is not None:
        logits = _read_fitting(sources.logits, tomogram, read_tomogram)
        check_finite(logits)
        kind = voxel_kind(logits.data)
        if kind is not VoxelKind.LOGITS:
            raise InputError(f"{sources.logits}: holds a {kind}, not logits. Pass it with --mask instead.")
        if config.logit_threshold is None:
            threshold, origin = recorded_threshold(sources.logits)
            on_event(Note(text=f"The threshold begins at {threshold:g} ({origin})."))
        else:
            threshold = config.logit_threshold
    if sources.mask is not None:
        mask = _read_fitting(sources.mask, tomogram, read_mask)
    if sources.picks is not None:
        picks = _read_picks(sources.picks, tomogram)
    return _Material(tomogram=tomogram, logits=logits, mask=mask, picks=picks, threshold=threshold)


def _read_image(path: Path, config: ViewConfig, on_event: OnEvent) -> Tomogram:
    if is_known_suffix(path, (*TIFF_SUFFIXES, *PICTURE_SUFFIXES)):
        image = read_micrograph(path, pixel_size=config.pixel_size)
        size = image.pixel_size
        geometry = replace(image.geometry, voxel_size=(size, size, size))
        tomogram = Tomogram(data=image.data[None], geometry=geometry, source=path, warnings=image.warnings)
    else:
        tomogram = read_tomogram(path)
        check_finite(tomogram)
        if config.pixel_size is not None:
            geometry = replace(tomogram.geometry, voxel_size=(config.pixel_size,) * 3)
            tomogram = replace(tomogram, geometry=geometry)
        elif doubt := improbable_voxel_size(tomogram.geometry):
            on_event(Warn(text=f"{path.name}: {doubt}"))
    for warning in tomogram.warnings:
        on_event(Warn(text=f"{path.name}: {warning}"))
    return tomogram


def _read_fitting(path: Path, tomogram: Tomogram, read: Callable[[Path], Tomogram]) -> Tomogram:
    volume = read(path)
    if volume.data.shape != tomogram.data.shape:
        found, wanted = (" x ".join(map(str, data.shape)) for data in (volume.data, tomogram.data))
        raise InputError(
            f"{path}: has {found} voxels (z, y, x), and {tomogram.source.name} has {wanted}. "
            "Give what belongs to this tomogram."
        )
    return volume


def _read_picks(path: Path, tomogram: Tomogram) -> Picks:
    shape = tomogram.data.shape
    is_flat = shape[0] == 1
    frame = PickFrame(voxel_size=tomogram.geometry.voxel_size[2], shape=shape[1:] if is_flat else shape)
    sets = read_picks(path, frame)
    names = {tomogram.source.name, stem(tomogram.source), tomogram.source.as_posix()}
    matching = [name for name in sets if name in names or stem(Path(name)) == stem(tomogram.source)]
    if matching:
        picks = sets[matching[0]]
    elif len(sets) == 1:
        (picks,) = sets.values()
    elif not sets:
        picks = Picks(centers=np.empty((0, 3)))
    else:
        example = ", ".join(list(sets)[:3])
        raise InputError(
            f"{path}: holds picks of {len(sets)} images ({example}, ...), and none is "
            f"{tomogram.source.name}. Give the picks of this tomogram."
        )
    if picks.centers.shape[1] == 2:
        if not is_flat:
            raise InputError(f"{path}: holds points without a z, and {tomogram.source.name} is a volume.")
        centers = np.column_stack([np.zeros(len(picks)), picks.centers])
        picks = replace(picks, centers=centers)
    return picks


def _page(sources: ViewSources, material: _Material, config: ViewConfig, factors: Factors) -> VolumePage:
    tomogram = material.tomogram
    geometry = tomogram.geometry
    size_z, size_y, size_x = (
        size * factor for size, factor in zip(geometry.voxel_size, factors, strict=True)
    )
    # Corners coincide, and the origin names the corner.
    page_geometry = replace(geometry, voxel_size=(size_z, size_y, size_x), start=(0, 0, 0))
    greys = to_greys(bin_volume(tomogram.data, factors))
    volumes: dict[str, Any] = {"tomogram": greys.data}
    blobs: dict[str, bytes] = {}
    logit_facts = step = None
    if material.logits is not None:
        assert sources.logits is not None
        binned = bin_volume(material.logits.data, factors)
        step = logit_step(binned)
        volumes["logits"] = quantize_logits(binned, step)
        blobs = _headers(greys.data.shape, page_geometry)
        name = stem(sources.logits)
        logit_facts = {
            "step": step,
            "threshold": material.threshold,
            "command": f"cryoseg postprocess {_quoted(sources.logits)}",
            "into": "-o filtered",
            "logitsName": f"{name}_binned.mrc",
            "maskName": f"{name}_binned_mask.mrc",
        }
    if material.mask is not None:
        marked = bin_mask(_Marked(material.mask), factors, share=MARKED_SHARE)
        volumes["mask"] = marked.view(np.uint8)
    facts = {
        "title": sources.tomogram.name,
        "made": f"cryoseg {__version__} view",
        "shape": greys.data.shape,
        "fileShape": tomogram.data.shape,
        "binning": factors,
        "voxelSize": geometry.voxel_size,
        "grey": {"low": greys.low, "step": greys.step},
        "contrast": _contrast(greys),
        "minSlices": min(config.min_slices, tomogram.data.shape[0]),
        "logits": logit_facts,
        "mask": None if sources.mask is None else {"name": sources.mask.name},
        "picks": _pick_facts(sources, material, config),
        "notes": _notes(material, factors, greys, step),
    }
    return VolumePage(title=f"{sources.tomogram.name} · cryoseg", facts=facts, volumes=volumes, blobs=blobs)


class _Marked:
    """A label volume, read slice by slice as 0 and 1."""

    def __init__(self, labels: Tomogram) -> None:
        self._labels = labels.data
        self.shape = labels.data.shape

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, z: int) -> Any:
        return self._labels[z] > 0


def _headers(shape: tuple[int, ...], geometry: Geometry) -> dict[str, bytes]:
    depth, height, width = shape
    label = made_by("view")
    return {
        f"{name}-header": build_header(
            (depth, height, width), mode=mode, geometry=geometry, density=UNKNOWN_DENSITY, label=label
        )
        for name, mode in (("logits", 2), ("mask", 0))
    }


def _contrast(greys: Greys) -> dict[str, int]:
    black, white = (round(float(v)) for v in np.percentile(greys.data, CONTRAST_PERCENTILES))
    return {"black": black, "white": max(white, black + 1)}


def _pick_facts(sources: ViewSources, material: _Material, config: ViewConfig) -> dict[str, Any] | None:
    picks = material.picks
    if picks is None or sources.picks is None:
        return None
    sizes = material.tomogram.geometry.voxel_size
    diameter = [picks.diameter_px] * 3 if picks.diameter_px > 0 else None
    if config.pick_diameter_angstrom is not None:
        if min(sizes) <= 0:
            raise InputError(
                f"{sources.tomogram}: the header gives no voxel size, and --pick-diameter is in angstrom. "
                "Pass --pixel-size too."
            )
        diameter = [config.pick_diameter_angstrom / size for size in sizes]
    chosen = sources.picks.with_name(f"{stem(sources.picks, (sources.picks.suffix,))}_chosen.star")
    return {
        "centers": [[round(float(v), 3) for v in center] for center in picks.centers],
        "scores": None if picks.scores is None else [round(float(v), 6) for v in picks.scores],
        "diameter": diameter,
        "score": 0.0,
        "command": f"cryoseg convert {_quoted(sources.picks)} {_quoted(chosen)} "
        f"--tomogram {_quoted(sources.tomogram)}",
    }


def _notes(material: _Material, factors: Factors, greys: Greys, step: float | None) -> list[str]:
    shape = material.tomogram.data.shape
    size = " x ".join(str(n) for n in reversed(shape))
    if max(factors) == 1:
        notes = [f"Binning 1: the {size} voxels (x, y, z) of the file."]
    else:
        blocks = " x ".join(str(n) for n in reversed(factors))
        notes = [f"Binning {blocks} (x, y, z): means of blocks of the file's {size} voxels."]
    notes.append(f"Grey values in steps of {greys.step:.3g}; black and white in the file's units.")
    if step is not None:
        notes.append(
            f"Logits are quantized in steps of {step:g}, rounded up, so that a threshold that is a multiple "
            f"of the step marks what it would mark without rounding. Beyond {-128 * step:g} and "
            f"{127 * step:g} they are cut off."
        )
        if factors[0] > 1:
            notes.append(
                f"The minimum of slices counts the file's; this page divides it by {factors[0]}, rounded up."
            )
        if max(factors) > 1:
            notes.append("The command works on the whole file, where thin membranes are not averaged.")
    if material.mask is not None and max(factors) > 1:
        notes.append("The mask is marked where at least a quarter of a block is.")
    if 0.0 in material.tomogram.geometry.voxel_size:
        notes.append("The voxel size is not known, so that there is no scale.")
    else:
        notes.append("Positions count from 0 at the center of the first voxel.")
    return notes


def _quoted(path: Path) -> str:
    """For a shell, and safe where the name looks like an option."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)
