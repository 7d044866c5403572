"""Write a volume with its logits, mask and picks as one HTML file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from cryoseg.config.segment import PostprocessStep, ViewConfig
from cryoseg.core.grids.axes import points_outside
from cryoseg.core.grids.binning import Factors, binned_shape
from cryoseg.core.masks.binarize import VoxelKind, voxel_kind
from cryoseg.errors import InputError
from cryoseg.events import Note, OnEvent, StageProgress, Warn, ignore, warn_of
from cryoseg.io.images.micrographs import is_single_image, read_micrograph
from cryoseg.io.images.pixel_size import with_pixel_size
from cryoseg.io.images.volumes import check_finite, improbable_voxel_size, read_mask, read_tomogram
from cryoseg.io.outputs import atomic_output
from cryoseg.io.picks.chimerax import Scene, write_markers, write_scene
from cryoseg.io.picks.frame import PickFrame
from cryoseg.io.picks.names import ImageName, match_names
from cryoseg.io.picks.picks import read_picks
from cryoseg.io.picks.sets import join_picks
from cryoseg.pipelines.segment.saved import recorded_steps, recorded_threshold
from cryoseg.pipelines.view.components import find_components
from cryoseg.pipelines.view.server import ViewMaterial, ViewSources, build_page
from cryoseg.types import Picks, Tomogram
from cryoseg.view.volume_page import render

LARGEST_BINNING = 16
# Compressed size of noise; the search for a binning starts from this estimate.
LEAST_PAGE_BYTES_PER_VOXEL = 0.8


@dataclass(frozen=True, kw_only=True)
class ViewResult:
    """A written page.

    Attributes
    ----------
    path
        File of the page.
    binning
        Binning factors (z, y, x).
    logit_step
        Step of the quantized logits; None without logits.
    megabytes
        Size of the file in megabytes.
    """

    path: Path
    binning: Factors
    logit_step: float | None
    megabytes: float


def write_view(
    sources: ViewSources,
    output: Path,
    config: ViewConfig | None = None,
    *,
    overwrite: bool = False,
    on_event: OnEvent = ignore,
) -> ViewResult:
    """Write a page, which is an .html file.

    Raises
    ------
    InputError
        If a file cannot be used or has another shape than the tomogram, or the page is too large.
    OutputError
        If the page exists or cannot be written.
    """
    config = config or ViewConfig()
    if output.suffix.lower() not in (".html", ".htm"):
        raise InputError(
            f"{output}: the page is an HTML file. Give a name that ends in .html, or in .cxc for ChimeraX."
        )
    material = _read(sources, config, on_event)
    shape = material.tomogram.data.shape
    limit = config.max_megabytes * 1e6
    first = config.binning or _first_binning(shape, limit)
    last = config.binning or LARGEST_BINNING
    with atomic_output(output, overwrite=overwrite) as temporary:
        for binning in range(first, last + 1):
            factors = (binning if shape[0] > 1 else 1, binning, binning)
            on_event(StageProgress(name=output.name, stage="packing", done=0, total=1, unit="pages"))
            page = build_page(sources, material, config, factors)
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
    step = page.parameters["logits"]["step"] if page.parameters["logits"] else None
    result = ViewResult(path=output, binning=factors, logit_step=step, megabytes=len(data) / 1e6)
    on_event(Note(text=f"{output}: {result.megabytes:.1f} MB, binning {binning}."))
    return result


def write_view_scene(
    sources: ViewSources,
    output: Path,
    config: ViewConfig | None = None,
    *,
    overwrite: bool = False,
    on_event: OnEvent = ignore,
) -> None:
    """Write a scene (.cxc) for ChimeraX; picks are written to a marker file beside it.

    The parameters and the errors are those of `write_view`.
    """
    config = config or ViewConfig()
    material = _read(sources, config, on_event)
    tomogram, markers = material.tomogram, None
    if material.picks is not None:
        markers = output.with_suffix(".cmm")
        diameter = config.pick_diameter_angstrom or (
            material.picks.diameter_px * tomogram.geometry.voxel_size[2]
        )
        write_markers(markers, material.picks, tomogram.geometry, diameter=diameter, overwrite=overwrite)
    is_labels = material.mask is not None and material.mask.data.max() > 1
    scene = Scene(
        tomogram=tomogram,
        logits=sources.logits,
        threshold=material.threshold,
        mask=None if is_labels else sources.mask,
        labels=sources.mask if is_labels else None,
        markers=markers,
    )
    write_scene(output, scene, output.parent, overwrite=overwrite)
    on_event(Note(text=f"{output}: open it in ChimeraX."))


def _first_binning(shape: tuple[int, ...], limit: float) -> int:
    binning = 1
    while binning < LARGEST_BINNING and (
        np.prod(binned_shape(shape, (binning if shape[0] > 1 else 1, binning, binning)))
        * LEAST_PAGE_BYTES_PER_VOXEL
        > limit
    ):
        binning += 1
    return binning


def _read(sources: ViewSources, config: ViewConfig, on_event: OnEvent) -> ViewMaterial:
    tomogram = _read_image(sources.tomogram, config, on_event)
    logits = mask = picks = components = None
    threshold = 0.0
    steps: tuple[PostprocessStep, ...] = ()
    if sources.logits is not None:
        logits = _read_fitting(sources.logits, tomogram, read_tomogram)
        check_finite(logits)
        kind = voxel_kind(logits.data)
        if kind is not VoxelKind.LOGITS:
            found = "a mask" if kind is VoxelKind.MASK else "labels"
            raise InputError(f"{sources.logits}: holds {found}, not logits. Pass it with --mask instead.")
        steps = recorded_steps(sources.logits)[0]
        if config.logit_threshold is None:
            threshold, origin = recorded_threshold(sources.logits)
            on_event(Note(text=f"The initial threshold is {threshold:g} ({origin})."))
        else:
            threshold = config.logit_threshold
    if sources.mask is not None:
        mask = _read_fitting(sources.mask, tomogram, partial(read_mask, mode0=config.mode0))
        if tomogram.data.shape[0] > 1:
            components = find_components(mask, sources.measures)
    elif sources.measures is not None:
        raise InputError(f"{sources.measures}: measures are shown with their mask. Pass --mask too.")
    if sources.picks is not None:
        picks = _read_picks(sources.picks, tomogram, on_event)
    return ViewMaterial(
        tomogram=tomogram,
        logits=logits,
        mask=mask,
        picks=picks,
        components=components,
        threshold=threshold,
        steps=steps,
    )


def _read_image(path: Path, config: ViewConfig, on_event: OnEvent) -> Tomogram:
    if is_single_image(path):
        image = read_micrograph(path, pixel_size=config.pixel_size, mode0=config.mode0)
        size = image.pixel_size
        geometry = replace(image.geometry, voxel_size=(size, size, size))
        tomogram = Tomogram(data=image.data[None], geometry=geometry, source=path, warnings=image.warnings)
    else:
        tomogram = read_tomogram(path, mode0=config.mode0)
        check_finite(tomogram)
        if config.pixel_size is not None:
            tomogram = with_pixel_size(tomogram, config.pixel_size)
        elif doubt := improbable_voxel_size(tomogram.geometry):
            on_event(Warn(text=f"{path.name}: {doubt}"))
    warn_of(path.name, tomogram.warnings, on_event)
    return tomogram


def _read_fitting(path: Path, tomogram: Tomogram, read: Callable[[Path], Tomogram]) -> Tomogram:
    volume = read(path)
    if volume.data.shape != tomogram.data.shape:
        found, wanted = (" x ".join(map(str, data.shape)) for data in (volume.data, tomogram.data))
        raise InputError(
            f"{path}: has {found} voxels (z, y, x), and {tomogram.source.name} has {wanted}. "
            "Give the file of this tomogram."
        )
    return volume


def _read_picks(path: Path, tomogram: Tomogram, on_event: OnEvent) -> Picks:
    shape = tomogram.data.shape
    is_flat = shape[0] == 1
    frame = PickFrame(voxel_size=tomogram.geometry.voxel_size[2], shape=shape[1:] if is_flat else shape)
    sets = read_picks(path, frame)
    keys = [ImageName(name, path) for name in sets]
    own = match_names(keys, [ImageName(str(tomogram.source), tomogram.source)])
    matching = [picks for picks, chosen in zip(sets.values(), own, strict=True) if chosen is not None]
    if matching:
        picks = join_picks(matching)
    elif len(sets) == 1:
        (picks,) = sets.values()
        if keys[0].name:
            text = f"{path}: holds picks of {keys[0].name}, which are shown on {tomogram.source.name}."
            on_event(Warn(text=text))
    else:
        example = ", ".join(list(sets)[:3])
        raise InputError(
            f"{path}: holds picks of {len(sets)} images ({example}, ...), and none is "
            f"{tomogram.source.name}. Give the picks of this tomogram."
        )
    for warning in picks.warnings:
        on_event(Warn(text=warning))
    if picks.centers.shape[1] == 2:
        if not is_flat:
            raise InputError(
                f"{path}: holds points without z, and {tomogram.source.name} is a volume. Give points with z."
            )
        centers = np.column_stack([np.zeros(len(picks)), picks.centers])
        picks = replace(picks, centers=centers)
    if outside := points_outside(picks.centers, shape):
        on_event(Warn(text=f"{path}: {outside}."))
    return picks
