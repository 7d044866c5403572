"""Build the page of `cryoseg view`: binned volumes, and the values that its script needs."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cryoseg import __version__
from cryoseg.config.segment import PostprocessLengths, PostprocessStep, ViewConfig
from cryoseg.core.grids.binning import (
    Factors,
    Greys,
    bin_mask,
    bin_volume,
    logit_step,
    quantize_logits,
    to_greys,
)
from cryoseg.core.grids.blank import signal_values
from cryoseg.errors import InputError
from cryoseg.io.images.mrc_output import build_header
from cryoseg.io.images.volumes import made_by
from cryoseg.io.inputs import stem
from cryoseg.pipelines.view.components import MARKED_SHARE, Components, Marked, bin_labels
from cryoseg.types import Geometry, Picks, Tomogram
from cryoseg.view.volume_page import VolumePage

CONTRAST_PERCENTILES = (1.0, 99.0)
UNKNOWN_DENSITY = (0.0, -1.0, -2.0, -1.0)  # MRC2014: the statistics were not computed


@dataclass(frozen=True, kw_only=True)
class ViewSources:
    """Files of one page.

    Attributes
    ----------
    tomogram
        Volume, micrograph or picture.
    logits, mask, picks
        Files on the same grid; None leaves them out.
    measures
        Table of `cryoseg measure` for the mask.
    """

    tomogram: Path
    logits: Path | None = None
    mask: Path | None = None
    picks: Path | None = None
    measures: Path | None = None


@dataclass(frozen=True, kw_only=True)
class ViewMaterial:
    """Content of the files of one page.

    Attributes
    ----------
    tomogram, logits, mask, picks
        Volumes (z, y, x) of the same shape, and picks in three dimensions.
    components
        Components of the mask; None without a mask, or for a single image.
    threshold
        Initial logit threshold.
    steps
        Post-processing steps of the record of the logits.
    """

    tomogram: Tomogram
    logits: Tomogram | None
    mask: Tomogram | None
    picks: Picks | None
    components: Components | None
    threshold: float
    steps: tuple[PostprocessStep, ...] = ()


def build_page(
    sources: ViewSources, material: ViewMaterial, config: ViewConfig, factors: Factors
) -> VolumePage:
    """Bin volumes by factors (z, y, x), quantize them, and build the page.

    Raises
    ------
    InputError
        If the diameter of picks is in angstrom and the voxel size is unknown.
    """
    tomogram = material.tomogram
    geometry = tomogram.geometry
    size_z, size_y, size_x = (
        size * factor for size, factor in zip(geometry.voxel_size, factors, strict=True)
    )
    # Binning keeps the corner of the volume, which the origin gives.
    page_geometry = replace(geometry, voxel_size=(size_z, size_y, size_x), start=(0, 0, 0))
    greys = to_greys(bin_volume(tomogram.data, factors))
    volumes: dict[str, Any] = {"tomogram": greys.data}
    blobs: dict[str, bytes] = {}
    logit_entry = step = None
    if material.logits is not None:
        assert sources.logits is not None
        binned = bin_volume(material.logits.data, factors)
        step = logit_step(binned)
        volumes["logits"] = quantize_logits(binned, step)
        blobs = _headers(greys.data.shape, page_geometry)
        name = stem(sources.logits)
        logit_entry = {
            "step": step,
            "threshold": material.threshold,
            "steps": material.steps,
            "command": f"cryoseg postprocess {_quoted(sources.logits)}",
            "into": "-o filtered",
            "logitsName": f"{name}_binned.mrc",
            "maskName": f"{name}_binned_mask.mrc",
        }
    if material.components is not None:
        volumes["mask"] = bin_labels(material.components.objects.labels, factors)
    elif material.mask is not None:
        marked = bin_mask(Marked(material.mask.data), factors, share=MARKED_SHARE)
        volumes["mask"] = marked.view(np.uint8)
    parameters = {
        "title": sources.tomogram.name,
        "made": f"cryoseg {__version__} view",
        "shape": greys.data.shape,
        "fileShape": tomogram.data.shape,
        "binning": factors,
        "voxelSize": geometry.voxel_size,
        "grey": {"low": greys.low, "step": greys.step},
        "contrast": _contrast(greys),
        "minSlices": min(config.min_slices or _first_min_slices(material), tomogram.data.shape[0]),
        "logits": logit_entry,
        "mask": _mask_entry(sources, material),
        "picks": _pick_entry(sources, material, config),
        "notes": _notes(material, factors, greys, step),
    }
    return VolumePage(
        title=f"{sources.tomogram.name} · cryoseg", parameters=parameters, volumes=volumes, blobs=blobs
    )


def _first_min_slices(material: ViewMaterial) -> int:
    """Return the minimum number of slices with which the page begins; 1 keeps every component."""
    filters = material.logits is None or PostprocessStep.THIN_NOISE in material.steps
    return PostprocessLengths.min_slices if filters else 1


def _mask_entry(sources: ViewSources, material: ViewMaterial) -> dict[str, Any] | None:
    if sources.mask is None:
        return None
    if material.components is None:
        return {"name": sources.mask.name, "components": None}
    path = _quoted(sources.mask)
    is_mask = material.components.is_mask
    return {
        "name": sources.mask.name,
        "components": material.components.entry(),
        "command": f"cryoseg postprocess {path} --no-steps"
        if is_mask
        else f"cryoseg measure {path} --labels",
        "into": "-o chosen",
    }


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
    black, white = (round(float(v)) for v in np.percentile(signal_values(greys.data), CONTRAST_PERCENTILES))
    return {"black": black, "white": max(white, black + 1)}


def _pick_entry(sources: ViewSources, material: ViewMaterial, config: ViewConfig) -> dict[str, Any] | None:
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


def _notes(material: ViewMaterial, factors: Factors, greys: Greys, step: float | None) -> list[str]:
    shape = material.tomogram.data.shape
    size = " x ".join(str(n) for n in reversed(shape))
    if max(factors) == 1:
        notes = [f"Binning 1: the {size} voxels (x, y, z) of the file."]
    else:
        blocks = " x ".join(str(n) for n in reversed(factors))
        notes = [f"Binning {blocks} (x, y, z): means of blocks of the {size} voxels of the file."]
    notes.append(f"Grey values in steps of {greys.step:.3g}; black and white in the units of the file.")
    if step is not None:
        notes.append(
            f"Logits are quantized in steps of {step:g}, rounded up, so that thresholds that are multiples "
            f"of the step give the same mask as without rounding. They are clipped to {-128 * step:g} and "
            f"{127 * step:g}."
        )
        if PostprocessStep.BRIDGES in material.steps:
            notes.append("The step bridges is applied by the command, not on the page.")
        if factors[0] > 1:
            notes.append(f"The page divides the minimum number of slices by {factors[0]}, rounded up.")
        if max(factors) > 1:
            notes.append(
                "The command uses the file without binning, in which thin membranes are not averaged."
            )
    if material.mask is not None and max(factors) > 1:
        notes.append("A block is marked if at least a quarter of its voxels is.")
    if 0.0 in material.tomogram.geometry.voxel_size:
        notes.append("The voxel size is unknown, so there is no scale bar.")
    else:
        notes.append("Positions count from 0 at the center of the first voxel.")
    return notes


def _quoted(path: Path) -> str:
    """Quote a path for a shell, also if it begins like an option."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)
